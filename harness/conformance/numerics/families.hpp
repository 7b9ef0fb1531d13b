// What each family of inputs is, per operator and operand: a table of recipes, each a base distribution and a function
// that makes values of it. Internal.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "conformance/numerics/layout.hpp"
#include "conformance/numerics/random.hpp"

namespace concord::conformance {

enum class Base { kUniform, kGaussian };

// A tensor that is being filled. Rows are runs of the last axis.
struct Tensor {
  const Problem& problem;
  const std::string& family;
  std::string name;  // "x"; weights are "w"
  std::uint64_t seed = 0;
  std::uint32_t dtype = CONCORD_F32;
  std::uint64_t rows = 1, cols = 1;
  double a = 1;                 // the recipe's parameter
  std::vector<double> columns;  // heavy: a factor per column
};

// v: draws of the base distribution for elements first .. first + v.size(); becomes values, which are rounded on store.
using Shaper = void (*)(const Tensor& t, std::uint64_t first, std::span<double> v);
struct Recipe {
  const char *ops, *operands, *families;  // words; "*" is all
  Base base;
  Shaper shape;
  double a;
};
const Recipe& recipe_for(const Tensor& t);
void prepare(Tensor& t, const Recipe& recipe);  // fills a and columns

// To the nearest integer, ties to even, for |v| < 2^51: additions, where std::rint would be a call.
inline double nearest(double v) { return (v + 0x1.8p52) - 0x1.8p52; }

// SAMPLE: the position of token t, and the noise by Stream's own logarithm, the same on every host, for inputs alone.
std::int32_t sample_position(std::uint64_t seed, std::uint64_t t);
double sample_noise(std::uint64_t seed, std::int32_t position, std::uint64_t id);

// Exponent of the smallest normal number and the largest finite number of a float dtype.
int smallest_exponent(std::uint32_t dtype);
double largest_finite(std::uint32_t dtype);
int half_log2(std::uint64_t n);  // smallest e with 4^e >= n: sums of n terms of size 2^-e have size about 1
// Integers up to this size keep sums over k inputs below 2^24 halves, whatever the weight form.
struct ExactLimits {
  int largest;           // |x|
  std::uint64_t stride;  // only every stride-th input of a row is not 0
};
ExactLimits exact_limits(std::uint64_t k);

}  // namespace concord::conformance
