// How far a correct device may be from the oracle, element by element: docs/bounds.md. Internal to the numerics of
// operator conformance; one file per group of operators.
#pragma once
#include <array>
#include <cmath>

#include "conformance/numerics/expectation.hpp"

namespace concord::conformance {

// The one entry: fills rigorous and probable of every output that is judged by a bound, gaps of choices, the formula
// and lambda. `sums` are x W^T + bias of a fused matmul before z comes in.
void add_bounds(const Problem& problem, std::span<const std::byte> inputs, std::span<const double> sums,
                Expectation& e);

// What a function may err by, in units in the last place of float32: the OpenCL 3.0 C specification, table "ULP values
// for single precision built-in math functions", full profile. One ulp is at most 2u of the value.
namespace allowed_ulp {
inline constexpr double kExp = 3, kTanh = 5, kErf = 16, kRsqrt = 2, kSqrt = 3, kDivide = 2.5;
inline constexpr double kInverseRoot = kSqrt + kDivide;  // 1 / sqrt, more than rsqrt
}  // namespace allowed_ulp
// The same in units in the last place of float64, table "ULP values for double precision".
namespace allowed_ulp64 {
inline constexpr double kLog = 3;
}  // namespace allowed_ulp64
// What is likely: the largest errors that glibc's manual and NVIDIA's programming guide state for float32.
namespace likely_ulp {
inline constexpr double kExp = 2, kTanh = 2, kErf = 4, kInverseRoot = 2, kDivide = 1;
}  // namespace likely_ulp

// Errors come in pairs: never more than `worst`; more than `likely` with a probability below 2^-40 per case.
struct Err {
  double worst = 0, likely = 0;
  Err operator+(const Err& o) const { return {worst + o.worst, likely + o.likely}; }
  Err operator*(double f) const { return {worst * f, likely * f}; }
};

// Terms of a sum: sum |a|, sum a^2, sum a; `lost`: sum |a| of terms so small that a sequential sum drops them (below 2u
// of it), where errors are no longer independent of what is added.
struct Terms {
  double n = 0, size = 0, squares = 0, sum = 0, lost = 0;
  void add(double a) { n += 1, size += std::fabs(a), squares += a * a, sum += a; }
};

// The arithmetic and the case, as far as bounds ask for them.
struct Rules {
  double u = 0x1p-24;     // unit roundoff of the accumulation
  double eta = 0x1p-150;  // half its smallest positive number: a rounding below the normal numbers
  double largest = 0;     // natural logarithm of its largest finite number
  double lambda = 0;
  double ln_outputs = 0;      // log of 2 * outputs * 2^40
  bool exchangeable = false;  // the order of the terms is as good as random
  MathMode mode;

  double gamma(double k) const { return k * u / (1 - k * u); }
  Err relative(double worst_roundings, double likely_roundings) const {
    return {gamma(worst_roundings), likely_roundings * u};
  }
  // Error of the sum of rounded terms in any order; `more` roundings on every path.
  Err sum(const Terms& t, double more = 0) const;
  // The likely part per unit of lambda, for sums of sums.
  double sum_spread(const Terms& t) const;
  double lambda_of(double roundings) const { return std::sqrt(2 * (ln_outputs + std::log(std::max(1.0, roundings)))); }
};
Rules rules_of(const Problem& problem, const MathMode& mode, std::uint64_t outputs);

// Rounding on store: half an ulp of the storage dtype at |y| + err. Nothing where the accumulation's own dtype is
// stored.
double half_ulp(std::uint32_t dtype, double size);
Err stored(std::uint32_t dtype, std::uint32_t accumulate, double y, Err err);

// What the bound functions are given. `out` is the output whose want is filled.
struct BoundInput {
  const Problem& problem;
  std::span<const std::byte> arena;
  std::span<const double> sums;
  const Rules& rules;
  std::vector<double> values(const std::string& operand) const;  // an input as double; I8: the integers
  bool has(const std::string& operand) const;
  void put(ExpectedOutput& out, std::size_t i, Err err) const;  // err of the arithmetic; adds the rounding on store
  std::size_t axis(const char* key) const { return static_cast<std::size_t>(problem.spec.axis(key)); }
};
using BoundFunction = void (*)(const BoundInput&, Expectation&);
void bound_matmul(const BoundInput& in, Expectation& e);
void bound_attention(const BoundInput& in, Expectation& e);
void bound_norm(const BoundInput& in, Expectation& e);
void bound_softmax(const BoundInput& in, Expectation& e);
void bound_topk(const BoundInput& in, Expectation& e);
void bound_sample(const BoundInput& in, Expectation& e);
void bound_rope(const BoundInput& in, Expectation& e);
void bound_swiglu(const BoundInput& in, Expectation& e);
void bound_gelu(const BoundInput& in, Expectation& e);
void bound_add(const BoundInput& in, Expectation& e);
void bound_embedding(const BoundInput& in, Expectation& e);

// Errors of gate / (1 + e^-gate) * up, for an up that errs by `up_err`.
Err swiglu_error(const Rules& r, double gate, double up, Err up_err);
// Relative errors of softmax over a row, and of nothing else.
std::vector<Err> softmax_errors(const Rules& r, std::span<const double> x);

}  // namespace concord::conformance
