// SAMPLE: scores in float64 by the harness's own random numbers, the oracle's choice by them, and how near to the best
// one the score of a right choice is.
#include <tbb/parallel_for.h>

#include <algorithm>

#include "abi/concord_validate.hpp"
#include "base/rng.hpp"
#include "conformance/numerics/bounds.hpp"

namespace concord::conformance {
namespace {

constexpr double kV = 0x1p-53;                         // unit roundoff of float64
constexpr double kLogError = 2 * allowed_ulp64::kLog;  // one ulp is at most 2v
constexpr double kLargestNoise = 36.8;                 // -log(-log(1 - 2^-53)) = 36.74; the other end is -3.6

// What one score s = p + g may err by: the inner logarithm's relative error is an absolute one of the outer, the outer
// logarithm's own, the product p (|p| <= |s| + |g|), and the sum.
double score_error(double score) { return kV * (kLogError + (kLogError + 1) * kLargestNoise + 2 * std::fabs(score)); }

}  // namespace

// Two candidates change places where the device's error of both and the oracle's own of both bridge what lies between.
// The choice is made here once more, so that an error that the reference and a device share is not the truth.
void bound_sample(const BoundInput& in, Expectation& e) {
  ExpectedOutput& out = e.outputs[0];
  const std::size_t n = in.axis("V"), rows = in.axis("T");
  const concord_call& call = in.problem.call;
  const std::vector<double> positions = in.values("positions");
  out.keys = in.values("x"), out.gap.assign(rows, 0), out.want.assign(rows, 0);
  tbb::parallel_for(std::size_t{0}, rows, [&](std::size_t row) {
    const std::span<double> scores = std::span(out.keys).subspan(row * n, n);
    tbb::parallel_for(std::size_t{0}, n, [&](std::size_t i) {
      const double u = uniform_open(call.seed, static_cast<std::uint64_t>(positions[row]), i);
      scores[i] = scores[i] * call.scale - std::log(-std::log(u));
    });
    const auto best =
        std::min_element(scores.begin(), scores.end(), concord_abi::before<double>);  // the first of equals
    out.want[row] = static_cast<double>(best - scores.begin());
    out.gap[row] = std::isfinite(*best) ? 4 * score_error(*best) : 0;
  });
  if (out.judged == Judged::kIndex) out.keys.clear(), out.gap.clear();
}

}  // namespace concord::conformance
