// Fills the input arena: float operands by the recipes of families.cpp, quantised weights and caches by their own
// rules, indices directly. Pieces of 4096 numbers are made in parallel; a number depends on case, seed, tensor and
// place only.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "abi/concord_float.hpp"
#include "conformance/numerics/families.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

constexpr std::uint64_t kPiece = 4096;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Filler {
  const Problem& problem;
  std::uint64_t seed;
  std::string family;
  std::byte* arena;

  std::int64_t axis(const char* key) const { return problem.spec.axis(key); }
  std::uint64_t size(const char* key) const { return static_cast<std::uint64_t>(axis(key)); }
  Tensor tensor(const std::string& name, std::uint32_t dtype, std::uint64_t rows, std::uint64_t cols) const {
    return {problem, family, name, seed, dtype, rows, cols, 1, {}};
  }
};

template <class Body>
void for_pieces(std::uint64_t n, const Body& body) {
  tbb::parallel_for(std::uint64_t{0}, (n + kPiece - 1) / kPiece, [&](std::uint64_t i) {
    const std::uint64_t first = i * kPiece;
    body(first, std::min(kPiece, n - first));
  });
}

void draw(const Tensor& t, const Recipe& recipe, std::uint64_t first, std::span<double> v) {
  const Stream stream(t.seed, t.name);
  if (recipe.base == Base::kGaussian)
    stream.gaussian(first, v);
  else
    stream.uniform(first, v);
  recipe.shape(t, first, v);
}

std::int8_t to_i8(double v) { return static_cast<std::int8_t>(std::clamp(nearest(v), -127.0, 127.0)); }

// Values of an I8 cache are multiples of about 1/16.
constexpr double kCacheSteps = 16;

void store(std::uint32_t dtype, std::span<const double> v, std::byte* to) {
  if (dtype != CONCORD_I8) return concord_abi::store_f64(dtype, v.data(), v.size(), to);
  for (std::size_t i = 0; i < v.size(); ++i) concord_abi::store_as(to, i, to_i8(v[i] * kCacheSteps));
}

// A tensor by its recipe, rounded once to its dtype.
void fill_floats(Tensor t, std::byte* to) {
  const Recipe& recipe = recipe_for(t);
  prepare(t, recipe);
  const std::size_t bytes = concord_abi::dtype_bytes(t.dtype);
  for_pieces(t.rows * t.cols, [&](std::uint64_t first, std::uint64_t n) {
    double v[kPiece];
    draw(t, recipe, first, {v, n});
    store(t.dtype, {v, n}, to + first * bytes);
  });
}

// --- indices -------------------------------------------------------------------------------------------------------
void fill_indices(const Filler& f, const Operand& o) {
  std::byte* to = f.arena + o.offset;
  if (f.problem.spec.op == "sample") {
    for (std::uint64_t t = 0; t < o.bytes / 4; ++t) concord_abi::store_as(to, t, sample_position(f.seed, t));
    return;
  }
  const std::uint64_t n = o.bytes / 4, limit = f.size(o.name == "ids" ? "V" : "P");
  const Stream stream(f.seed, o.name);
  std::uint64_t step = 1 + stream.bits(0) % limit;
  while (std::gcd(step, limit) != 1) ++step;
  for (std::uint64_t t = 0; t < n; ++t) {
    std::uint64_t v = stream.below(t, limit);
    if (f.problem.spec.op == "kv_append") {
      v = (t * step + stream.bits(1)) % limit;  // all distinct
    } else if (f.problem.spec.op == "attention") {
      const std::uint64_t each = f.size("T") / f.size("S");
      v = t / each * f.size("P") + f.size("L") - each + t % each;
    } else if (t < 2) {
      v = t == 0 ? limit - 1 : 0;  // the borders
    }
    concord_abi::store_as(to, t, static_cast<std::int32_t>(v));
  }
}

// Rotations by random angles; exact: by quarter turns.
void fill_angles(const Filler& f, const Operand& o) {
  const bool sine = o.name == "sin", exact = f.family == "exact";
  const Stream stream(f.seed, "angle");
  const std::uint64_t n = f.size("P") * (f.size("D") / 2);
  for_pieces(n, [&](std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
      const std::uint32_t k = stream.bits(i);
      const Point p = on_circle(exact ? k & 0xc0000000u : k);
      const double v = sine ? p.sin : p.cos, value = exact ? nearest(v) : v;
      concord_abi::store_f64(o.dtype, &value, 1, f.arena + o.offset + i * concord_abi::dtype_bytes(o.dtype));
    }
  });
}

// --- caches --------------------------------------------------------------------------------------------------------
// Scales of an I8 cache: exact ones are powers of two.
void fill_cache_scales(const Filler& f, const std::string& name, std::uint64_t n, std::byte* to) {
  const Stream stream(f.seed, name);
  for (std::uint64_t i = 0; i < n; ++i) {
    double v = (1 + stream.below(i, 256) / 256.0) / (1.5 * kCacheSteps);
    if (f.family == "exact") v = name == "ks" ? 0.5 : 1 / kCacheSteps;
    concord_abi::store_f64(CONCORD_F32, &v, 1, to + 4 * i);
  }
}

// Cache rows behind the context: large finite numbers, which a mask that is off by one lets in.
void fill_garbage(const Filler& f, const Operand& o) {
  const std::uint64_t length = f.size("L"), p = f.size("P"), sequences = f.size("S"), width = o.bytes / (p * sequences);
  const std::size_t bytes = concord_abi::dtype_bytes(o.dtype);
  const Stream stream(f.seed, o.name + " garbage");
  tbb::parallel_for(std::uint64_t{0}, sequences * (p - length), [&](std::uint64_t i) {
    const std::uint64_t row = i / (p - length) * p + length + i % (p - length);
    for (std::uint64_t j = 0; j < width / bytes; ++j) {
      const double sign = stream.bits(row * (width / bytes) + j) & 1 ? 1 : -1;
      const double v = o.role == Role::kScale ? 1000.0 : sign * 20000;
      store(o.dtype, {&v, 1}, f.arena + o.offset + row * width + j * bytes);
    }
  });
}

void fill_operand(const Filler& f, const Operand& o) {
  if (o.role == Role::kIndex) return fill_indices(f, o);
  if (o.role == Role::kTable) return fill_angles(f, o);
  std::byte* to = f.arena + o.offset;
  const auto cols = static_cast<std::uint64_t>(o.dims.back());
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i + 1 < o.dims.size(); ++i) rows *= static_cast<std::uint64_t>(o.dims[i]);
  if (o.role == Role::kScale)
    fill_cache_scales(f, o.name, rows * cols, to);
  else
    fill_floats(f.tensor(o.name, o.dtype, rows, cols), to);
  if (f.problem.spec.op == "attention" && (o.role == Role::kCache || o.role == Role::kScale)) fill_garbage(f, o);
}

// What KV_APPEND's outputs hold before.
void fill_initial(const Filler& f, const Operand& o) {
  std::byte* to = f.arena + *o.initial;
  if (o.role == Role::kScale) return fill_cache_scales(f, o.name, o.bytes / 4, to);
  fill_floats(f.tensor(o.name, o.dtype, o.bytes / concord_abi::dtype_bytes(o.dtype), 1), to);
}

// --- quantised weights ---------------------------------------------------------------------------------------------
// The size that a row's or group's scale has, so that results have size about 1, and its exponent in odd rows.
double weight_scale(const Filler& f, const Tensor& w, std::uint64_t row, std::uint32_t bits, int steps) {
  if (f.family == "exact") return std::ldexp(1.0, static_cast<int>(bits % 3) - 1);
  if (f.family == "special" && row % 16 == 5) return kNaN;
  const double size = (1 + bits * 0x1p-32) * std::ldexp(1.0, -half_log2(w.cols) - steps);
  if (f.family != "subnormal") return size;
  if (f.problem.spec.op == "embedding")  // below what is written all would be zero
    return std::ldexp(size, std::max(smallest_exponent(w.dtype), smallest_exponent(f.problem.outputs[0].dtype)));
  return row % 2 ? std::ldexp(size, smallest_exponent(w.dtype) / 2) : size;
}

// An integer in [-limit, limit] from a draw of the family's distribution.
double steps_of(const Filler& f, double uniform, double gaussian, double limit) {
  const bool bell = f.family == "gaussian" || f.family == "heavy" || f.family == "special";
  return nearest(std::clamp(bell ? gaussian * limit / 4 : uniform * (limit + 0.49), -limit, limit));
}

struct Draws {
  double uniform[kPiece], gaussian[kPiece];
};
void draw_both(const Filler& f, std::uint64_t first, std::uint64_t n, Draws& d) {
  const Stream stream(f.seed, "w");
  stream.uniform(first, {d.uniform, n});
  if (f.family == "gaussian" || f.family == "heavy" || f.family == "special") stream.gaussian(first, {d.gaussian, n});
}

// Steps of element (row, col) of the quantised matrix; cancel: the second half of a row is the first with other sign.
void quantised_steps(const Filler& f, std::uint64_t cols, std::uint64_t first, std::uint64_t n, double limit,
                     double* out) {
  Draws d;
  draw_both(f, first, n, d);
  for (std::uint64_t i = 0; i < n; ++i) out[i] = steps_of(f, d.uniform[i], d.gaussian[i], limit);
  if (f.family != "cancel") return;
  const Stream stream(f.seed, "w");
  const std::uint64_t half = cols / 2;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t c = (first + i) % cols;
    if (c < half || c >= 2 * half) continue;
    const double u = (static_cast<double>(static_cast<std::int32_t>(stream.bits(first + i - half))) + 0.5) * 0x1p-31;
    out[i] = -steps_of(f, u, 0, limit);
  }
}

void fill_i8_weight(const Filler& f, const Tensor& w) {
  const WeightOperand& o = *f.problem.weight;
  const double limit = f.family == "exact" ? 8 : 127;
  for_pieces(w.rows * w.cols, [&](std::uint64_t first, std::uint64_t n) {
    double v[kPiece];
    quantised_steps(f, w.cols, first, n, limit, v);
    for (std::uint64_t i = 0; i < n; ++i) concord_abi::store_as(f.arena + o.data, first + i, to_i8(v[i]));
  });
  const Stream scales(f.seed, "w scales");
  for (std::uint64_t r = 0; r < w.rows; ++r) {
    const double v = weight_scale(f, w, r, scales.bits(r), 6);
    concord_abi::store_f64(CONCORD_F32, &v, 1, f.arena + o.scales + 4 * r);
  }
}

void fill_nibbles(const Filler& f, const Tensor& w, std::uint64_t row) {
  const WeightOperand& o = *f.problem.weight;
  const std::uint64_t stride = (w.cols + 1) / 2, padded = (w.cols + 3) / 4 * 4;
  std::byte* to = f.arena + o.data + row * stride;
  std::fill_n(to, stride, std::byte{0});
  for (std::uint64_t first = 0; first < w.cols; first += kPiece) {
    const std::uint64_t n = std::min(kPiece, w.cols - first);
    double v[kPiece];
    quantised_steps(f, padded, row * padded + first, n, 7, v);
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto nibble = static_cast<unsigned>(v[i] + 8);
      to[(first + i) / 2] |= static_cast<std::byte>((first + i) % 2 ? nibble << 4 : nibble);
    }
  }
}

void fill_u4_weight(const Filler& f, const Tensor& w) {
  const WeightOperand& o = *f.problem.weight;
  tbb::parallel_for(std::uint64_t{0}, w.rows, [&](std::uint64_t row) { fill_nibbles(f, w, row); });
  const Stream scales(f.seed, "w scales"), zeros(f.seed, "w zeros");
  const std::uint64_t groups = (w.cols + o.desc.group - 1) / o.desc.group;
  for_pieces(w.rows * groups, [&](std::uint64_t first, std::uint64_t n) {
    for (std::uint64_t i = first; i < first + n; ++i) {
      const bool constant = f.family == "cancel";  // equal scales for both halves of a row
      const double v = weight_scale(f, w, i / groups, scales.bits(constant ? i / groups : i), 2);
      concord_abi::store_f64(CONCORD_F16, &v, 1, f.arena + o.scales + 2 * i);
      const bool wide = f.family == "uniform" || f.family == "exact";
      const std::uint64_t zero = constant ? 8 : wide ? zeros.below(i, 16) : 6 + zeros.below(i, 5);
      if (o.zero_bytes) f.arena[o.zeros + i] = static_cast<std::byte>(zero);
    }
  });
}

void fill_weight(const Filler& f) {
  const WeightOperand& o = *f.problem.weight;
  const auto rows = static_cast<std::uint64_t>(o.desc.rows), cols = static_cast<std::uint64_t>(o.desc.cols);
  if (o.desc.dtype == CONCORD_I8) return fill_i8_weight(f, f.tensor("w", CONCORD_F32, rows, cols));
  if (o.desc.dtype == CONCORD_U4) return fill_u4_weight(f, f.tensor("w", CONCORD_F16, rows, cols));
  fill_floats(f.tensor("w", o.desc.dtype, rows, cols), f.arena + o.data);
}

}  // namespace

std::uint64_t case_seed(const CaseSpec& spec, std::uint64_t seed) {
  Hasher hasher;
  hasher.update(std::string_view("concord case inputs, version 1\n")).update(std::string_view(spec.id())).u64(seed);
  const Sha256 digest = hasher.finish();
  std::uint64_t out = 0;
  std::memcpy(&out, digest.data(), sizeof out);
  return out;
}

void fill_inputs(const Problem& problem, std::uint64_t seed, std::span<std::byte> arena) {
  if (problem.expect_refusal) return std::fill(arena.begin(), arena.end(), std::byte{0});
  const Filler f{problem, case_seed(problem.spec, seed), problem.spec.option("in"), arena.data()};
  for (const Operand& o : problem.inputs) fill_operand(f, o);
  if (problem.weight) fill_weight(f);
  if (problem.spec.op == "kv_append")
    for (const Operand& o : problem.outputs) fill_initial(f, o);
}

}  // namespace concord::conformance
