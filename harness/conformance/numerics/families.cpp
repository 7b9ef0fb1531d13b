#include "conformance/numerics/families.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "base/rng.hpp"

namespace concord::conformance {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

// f(row, column, value) for every element of a piece.
template <class F>
void each(const Tensor& t, std::uint64_t first, std::span<double> v, const F& f) {
  std::uint64_t row = first / t.cols, col = first % t.cols;
  for (double& e : v) {
    e = f(row, col, e);
    if (++col == t.cols) ++row, col = 0;
  }
}
double uniform_at(const Stream& s, std::uint64_t index) {  // what Stream::uniform gives there
  return (static_cast<double>(static_cast<std::int32_t>(s.bits(index))) + 0.5) * 0x1p-31;
}

void scaled(const Tensor& t, std::uint64_t, std::span<double> v) {
  for (double& e : v) e *= t.a;
}
void around_one(const Tensor& t, std::uint64_t, std::span<double> v) {
  for (double& e : v) e = 1 + t.a * e;
}
// Sums of `cols` such numbers times numbers of size 1 have size about 1.
void weights(const Tensor& t, std::uint64_t, std::span<double> v) {
  const double scale = t.a * std::ldexp(1.0, -half_log2(t.cols));
  for (double& e : v) e *= scale;
}
// The square of a normal number with its sign (variance 3), times its column's factor.
void heavy(const Tensor& t, std::uint64_t first, std::span<double> v) {
  each(t, first, v, [&](std::uint64_t, std::uint64_t c, double e) {
    return e * std::fabs(e) * 0.57735026918962576 * t.a * (t.columns.empty() ? 1 : t.columns[c]);
  });
}
void heavy_weights(const Tensor& t, std::uint64_t first, std::span<double> v) {
  heavy(t, first, v), weights(t, first, v);
}
// Integers in [-a, a].
void integers(const Tensor& t, std::uint64_t, std::span<double> v) {
  for (double& e : v) e = nearest(e * (t.a + 0.5));
}
void thin_integers(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const ExactLimits limits = exact_limits(t.cols);
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return (c + r) % limits.stride == 0 ? nearest(e * (limits.largest + 0.5)) : 0.0;
  });
}
// Sizes from 2^-6 to 2^2 times the smallest normal number, log-uniform.
double tiny(double e, int smallest) {
  const double t = std::fabs(e) * 8, octave = std::floor(t);
  return std::copysign(std::ldexp(1 + (t - octave), smallest - 6 + static_cast<int>(octave)), e);
}
// Of the dtype that is read or the one that is written, whichever has fewer of them below.
void subnormal(const Tensor& t, std::uint64_t, std::span<double> v) {
  const int smallest = std::max(smallest_exponent(t.dtype), smallest_exponent(t.problem.outputs[0].dtype));
  for (double& e : v) e = tiny(e, smallest);
}
// Matmul: inputs around the smallest normal number in even rows; in odd rows inputs whose products with the small
// weights are there. Weights: ordinary in even rows, small in odd ones.
void subnormal_inputs(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const int smallest = smallest_exponent(t.dtype);
  each(t, first, v, [&](std::uint64_t r, std::uint64_t, double e) {
    return r % 2 == 0 ? tiny(e, smallest) : std::ldexp(e, smallest / 2);
  });
}
void subnormal_weights(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const int smallest = smallest_exponent(t.dtype);
  each(t, first, v,
       [&](std::uint64_t r, std::uint64_t, double e) { return r % 2 == 0 ? e : std::ldexp(e, smallest / 2); });
}
void subnormal_sums(const Tensor& t, std::uint64_t first,
                    std::span<double> v) {  // z; silu of it would leave zeros only
  if (t.problem.call.flags != CONCORD_GATED) subnormal(t, first, v);
}
// Norms: rows so small that eps decides, down to where squares vanish.
void small_rows(const Tensor& t, std::uint64_t first, std::span<double> v) {
  constexpr int kExponents[] = {-9, -14, -20, -40, -70, -100, -124};
  const int least = smallest_exponent(t.dtype) - 4;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t, double e) {
    return std::ldexp(e, std::max(kExponents[(r + t.seed) % std::size(kExponents)], least));
  });
}

// --- sums that cancel ----------------------------------------------------------------------------------------------
// Inputs k and k + K/2 are nearly equal, their weights opposite.
void paired_inputs(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream own(t.seed, t.name);
  const std::uint64_t half = t.cols / 2;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return c < half || c >= 2 * half ? e : uniform_at(own, r * t.cols + c - half) + 0x1p-5 * e;
  });
}
void paired_weights(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream own(t.seed, t.name);
  const std::uint64_t half = t.cols / 2;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return c < half || c >= 2 * half ? e : -uniform_at(own, r * t.cols + c - half);
  });
}
// b is nearly -a.
void nearly_opposite(const Tensor& t, std::uint64_t first, std::span<double> v) {
  std::vector<double> other(v.size());
  Stream(t.seed, "a").uniform(first, other);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = -t.a * other[i] + 0x1p-6 * v[i];
}
double coarse_offset(std::uint32_t dtype, double f32, double f16, double bf16) {
  return dtype == CONCORD_F16 ? f16 : dtype == CONCORD_BF16 ? bf16 : f32;
}
void large_mean(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const double c = coarse_offset(t.dtype, 4096, 256, 32);
  each(t, first, v, [&](std::uint64_t r, std::uint64_t, double e) { return (r % 2 ? -c : c) + e; });
}
void alternating_rows(const Tensor& t, std::uint64_t first, std::span<double> v) {  // by cache row: a vector of G * D
  const auto width = static_cast<std::uint64_t>(t.problem.spec.axis("G") * t.problem.spec.axis("D"));
  each(t, first, v,
       [&](std::uint64_t r, std::uint64_t c, double e) { return ((r * t.cols + c) / width % 2 ? -32.0 : 32.0) + e; });
}

// --- softmax-like operators ----------------------------------------------------------------------------------------
// Even rows: a common offset as large as leaves something of the differences; odd rows: a wide spread (softmax: where
// exp vanishes).
void shifted(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const double c = coarse_offset(t.dtype, 10000, 1000, 256);
  each(t, first, v,
       [&](std::uint64_t r, std::uint64_t, double e) { return r % 2 ? t.a * e : (r % 4 ? -c : c) + 2 * e; });
}
// Attention: queries and keys share a large component, which a seventh of the keys has with the other sign.
void shifted_keys(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const auto width = static_cast<std::uint64_t>(t.problem.spec.axis("G") * t.problem.spec.axis("D"));
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return ((r * t.cols + c) / width * 0x9e3779b97f4a7c15u >> 40) % 7 == 3 ? e - 4 : e + 4;
  });
}
void plus_four(const Tensor&, std::uint64_t, std::span<double> v) {
  for (double& e : v) e += 4;
}
std::uint64_t spread(std::uint64_t index, std::uint64_t n, std::uint64_t seed) {  // a permutation of [0, n)
  std::uint64_t step = (seed | 1) % n;
  while (n > 1 && std::gcd(step, n) != 1) step = (step + 1) % n;
  return n > 1 ? (index * step + seed / 7 % n) % n : 0;
}
// 2^j equal largest logits, everything else so far below that its exp is 0. Never all of a row.
void powers_of_two(const Tensor& t, std::uint64_t first, std::span<double> v) {
  std::uint64_t most = 0;
  while ((std::uint64_t{4} << most) <= t.cols) ++most;
  const std::uint64_t full = std::uint64_t{2} << most;
  most += full < t.cols ? 1 : 0;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double) {
    const std::uint64_t peaks = std::uint64_t{1} << ((most + t.cols - r % (most + 1)) % (most + 1));
    const bool peak = spread(c, t.cols, (t.seed + r) % 100003) < peaks;
    return static_cast<double>(r % 5) - (peak ? 0 : 2000);
  });
}
// Row 0 .. T-1: the largest value at a place that moves from row to row, and once more at the end.
void tied_maxima(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const std::uint64_t start = t.seed % t.cols, step = 1 + t.cols / 7;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return c == (start + r * step) % t.cols || c == t.cols - 1 ? 60 : nearest(50 * e);
  });
}

// SAMPLE: logits that take the noise back, so that every score is about 4 and what is left of the roundings of the
// logits decides: whoever has a little less noise than float64 has another winner.
void level_scores(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const concord_call& call = t.problem.call;
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double) {
    return (4 - sample_noise(call.seed, sample_position(t.seed, r), c)) / call.scale;
  });
}

// --- attention with an exact answer --------------------------------------------------------------------------------
// A query is 64 at one place and 0 elsewhere; of the rows that every token of the sequence sees, one key has 64 there
// and all others 0. The weight of every other row is exp of at most -64 * 63.5 / sqrt(D), which is 0 up to D = 1024.
void one_hot_queries(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream place(t.seed, "place");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double) { return c == place.below(r, t.cols) ? 64.0 : 0.0; });
}
void dominating_keys(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const CaseSpec& s = t.problem.spec;
  const auto p = static_cast<std::uint64_t>(s.axis("P")), g = static_cast<std::uint64_t>(s.axis("G"));
  const auto common = static_cast<std::uint64_t>(s.axis("L") - s.axis("T") / s.axis("S") + 1);
  const Stream chosen(t.seed, "dominating row");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double) {
    const std::uint64_t row = r / g, sequence = row / p;
    return row % p == chosen.below((sequence * g + r % g) * t.cols + c, common) ? 64.0 : 0.0;
  });
}

// --- norms with an exact answer ------------------------------------------------------------------------------------
void powers(const Tensor& t, std::uint64_t first,
            std::span<double> v) {  // rows of +-2^j; LayerNorm: as many of each sign
  const bool balanced = t.problem.spec.op == "layernorm";
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    return std::ldexp((balanced ? (c + r) % 2 != 0 : e < 0) ? -1.0 : 1.0, static_cast<int>(r % 4));
  });
}
void one_or_two(const Tensor& t, std::uint64_t first, std::span<double> v) {
  each(t, first, v,
       [](std::uint64_t, std::uint64_t, double e) { return std::copysign(std::fabs(e) < 0.5 ? 1.0 : 2.0, e); });
}
void quarters(const Tensor&, std::uint64_t, std::span<double> v) {
  for (double& e : v) e = std::copysign(0.25, e);
}

// --- NaN, infinities, signed zeros ---------------------------------------------------------------------------------
double signed_zero(double e) {  // one in sixteen becomes a zero with its sign
  const double part = std::fabs(e) * 64;
  return part - std::floor(part) < 1.0 / 16 ? std::copysign(0.0, e) : e;
}
struct Kind {
  double first, second;  // planted values; 0: none
};
constexpr Kind kRowKinds[8] = {{0, 0}, {kNaN, 0}, {kInf, 0}, {-kInf, 0}, {kInf, -kInf}, {0, 0}, {kNaN, kInf}, {0, 0}};
bool only_nan(const Tensor& t) {  // where what infinities give is left open: see docs/bounds.md
  return t.problem.weight && t.problem.weight->desc.dtype == CONCORD_U4;
}
void special_rows(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream place(t.seed, t.name + " place");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    Kind kind = kRowKinds[r % 8];
    if (only_nan(t) && r % 8 != 1) kind = {0, 0};
    if (kind.first == 0) return signed_zero(e);
    if (kind.second != 0 && c == place.below(2 * r + 1, t.cols)) return kind.second;
    return c == place.below(2 * r, t.cols) ? kind.first : signed_zero(e);
  });
}
void special_weights(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream place(t.seed, t.name + " place");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    const double planted = r % 16 == 5 ? kNaN : r % 16 == 9 ? kInf : r % 16 == 12 ? -kInf : 0;
    return planted != 0 && c == place.below(r, t.cols) ? planted : signed_zero(e);
  });
}
void special_bias(const Tensor& t, std::uint64_t first, std::span<double> v) {
  each(t, first, v, [](std::uint64_t, std::uint64_t c, double e) {
    return c % 16 == 3 ? (c % 32 == 3 ? kInf : -kInf) : c % 16 == 7 ? kNaN : signed_zero(e);
  });
}
void special_sums(const Tensor& t, std::uint64_t first, std::span<double> v) {  // matmul's z
  each(t, first, v,
       [](std::uint64_t r, std::uint64_t c, double e) { return (c + 3 * r) % 16 == 11 ? kNaN : signed_zero(e); });
}
void special_logits(const Tensor& t, std::uint64_t first, std::span<double> v) {  // -inf is a masked logit
  const Stream place(t.seed, t.name + " place");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    if (t.cols == 1) return signed_zero(e);
    const bool here = c == place.below(r, t.cols);
    if (r % 4 == 3) return here ? 1.0 : e < 0 ? -kInf : e;
    return here && r % 4 == 1 ? kNaN : here && r % 4 == 2 ? -kInf : signed_zero(e);
  });
}
void special_maxima(const Tensor& t, std::uint64_t first, std::span<double> v) {
  const Stream place(t.seed, t.name + " place");
  each(t, first, v, [&](std::uint64_t r, std::uint64_t c, double e) {
    const bool here = c == place.below(r, t.cols);
    switch (r % 7) {
      case 0:
        return here || c == t.cols - 1 ? kInf : e;
      case 1:
        return c == 0 || here ? kNaN : e;
      case 2:
        return here ? -3.0 : -kInf;
      case 3:
        return std::copysign(0.0, e);  // all equal: the first
      case 4:
        return here ? -1.0 : kNaN;
      case 5:
        return kNaN;
      default:
        return here ? 7.0 : -std::fabs(e);
    }
  });
}
struct Pair {
  double a, b;
};
constexpr double kLargest = 1e300, kQuarter = 1e299, kLeast = 1e-300;  // stand for the dtype's own, see planted()
constexpr Pair kSwigluPairs[] = {{kNaN, 1},     {1, kNaN},   {kInf, 1},    {kInf, -2},     {kInf, 0},  {-kInf, 1},
                                 {0, kInf},     {2, kInf},   {-2, kInf},   {-0.0, 1},      {-1000, 3}, {80, -kInf},
                                 {kQuarter, 2}, {0.0, -0.0}, {kNaN, kNaN}, {-kQuarter, 2}, {kLeast, 1}};
constexpr Pair kAddPairs[] = {{kNaN, 1},
                              {1, kNaN},
                              {kInf, 1},
                              {-kInf, 2},
                              {kInf, -kInf},
                              {kInf, kInf},
                              {-0.0, 0.0},
                              {-0.0, -0.0},
                              {kLargest, kLargest},
                              {kLargest, -kLargest},
                              {-kLargest, -kLargest},
                              {kLeast, -kLeast},
                              {kLeast, kLeast},
                              {kInf, kNaN},
                              {2, -kInf}};
constexpr Pair kGeluValues[] = {{kNaN, 0},     {kInf, 0}, {0.0, 0}, {-0.0, 0},   {-1000, 0},  {1000, 0},
                                {kQuarter, 0}, {-30, 0},  {-9, 0},  {kLeast, 0}, {-kLeast, 0}};
double planted(double v, std::uint32_t dtype) {
  const double size = std::fabs(v);
  if (size == kLargest) return std::copysign(largest_finite(dtype), v);
  if (size == kQuarter) return std::copysign(largest_finite(dtype) / 4, v);
  if (size == kLeast) return std::copysign(std::ldexp(1.0, smallest_exponent(dtype) - 2), v);
  return v;
}
template <std::size_t N>
void plant(const Pair (&pairs)[N], const Tensor& t, std::uint64_t first, std::span<double> v) {
  const bool second = t.name == "up" || t.name == "b";
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::uint64_t at = first + i;
    const Pair& p = pairs[at / 4 % N];
    v[i] = at % 4 == 2 ? planted(second ? p.b : p.a, t.dtype) : signed_zero(v[i]);
  }
}
void special_swiglu(const Tensor& t, std::uint64_t first, std::span<double> v) { plant(kSwigluPairs, t, first, v); }
void special_add(const Tensor& t, std::uint64_t first, std::span<double> v) { plant(kAddPairs, t, first, v); }
void special_gelu(const Tensor& t, std::uint64_t first, std::span<double> v) { plant(kGeluValues, t, first, v); }

// The first row that fits is taken.
constexpr auto kU = Base::kUniform, kG = Base::kGaussian;
// clang-format off
constexpr Recipe kRecipes[] = {
    // parameters
    {"*", "gain", "exact", kU, one_or_two, 1},
    {"*", "gain", "*", kU, around_one, 0.5},
    {"*", "shift", "exact", kU, quarters, 1},
    {"*", "shift", "*", kU, scaled, 1},
    {"*", "bias", "exact", kU, integers, 64},
    {"*", "bias", "special", kU, special_bias, 1},
    {"*", "bias", "*", kU, scaled, 1},
    // weights of float dtypes
    {"*", "w", "exact", kU, integers, 4},
    {"*", "w", "uniform", kU, scaled, 1},
    {"*", "w", "gaussian", kG, weights, 1},
    {"*", "w", "heavy", kG, heavy_weights, 1},
    {"*", "w", "cancel", kU, paired_weights, 1},
    {"embedding", "w", "subnormal", kU, subnormal, 1},
    {"*", "w", "subnormal", kU, subnormal_weights, 1},
    {"*", "w", "special", kG, special_weights, 1},
    // matmul
    {"matmul", "x", "exact", kU, thin_integers, 1},
    {"matmul", "x", "cancel", kU, paired_inputs, 1},
    {"matmul", "x", "subnormal", kU, subnormal_inputs, 1},
    {"matmul", "z", "exact", kU, integers, 8},
    {"matmul", "z", "special", kG, special_sums, 1},
    {"matmul", "z", "subnormal", kU, subnormal_sums, 1},
    {"matmul", "z", "heavy", kG, heavy, 1},
    {"matmul", "z", "*", kG, scaled, 2},
    // norms
    {"rmsnorm layernorm", "x", "exact", kU, powers, 1},
    {"rmsnorm layernorm", "x", "subnormal", kG, small_rows, 1},
    {"layernorm", "x", "cancel", kG, large_mean, 1},
    // attention and its cache; rows that no token sees are overwritten behind
    {"attention", "q", "shift", kG, plus_four, 1},
    {"attention", "q", "exact", kU, one_hot_queries, 1},
    {"attention", "q", "*", kG, scaled, 1.5},
    {"attention", "kc", "shift", kG, shifted_keys, 1},
    {"attention", "kc", "exact", kU, dominating_keys, 1},
    {"attention", "kc vc", "heavy", kG, heavy, 1},
    {"attention", "vc", "cancel", kG, alternating_rows, 1},
    {"attention", "kc vc", "*", kG, scaled, 1},
    {"kv_append", "kc vc", "*", kU, scaled, 5},  // what was there before
    {"kv_append", "k v", "uniform", kU, scaled, 3},
    // element by element
    {"swiglu", "gate up", "special", kG, special_swiglu, 1},
    {"swiglu", "up", "subnormal", kU, around_one, 0.5},
    {"swiglu", "gate", "uniform", kU, scaled, 12},
    {"swiglu", "gate", "gaussian", kG, scaled, 3},
    {"gelu", "x", "special", kG, special_gelu, 1},
    {"gelu", "x", "uniform", kU, scaled, 6},
    {"gelu", "x", "gaussian", kG, scaled, 2},
    {"add", "a b", "special", kG, special_add, 1},
    {"add", "a b", "exact", kU, integers, 60},
    {"add", "a", "cancel", kU, scaled, 4},
    {"add", "b", "cancel", kU, nearly_opposite, 4},
    // softmax and choices
    {"softmax", "x", "special", kG, special_logits, 1},
    {"softmax", "x", "exact", kU, powers_of_two, 1},
    {"softmax", "x", "gaussian", kG, scaled, 4},
    {"softmax", "x", "shift", kG, shifted, 300},
    {"topk_routing", "logits", "shift", kG, shifted, 10},
    {"topk_routing", "logits", "exact", kU, integers, 7},
    {"topk_routing", "logits", "gaussian", kG, scaled, 2},
    {"rope", "x", "exact", kG, scaled, 1},
    {"argmax sample", "x", "exact", kU, tied_maxima, 1},
    {"argmax sample", "x", "special", kG, special_maxima, 1},
    {"sample", "x", "gaussian", kG, scaled, 3},
    {"sample", "x", "cancel", kU, level_scores, 1},
    // everything else
    {"*", "*", "uniform", kU, scaled, 2},
    {"*", "*", "gaussian", kG, scaled, 1},
    {"*", "*", "heavy", kG, heavy, 1},
    {"*", "*", "subnormal", kU, subnormal, 1},
    {"*", "*", "special", kG, special_rows, 1},
};
// clang-format on

bool fits(const char* words, const std::string& word) { return words[0] == '*' || is_one_of(words, word); }

}  // namespace

const Recipe& recipe_for(const Tensor& t) {
  for (const Recipe& r : kRecipes)
    if (fits(r.ops, t.problem.spec.op) && fits(r.operands, t.name) && fits(r.families, t.family)) return r;
  std::abort();
}

void prepare(Tensor& t, const Recipe& recipe) {
  t.a = recipe.a;
  if (recipe.shape != heavy || t.rows * t.cols == 0) return;
  // One column in 128, and at least one.
  const Stream which(t.seed, "outlier columns of " + t.name);
  t.columns.assign(t.cols, 1);
  for (std::uint64_t c = 0; c < t.cols; ++c)
    if (which.below(c, 128) == 0) t.columns[c] = 100;
  if (t.cols > 1) t.columns[which.below(t.cols, t.cols)] = 100;
}

// Where sequences begin, anywhere in a long one, and any number that an I32 can hold.
std::int32_t sample_position(std::uint64_t seed, std::uint64_t t) {
  const Stream stream(seed, "positions");
  constexpr std::uint64_t kLimits[] = {4096, std::uint64_t{1} << 17, std::uint64_t{1} << 31};
  if (t < 2) return t == 0 ? std::numeric_limits<std::int32_t>::max() : 0;  // the borders
  return static_cast<std::int32_t>(stream.below(t, kLimits[t % 3]));
}

double sample_noise(std::uint64_t seed, std::int32_t position, std::uint64_t id) {
  const double length = -logarithm(uniform_open(seed, static_cast<std::uint64_t>(position), id));
  int exponent = 0;
  const double fraction = std::frexp(length, &exponent);
  return -(logarithm(fraction) + exponent * 0.69314718055994531);
}

int smallest_exponent(std::uint32_t dtype) { return dtype == CONCORD_F16 ? -14 : dtype == CONCORD_F64 ? -1022 : -126; }

double largest_finite(std::uint32_t dtype) {
  switch (dtype) {
    case CONCORD_F16:
      return 65504;
    case CONCORD_BF16:
      return 0x1.fep127;
    case CONCORD_F64:
      return std::numeric_limits<double>::max();
    default:
      return std::numeric_limits<float>::max();
  }
}

int half_log2(std::uint64_t n) {
  int e = 0;
  while (e < 30 && std::uint64_t{1} << 2 * e < n) ++e;
  return e;
}

// Largest |x| times 15 (a nibble from its zero point) times 2 (scale) in units of 1/2 (the smallest scale), and the
// bias: 4 * 60 * 2^15 and 60 * 2^17 are below 2^23.
ExactLimits exact_limits(std::uint64_t k) {
  const std::uint64_t most = std::uint64_t{1} << 17;
  return {k <= std::uint64_t{1} << 15 ? 4 : 1, k <= most ? 1 : (k + most - 1) / most};
}

}  // namespace concord::conformance
