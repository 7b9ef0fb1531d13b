// Softmax over the last axis, routing to the k largest experts, the index of the largest value, and sampling.
#include "abi/concord_sample.hpp"
#include "ops.hpp"

namespace reference {
namespace {

void softmax_of(std::vector<double>& v) {
  const double largest = *std::max_element(v.begin(), v.end());
  Sum total;
  for (double& e : v) total.add(e = std::exp(e - largest));
  for (double& e : v) e /= total.value();
}

}  // namespace

concord_status softmax(const concord_call& call, concord_error*) {
  const std::size_t rows = dim(call.in[0], 0), n = dim(call.in[0], 1);
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(call.in[0], r, n, v.data());
    softmax_of(v);
    store_row(call.out[0], r, n, v.data());
  });
  return CONCORD_OK;
}

// Experts in falling order of their logit, the lower index first among equals (softmax keeps the order, but its
// rounding may tie).
concord_status topk_routing(const concord_call& call, concord_error*) {
  const std::size_t rows = dim(call.in[0], 0), n = dim(call.in[0], 1), k = dim(call.out[0], 1);
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(call.in[0], r, n, v.data());
    std::vector<std::int32_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return concord_abi::before(v[std::size_t(a)], v[std::size_t(b)]); });
    softmax_of(v);
    Sum total;
    for (std::size_t i = 0; i < k; ++i) total.add(v[static_cast<std::size_t>(order[i])]);
    const double divisor = call.flags & CONCORD_NORMALISE ? total.value() : 1.0;
    for (std::size_t i = 0; i < k; ++i) {
      const double weight = v[static_cast<std::size_t>(order[i])] / divisor;
      concord_abi::store_f64(CONCORD_F32, &weight, 1, concord_abi::bytes_of(call.out[0]) + (r * k + i) * 4);
      concord_abi::store_as(concord_abi::bytes_of(call.out[1]), r * k + i, order[i]);
    }
  });
  return CONCORD_OK;
}

concord_status argmax(const concord_call& call, concord_error*) {
  const std::size_t rows = dim(call.in[0], 0), n = dim(call.in[0], 1);
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(call.in[0], r, n, v.data());
    std::size_t best = 0;
    for (std::size_t i = 1; i < n; ++i)
      if (concord_abi::before(v[i], v[best])) best = i;
    concord_abi::store_as(concord_abi::bytes_of(call.out[0]), r, static_cast<std::int32_t>(best));
  });
  return CONCORD_OK;
}

concord_status sample(const concord_call& call, concord_error* err) {
  const std::size_t rows = dim(call.in[0], 0), n = dim(call.in[0], 1);
  std::vector<std::int32_t> positions(rows);
  std::memcpy(positions.data(), concord_abi::bytes_of(call.in[1]), rows * 4);
  const auto s =
      concord_abi::check_indices("sample", "positions", positions.data(), rows, concord_abi::kPositionLimit, err);
  if (s != CONCORD_OK) return s;
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(call.in[0], r, n, v.data());
    concord_abi::BestCandidate best;
    for (std::size_t i = 0; i < n; ++i)
      best.take(v[i] * call.scale + concord_abi::gumbel(call.seed, positions[r], i), static_cast<std::int32_t>(i));
    concord_abi::store_as(concord_abi::bytes_of(call.out[0]), r, best.index);
  });
  return CONCORD_OK;
}

}  // namespace reference
