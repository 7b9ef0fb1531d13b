// Faults of operators that work row by row or element by element.
#include "mutant.hpp"

namespace mutant {
namespace {

void no_epsilon(Changed& c) { c.call.eps = 0; }
void other_epsilon(Changed& c) { c.call.eps = c.call.eps == 1e-6 ? 1e-5 : 1e-6; }
void gain_plus_one(Changed& c) {
  const concord_tensor& gain = c.copy_in(1);
  std::vector<double> v = values_of(gain);
  for (double& e : v) e += 1;
  put_values(gain, v);
}
void shift_forgotten(Changed& c) {
  const auto shift = memory_of(c.copy_in(2));
  std::fill(shift.begin(), shift.end(), std::byte{0});
}

// A norm of its own: scale(mean, mean of squares about it, n, eps) of each row; RMSNorm has mean 0 and no shift.
using ScaleOf = double (*)(double variance, double n, double eps);
template <ScaleOf Scale, bool OnePass>
concord_status norm(Job& job) {
  const bool centred = job.call.op == CONCORD_OP_LAYERNORM;
  const std::size_t n = last_axis(job.out());
  const auto count = static_cast<double>(n);
  std::vector<double> x = values_of(job.call.in[0]), shift(n);
  const std::vector<double> gain = values_of(job.call.in[1]);
  if (centred) shift = values_of(job.call.in[2]);
  for (std::size_t at = 0; at < x.size(); at += n) {
    double sum = 0, squares = 0;
    float sum32 = 0, squares32 = 0;
    for (std::size_t i = at; i < at + n; ++i) {
      const auto e = static_cast<float>(x[i]);
      sum += x[i], sum32 += e, squares32 += e * e;
    }
    const double mean = centred ? sum / count : 0;
    for (std::size_t i = at; i < at + n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float mean32 = sum32 / static_cast<float>(n);
    const double variance =
        OnePass ? std::fmax(squares32 / static_cast<float>(n) - mean32 * mean32, 0.0f) : squares / count;
    const double scale = Scale(variance, count, job.call.eps);
    for (std::size_t i = at; i < at + n; ++i) x[i] = (x[i] - mean) * scale * gain[i - at] + shift[i - at];
  }
  put_values(job.out(), x);
  return CONCORD_OK;
}
double as_defined(double variance, double, double eps) { return 1 / std::sqrt(variance + eps); }
double outside_root(double variance, double, double eps) { return 1 / (std::sqrt(variance) + eps); }
double of_a_sample(double variance, double n, double eps) { return 1 / std::sqrt(variance * n / (n - 1) + eps); }

double through_f16(double variance, double, double eps) {
  return 1 / std::sqrt(static_cast<double>(concord_abi::f16_to_f32(concord_abi::f64_to_f16(variance))) + eps);
}

// A number that was stored in the activations' dtype in between.
double stored(std::uint32_t dtype, double v) {
  std::byte narrow[8];
  concord_abi::store_f64(dtype, &v, 1, narrow);
  concord_abi::load_f64(dtype, narrow, 1, &v);
  return v;
}
// The normalised row is rounded before the gain.
concord_status norm_rounded_twice(Job& job) {
  const bool centred = job.call.op == CONCORD_OP_LAYERNORM;
  Changed c(job.call);
  const std::vector<double> gain = values_of(job.call.in[1]),
                            shift = centred ? values_of(job.call.in[2]) : std::vector<double>(gain.size());
  put_values(c.copy_in(1), std::vector<double>(gain.size(), 1.0));
  if (centred) put_values(c.copy_in(2), std::vector<double>(gain.size(), 0.0));
  const concord_status status = job.honest(c.call);
  if (status != CONCORD_OK) return status;
  std::vector<double> y = values_of(job.out());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = y[i] * gain[i % gain.size()] + shift[i % gain.size()];
  put_values(job.out(), y);
  return status;
}
concord_status swiglu_rounded_twice(Job& job) {
  std::vector<double> gate = values_of(job.call.in[0]);
  const std::vector<double> up = values_of(job.call.in[1]);
  for (std::size_t i = 0; i < gate.size(); ++i)
    gate[i] = stored(job.out().dtype, gate[i] / (1 + std::exp(-gate[i]))) * up[i];
  put_values(job.out(), gate);
  return CONCORD_OK;
}

concord_status no_maximum(Job& job) {
  const std::size_t n = last_axis(job.out());
  std::vector<double> x = values_of(job.call.in[0]);
  for (std::size_t at = 0; at < x.size(); at += n) {
    float total = 0;
    for (std::size_t i = at; i < at + n; ++i) total += std::exp(static_cast<float>(x[i]));
    for (std::size_t i = at; i < at + n; ++i) x[i] = static_cast<double>(std::exp(static_cast<float>(x[i])) / total);
  }
  put_values(job.out(), x);
  return CONCORD_OK;
}
// One softmax over all rows.
concord_status over_everything(Job& job) {
  Changed c(job.call);
  const auto all = static_cast<std::int64_t>(concord_abi::element_count(job.out()));
  for (concord_tensor* t : {&c.call.in[0], &c.call.out[0]}) t->dims[0] = 1, t->dims[1] = all;
  return job.honest(c.call);
}
// exp(x) by a table of 256 steps a doubling: a relative error of up to 2^-9.5.
concord_status coarse_exponential(Job& job) {
  const std::size_t n = last_axis(job.out());
  std::vector<double> x = values_of(job.call.in[0]);
  for (std::size_t at = 0; at < x.size(); at += n) {
    const double largest =
        *std::max_element(x.begin() + static_cast<std::ptrdiff_t>(at), x.begin() + static_cast<std::ptrdiff_t>(at + n));
    double total = 0;
    for (std::size_t i = at; i < at + n; ++i)
      total += x[i] = std::exp2(std::round((x[i] - largest) * 1.4426950408889634 * 256) / 256);
    for (std::size_t i = at; i < at + n; ++i) x[i] /= total;
  }
  put_values(job.out(), x);
  return CONCORD_OK;
}

void tanh_form(Changed& c) { c.call.flags |= CONCORD_GELU_TANH; }
void erf_form(Changed& c) { c.call.flags &= ~static_cast<std::uint32_t>(CONCORD_GELU_TANH); }
void gate_and_up(Changed& c) {
  if (in_place(c.call)) c.copy_in(0);
  std::swap(c.call.in[0], c.call.in[1]);
}
// Swish without its sigmoid's sign, as 1 / (1 + e^x).
concord_status sigmoid_sign(Job& job) {
  std::vector<double> gate = values_of(job.call.in[0]);
  const std::vector<double> up = values_of(job.call.in[1]);
  for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(gate[i])) * up[i];
  put_values(job.out(), gate);
  return CONCORD_OK;
}
// e^-gate overflows in float32 and the quotient of two infinities is NaN: x * e^x / (1 + e^x).
concord_status overflowing_gate(Job& job) {
  std::vector<double> gate = values_of(job.call.in[0]);
  const std::vector<double> up = values_of(job.call.in[1]);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const float e = std::exp(static_cast<float>(gate[i]));
    gate[i] = gate[i] * static_cast<double>(e / (1 + e)) * up[i];
  }
  put_values(job.out(), gate);
  return CONCORD_OK;
}
void subtracts(Job& job) {
  if (in_place(job.call)) return;
  const std::vector<double> a = values_of(job.call.in[0]), b = values_of(job.call.in[1]);
  std::vector<double> y(a.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = i + 1 == y.size() ? a[i] - b[i] : a[i] + b[i];
  put_values(job.out(), y);
}

constexpr std::uint32_t kRms = bits({CONCORD_OP_RMSNORM}), kLayer = bits({CONCORD_OP_LAYERNORM}),
                        kNorms = kRms | kLayer;
constexpr std::uint32_t kSoftmax = bits({CONCORD_OP_SOFTMAX}), kGelu = bits({CONCORD_OP_GELU}),
                        kSwiglu = bits({CONCORD_OP_SWIGLU});

constexpr Fault kFaults[] = {
    {"epsilon-missing", "the norm has no epsilon", kNorms, with<no_epsilon>},
    {"epsilon-fixed", "the norm's epsilon is another one than the call's", kNorms, with<other_epsilon>},
    {"epsilon-outside", "epsilon is added outside the root", kNorms, norm<outside_root, false>},
    {"gain-plus-one", "the gain is one more than it should be", kNorms, with<gain_plus_one>},
    {"shift-forgotten", "the shift is not added", kLayer, with<shift_forgotten>},
    {"variance-of-sample", "the variance is divided by n - 1", kLayer, norm<of_a_sample, false>},
    {"variance-one-pass", "the variance is E[x^2] - E[x]^2 in float32", kLayer, norm<as_defined, true>},
    {"variance-f16", "the variance goes through float16", kNorms, norm<through_f16, false>},
    {"norm-rounded-twice", "the normalised row is rounded before the gain", kNorms, norm_rounded_twice},
    {"softmax-no-maximum", "the largest value is not subtracted", kSoftmax, no_maximum},
    {"softmax-over-all", "one softmax over all rows", kSoftmax, over_everything},
    {"softmax-coarse-exp", "the exponential comes from a table of 256 steps a doubling", kSoftmax, coarse_exponential},
    {"gelu-tanh", "the tanh form instead of erf", kGelu, with<tanh_form>},
    {"gelu-erf", "the erf form instead of tanh", kGelu, with<erf_form>},
    {"gate-and-up-swapped", "gate and up are exchanged", kSwiglu, with<gate_and_up>},
    {"sigmoid-sign", "the sigmoid has the wrong sign", kSwiglu, sigmoid_sign},
    {"sigmoid-overflow", "large gates give NaN", kSwiglu, overflowing_gate},
    {"swiglu-rounded-twice", "the activated gate is rounded before the product", kSwiglu, swiglu_rounded_twice},
    {"add-last-subtracted", "the last element is a - b", bits({CONCORD_OP_ADD}), after<subtracts>},
};

}  // namespace

std::span<const Fault> row_faults() { return kFaults; }

}  // namespace mutant
