// Operators over a row: norms, softmax, routing.
#include <tbb/parallel_for.h>

#include <algorithm>

#include "conformance/numerics/bounds.hpp"

namespace concord::conformance {
namespace {

struct Row {
  double mean = 0, scale = 0;  // LayerNorm's mean; 1 / sqrt(mean square + eps)
  Err mean_err, relative;      // of the mean, absolute; of the scaled values
};

// The mean's error moves every element, and the variance by its square (the cross term vanishes).
Row row_of(const Rules& r, std::span<const double> x, bool centred, double eps) {
  const auto n = static_cast<double>(x.size());
  Row row;
  Terms sum, squares;
  if (centred) {
    for (const double v : x) sum.add(v);
    row.mean = sum.sum / n;
    row.mean_err = r.sum(sum, 2 * allowed_ulp::kDivide) * (1 / n) + r.relative(1, 1) * std::fabs(row.mean);
  }
  for (const double v : x) squares.add((v - row.mean) * (v - row.mean));
  for (const double v : x)
    if (const double a = (v - row.mean) * (v - row.mean); a < 2 * r.u * squares.sum) squares.lost += a;
  const double square = squares.sum / n + eps;
  row.scale = 1 / std::sqrt(square);
  const double differences = centred ? 2 : 0;
  const Err total = r.sum(squares, 1 + 2 * allowed_ulp::kDivide + differences) * (1 / (n * square)) + r.relative(2, 2);
  const Err moved{row.mean_err.worst * row.mean_err.worst / square, row.mean_err.likely * row.mean_err.likely / square};
  // Half of what the mean square errs by; then the root, and two products (three with the difference).
  row.relative = (total + moved) * 0.505 + r.relative(2 * allowed_ulp::kInverseRoot + 2 + differences / 2,
                                                      2 * likely_ulp::kInverseRoot + 2 + differences / 2);
  return row;
}

std::vector<double> magnitudes(std::vector<double> v) {
  for (double& e : v) e = std::fabs(e);
  return v;
}

}  // namespace

void bound_norm(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  const std::size_t n = in.axis("N");
  const std::vector<double> x = in.values("x"), gain = magnitudes(in.values("gain"));
  const bool centred = in.problem.call.op == CONCORD_OP_LAYERNORM;
  const Rules& r = in.rules;
  tbb::parallel_for(std::size_t{0}, in.axis("R"), [&](std::size_t at) {
    const std::span<const double> values = std::span(x).subspan(at * n, n);
    const Row row = row_of(r, values, centred, in.problem.call.eps);
    for (std::size_t i = 0; i < n; ++i) {
      const double scaled = std::fabs((values[i] - row.mean) * row.scale) * gain[i],
                   want = std::fabs(out.want[at * n + i]);
      Err err = row.relative * scaled + row.mean_err * (row.scale * gain[i] * 1.001);
      if (centred) err = err + r.relative(1, 1) * (want + scaled);
      const double tiny = 2 * r.eta * std::max(1.0, gain[i]);
      in.put(out, at * n + i, err + Err{tiny, tiny});
    }
  });
}

// The argument's rounding (twice that where exp goes by 2^x), here and weighted in the denominator; exp above and
// below; the sum; the division.
std::vector<Err> softmax_errors(const Rules& r, std::span<const double> x) {
  const auto n = static_cast<double>(x.size());
  const double largest = *std::max_element(x.begin(), x.end());
  double total = 0, distance = 0;
  for (const double v : x) total += std::exp(v - largest);
  Terms parts;
  for (const double v : x) {
    const double p = std::exp(v - largest) / total;
    parts.add(p);
    if (p < 2 * r.u) parts.lost += p;
    if (p > 0) distance += p * (largest - v);
  }
  const double sums = r.sum(parts).likely;
  const Err fixed{r.gamma(n + 4 * allowed_ulp::kExp + 2 * allowed_ulp::kDivide + 1),
                  sums + r.u * (4 * likely_ulp::kExp + 2 * likely_ulp::kDivide + 1)};
  std::vector<Err> out;
  out.reserve(x.size());
  for (const double v : x) {
    const double d = largest - v + distance;
    const double argument = 2 * r.u * d;
    out.push_back(fixed + Err{argument < 0.1 ? argument * 1.06 : std::expm1(argument), argument / 2});
  }
  return out;
}

void bound_softmax(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  const std::size_t n = in.axis("N");
  const std::vector<double> x = in.values("x");
  tbb::parallel_for(std::size_t{0}, in.axis("R"), [&](std::size_t row) {
    const std::vector<Err> errors = softmax_errors(in.rules, std::span(x).subspan(row * n, n));
    for (std::size_t i = 0; i < n; ++i) {
      const double tiny = 8 * in.rules.eta;  // exp itself may be below the normal numbers
      in.put(out, row * n + i, errors[i] * out.want[row * n + i] + Err{tiny, tiny});
    }
  });
}

// Softmax keeps the order of the logits, but its rounding may tie or swap neighbours: two experts may change places
// where their logits differ by less than exp and its argument err by. The sum and the division are common to both.
void bound_topk(const BoundInput& in, Expectation& e) {
  ExpectedOutput &weight = e.outputs[0], &expert = e.outputs[1];
  const std::size_t n = in.axis("E"), k = in.axis("K");
  const std::vector<double> x = in.values("logits");
  const Rules& r = in.rules;
  const bool normalise = (in.problem.call.flags & CONCORD_NORMALISE) != 0, choice = expert.judged == Judged::kChoice;
  if (choice) expert.keys = x, expert.gap.assign(expert.want.size(), 0);
  for (std::size_t row = 0; row < in.axis("T"); ++row) {
    const std::span<const double> logits = std::span(x).subspan(row * n, n);
    const std::vector<Err> errors = softmax_errors(r, logits);
    const double largest = *std::max_element(logits.begin(), logits.end());
    for (std::size_t i = row * k; i < (row + 1) * k; ++i) {
      const auto at = static_cast<std::size_t>(expert.want[i]);
      const double d = largest - logits[at];
      const double gap = 2 * r.u * (2 * d + 2 * allowed_ulp::kExp + 2 * allowed_ulp::kDivide + 1);
      if (choice) expert.gap[i] = d > r.largest - 2 ? HUGE_VAL : gap;  // behind it every weight may be 0
      Err relative = errors[at] + Err{gap, choice ? gap : 0};
      if (normalise) relative = relative * 2 + r.relative(static_cast<double>(k) + 6, static_cast<double>(k) + 6);
      // The oracle stores this weight as F32 too.
      const double own = half_ulp(CONCORD_F32, weight.want[i]) + 8 * r.eta;
      in.put(weight, i, relative * weight.want[i] + Err{own, own});
    }
  }
}

}  // namespace concord::conformance
