// Operators that take one element at a time: rotations, activations, sums, table rows.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <numbers>

#include "conformance/numerics/bounds.hpp"

namespace concord::conformance {
namespace {

template <class F>
void for_elements(std::size_t n, const F& f) {
  constexpr std::size_t kPiece = 8192;
  tbb::parallel_for(std::size_t{0}, (n + kPiece - 1) / kPiece, [&](std::size_t p) {
    for (std::size_t i = p * kPiece; i < std::min(n, (p + 1) * kPiece); ++i) f(i);
  });
}

Err both(double e) { return {e, e}; }

// 0.5 x (1 + f), where f errs by `f_err` and may also come as 1 + f at once, with the same relative accuracy.
Err half_times(const Rules& r, double x, double y, Err f_err, double one_plus_f) {
  const Err around = f_err + both(r.u * one_plus_f);
  return around * (0.5 * std::fabs(x)) + both(2 * r.u * std::fabs(y) + 4 * r.eta * std::max(1.0, std::fabs(x)));
}

Err gelu_erf(const Rules& r, double x, double y) {
  const double z = x * std::numbers::sqrt2 / 2, slope = 2 * std::numbers::inv_sqrtpi * std::exp(-z * z);
  const double argument = r.gamma(2) * std::fabs(z) * slope * 1.01,
               value = std::max(std::fabs(std::erf(z)), std::erfc(-z));
  return half_times(r, x, y, both(argument) + Err{2 * allowed_ulp::kErf, 2 * likely_ulp::kErf} * (r.u * value),
                    std::erfc(-z));
}

// The argument has eight roundings and no cancellation.
Err gelu_tanh(const Rules& r, double x, double y) {
  const double p = std::sqrt(2 * std::numbers::inv_pi) * (x + 0.044715 * x * x * x), t = std::tanh(p);
  const double argument = r.gamma(8) * std::fabs(p) * (1 - t * t) * 1.01;
  return half_times(r, x, y, both(argument) + Err{2 * allowed_ulp::kTanh, 2 * likely_ulp::kTanh} * (r.u * std::fabs(t)),
                    1 + t);
}

}  // namespace

Err swiglu_error(const Rules& r, double gate, double up, Err up_err) {
  const double s = gate / (1 + std::exp(-gate)), y = std::fabs(s * up);
  // exp, the sum, the division, the product; the product once more for what `up` errs by.
  Err e = Err{r.gamma(2 * allowed_ulp::kExp + 2 * allowed_ulp::kDivide + 2),
              r.u * (2 * likely_ulp::kExp + 2 * likely_ulp::kDivide + 2)} *
          y;
  e = e + up_err * (std::fabs(s) * (1 + r.gamma(16)));
  if (-gate > r.largest) e = e + both(y);  // e^-gate is infinite, so the result may be 0
  return e + both(2 * r.eta * std::max(1.0, std::fabs(gate)) * std::max(1.0, std::fabs(up)));
}

void bound_swiglu(const BoundInput& in, Expectation& e) {
  const std::vector<double> gate = in.values("gate"), up = in.values("up");
  for_elements(gate.size(),
               [&](std::size_t i) { in.put(e.outputs[0], i, swiglu_error(in.rules, gate[i], up[i], {})); });
}

void bound_gelu(const BoundInput& in, Expectation& e) {
  const std::vector<double> x = in.values("x");
  const auto error = in.problem.call.flags & CONCORD_GELU_TANH ? gelu_tanh : gelu_erf;
  for_elements(x.size(), [&](std::size_t i) { in.put(e.outputs[0], i, error(in.rules, x[i], e.outputs[0].want[i])); });
}

void bound_add(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  for_elements(out.want.size(), [&](std::size_t i) { in.put(out, i, both(in.rules.u * std::fabs(out.want[i]))); });
}

// Two products and a sum, each rounded at most once.
void bound_rope(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  const std::vector<double> x = in.values("x"), cos = in.values("cos"), sin = in.values("sin"),
                            at = in.values("positions");
  const std::size_t d = in.axis("D"), half = d / 2, heads = in.axis("H");
  for_elements(x.size(), [&](std::size_t i) {
    const std::size_t j = i % d % half, first = i - i % d + j;
    const std::size_t angle = static_cast<std::size_t>(at[i / d / heads]) * half + j;
    const bool low = i % d < half;
    const double a = std::fabs(x[first] * (low ? cos : sin)[angle]),
                 b = std::fabs(x[first + half] * (low ? sin : cos)[angle]);
    in.put(out, i,
           both(in.rules.gamma(1) * ((a + b) * (1 + 2 * in.rules.u) + std::fabs(out.want[i])) + 2 * in.rules.eta));
  });
}

// An I8 weight is a product that is rounded; a device that multiplies weights in bf16 may hold them so.
void bound_embedding(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  const std::uint32_t form = in.problem.weight->desc.dtype;
  const bool narrowed = in.rules.mode.weights_bf16 && (form == CONCORD_F32 || form == CONCORD_F16);
  const double relative = (form == CONCORD_I8 ? in.rules.u : 0) + (narrowed ? 0x1p-8 * (1 + in.rules.u) : 0);
  for_elements(out.want.size(), [&](std::size_t i) { in.put(out, i, both(relative * std::fabs(out.want[i]))); });
}

}  // namespace concord::conformance
