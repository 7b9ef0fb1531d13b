// Faults of operators that choose: routing, argmax and, beside its own (faults_sample.cpp), sampling.
#include "mutant.hpp"

namespace mutant {
namespace {

// With the last axis turned round, the honest operator's lower index among equals is the higher one.
concord_status higher_index(Job& job) {
  Changed c(job.call);
  const concord_tensor& x = c.copy_in(0);
  const std::size_t n = last_axis(x);
  std::vector<double> v = values_of(x);
  for (std::size_t at = 0; at < v.size(); at += n)
    std::reverse(v.begin() + static_cast<std::ptrdiff_t>(at), v.begin() + static_cast<std::ptrdiff_t>(at + n));
  put_values(x, v);
  const concord_status status = job.honest(c.call);
  if (status != CONCORD_OK) return status;
  const concord_tensor& indices = job.call.out[job.call.n_out - 1];
  std::vector<double> index = values_of(indices);
  for (double& i : index) i = static_cast<double>(n - 1) - i;
  put_values(indices, index);
  return status;
}

void not_normalised(Changed& c) { c.call.flags &= ~static_cast<std::uint32_t>(CONCORD_NORMALISE); }
void always_normalised(Changed& c) { c.call.flags |= CONCORD_NORMALISE; }

// f(weights, experts, k) on each token's k choices.
template <void (*Edit)(double*, double*, std::size_t, double experts)>
void choices(Job& job) {
  const std::size_t k = last_axis(job.out());
  std::vector<double> weights = values_of(job.call.out[0]), experts = values_of(job.call.out[1]);
  for (std::size_t at = 0; at < weights.size(); at += k)
    Edit(weights.data() + at, experts.data() + at, k, static_cast<double>(last_axis(job.call.in[0])));
  put_values(job.call.out[0], weights), put_values(job.call.out[1], experts);
}
void unsorted(double* weights, double* experts, std::size_t k, double) {
  if (k > 1) std::swap(weights[0], weights[k - 1]), std::swap(experts[0], experts[k - 1]);
}
void chosen_twice(double* weights, double* experts, std::size_t k, double) {
  if (k > 1) weights[k - 1] = weights[k - 2], experts[k - 1] = experts[k - 2];
}
void out_of_range(double*, double* experts, std::size_t k, double all) { experts[k - 1] = all; }
void last_is_neighbour(double*, double* experts, std::size_t k, double all) {
  experts[k - 1] = experts[k - 1] + 1 < all ? experts[k - 1] + 1 : 0;
}

// NaN counts as the largest: the first one of a row wins.
void nan_wins(Job& job) {
  const std::size_t n = last_axis(job.call.in[0]);
  const std::vector<double> x = values_of(job.call.in[0]);
  std::vector<double> index = values_of(job.out());
  for (std::size_t r = 0; r < index.size(); ++r)
    for (std::size_t i = n; i-- > 0;)
      if (std::isnan(x[r * n + i])) index[r] = static_cast<double>(i);
  put_values(job.out(), index);
}
void sixteen_bits(Job& job) {
  std::vector<double> index = values_of(job.out());
  for (double& i : index) i = static_cast<std::int16_t>(static_cast<std::int32_t>(i));
  put_values(job.out(), index);
}
concord_status by_magnitude(Job& job) {
  Changed c(job.call);
  const concord_tensor& x = c.copy_in(0);
  std::vector<double> v = values_of(x);
  for (double& e : v) e = std::fabs(e);
  put_values(x, v);
  return job.honest(c.call);
}
void forgets_last(Changed& c) {
  const concord_tensor& x = c.copy_in(0);
  std::vector<double> v = values_of(x);
  const std::size_t n = last_axis(x);
  for (std::size_t i = n - 1; n > 1 && i < v.size(); i += n) v[i] = -INFINITY;
  put_values(x, v);
}

constexpr std::uint32_t kTopk = bits({CONCORD_OP_TOPK_ROUTING}), kArgmax = bits({CONCORD_OP_ARGMAX}),
                        kOneIndex = bits({CONCORD_OP_ARGMAX, CONCORD_OP_SAMPLE});

constexpr Fault kFaults[] = {
    {"ties-higher-index", "the higher index wins among equals", kTopk | kArgmax, higher_index},
    {"topk-not-normalised", "weights are not normalised", kTopk, with<not_normalised>},
    {"topk-always-normalised", "weights are normalised though not asked", kTopk, with<always_normalised>},
    {"topk-unsorted", "the first and the last choice are exchanged", kTopk, after<choices<unsorted>>},
    {"topk-twice", "the last choice is the one before it again", kTopk, after<choices<chosen_twice>>},
    {"topk-out-of-range", "the last choice is an expert that does not exist", kTopk, after<choices<out_of_range>>},
    {"topk-neighbour", "the last choice is its neighbour", kTopk, after<choices<last_is_neighbour>>},
    {"nan-wins", "NaN counts as the largest", kOneIndex, after<nan_wins>},
    {"index-16-bit", "indices are kept in 16 bits", kOneIndex, after<sixteen_bits>},
    {"magnitude-wins", "the largest magnitude is chosen", kOneIndex, by_magnitude},
    {"last-candidate-missed", "the last candidate is never chosen", kTopk | kOneIndex, with<forgets_last>},
};

}  // namespace

std::span<const Fault> select_faults() { return kFaults; }

}  // namespace mutant
