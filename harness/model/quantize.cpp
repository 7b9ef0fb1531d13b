#include "model/quantize.hpp"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/dtype.hpp"

namespace concord {
namespace {

using Kind = WeightPrecision::Kind;

struct Named {
  const char* name;
  WeightPrecision precision;
};
constexpr std::array<Named, 8> kPrecisions{{
    {"f32", {Kind::kF32, 0, true}},
    {"f16", {Kind::kF16, 0, true}},
    {"bf16", {Kind::kBF16, 0, true}},
    {"int8", {Kind::kInt8, 0, true}},
    {"int4-g32-sym", {Kind::kInt4, 32, true}},
    {"int4-g32-asym", {Kind::kInt4, 32, false}},
    {"int4-g128-sym", {Kind::kInt4, 128, true}},
    {"int4-g128-asym", {Kind::kInt4, 128, false}},
}};

// What a backend is told the data is.
struct Storage {
  concord_dtype dtype;
  DType float_type;  // of the three float kinds
  std::int64_t bits;
};
constexpr Storage storage_of(Kind kind) {
  switch (kind) {
    case Kind::kF16:
      return {CONCORD_F16, DType::kF16, 16};
    case Kind::kBF16:
      return {CONCORD_BF16, DType::kBF16, 16};
    case Kind::kInt8:
      return {CONCORD_I8, DType::kI8, 8};
    case Kind::kInt4:
      return {CONCORD_U4, DType::kU8, 4};
    case Kind::kF32:
      break;
  }
  return {CONCORD_F32, DType::kF32, 32};
}

std::int64_t groups_per_row(const QuantizedMatrix& m) { return (m.cols + m.precision.group - 1) / m.precision.group; }
std::int64_t row_bytes(const QuantizedMatrix& m) { return (m.cols * storage_of(m.precision.kind).bits + 7) / 8; }

// Round to nearest, ties to even, for |x| < 2^51: adding 1.5 * 2^52 leaves no bits for a fraction.
double rne(double x) {
  constexpr double kShift = 0x1.8p52;
  return (x + kShift) - kShift;
}

// Everything below computes in float64 from the float32 weights and rounds once, when a scale is stored. A float64
// quotient of a float32 by a scale cannot be mistaken for a tie that it is not, so every q is the correctly rounded
// one.

// False when 127 * scale, rounded up, is no longer a float32.
bool int8_row(const float* w, std::int64_t cols, float& scale, std::int8_t* q) {
  float most = 0;
  for (std::int64_t i = 0; i < cols; ++i) most = std::max(most, std::fabs(w[i]));
  scale = static_cast<float>(static_cast<double>(most) / 127.0);
  if (scale == 0) {  // zeros, or so small that the scale underflows
    std::memset(q, 0, static_cast<std::size_t>(cols));
    return true;
  }
  if (!std::isfinite(127.0f * scale)) return false;
  for (std::int64_t i = 0; i < cols; ++i)
    q[i] = static_cast<std::int8_t>(std::clamp(rne(static_cast<double>(w[i]) / scale), -127.0, 127.0));
  return true;
}

struct GroupGrid {
  std::uint16_t scale = 0;  // f16
  double zero = 0;          // 0..15
  double low = 0;           // smallest q
};

GroupGrid group_grid(const float* w, std::int64_t n, bool symmetric) {
  double low = 0, high = 0;  // zero is always on the grid
  for (std::int64_t i = 0; i < n; ++i) {
    low = std::min(low, static_cast<double>(w[i]));
    high = std::max(high, static_cast<double>(w[i]));
  }
  if (symmetric) return {f64_to_f16(std::max(high, -low) / 7.0), 8.0, 1.0};
  GroupGrid g{f64_to_f16((high - low) / 15.0), 0.0, 0.0};
  const double scale = f16_to_f32(g.scale);
  if (scale != 0) g.zero = std::clamp(rne(-low / scale), 0.0, 15.0);
  return g;
}

// Writes n nibbles from column `first` (even) on; the row was zero before.
void int4_group(const float* w, std::int64_t first, std::int64_t n, const GroupGrid& g, std::byte* row) {
  const double scale = f16_to_f32(g.scale);
  for (std::int64_t i = 0; i < n; ++i) {
    const double q = scale == 0 ? g.zero : std::clamp(rne(static_cast<double>(w[i]) / scale) + g.zero, g.low, 15.0);
    const auto nibble = static_cast<unsigned>(q) << (((first + i) & 1) * 4);
    row[(first + i) / 2] |= static_cast<std::byte>(nibble);
  }
}

constexpr std::uint16_t kF16Infinity = 0x7c00;

// False when a scale does not fit in f16.
bool int4_row(const float* w, std::int64_t row, QuantizedMatrix& m) {
  const std::int64_t groups = groups_per_row(m), group = m.precision.group;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * group, n = std::min(group, m.cols - first), slot = row * groups + g;
    const GroupGrid grid = group_grid(w + first, n, m.precision.symmetric);
    if (grid.scale == kF16Infinity) return false;
    std::memcpy(m.scales.data() + slot * 2, &grid.scale, 2);
    if (!m.precision.symmetric) m.zeros[static_cast<std::size_t>(slot)] = static_cast<std::uint8_t>(grid.zero);
    int4_group(w + first, first, n, grid, m.data.data() + row * row_bytes(m));
  }
  return true;
}

bool float_row(const float* w, std::int64_t row, QuantizedMatrix& m) {
  const DType type = storage_of(m.precision.kind).float_type;
  std::byte* out = m.data.data() + row * row_bytes(m);
  const auto n = static_cast<std::size_t>(m.cols);
  convert_floats(DType::kF32, reinterpret_cast<const std::byte*>(w), type, out, n);
  for (std::size_t i = 0; i < n; ++i)
    if (!std::isfinite(load_as_f64(type, out, i))) return false;
  return true;
}

// False when the row cannot be stored; problem() then says why.
bool quantize_row(const float* w, std::int64_t row, QuantizedMatrix& m) {
  for (std::int64_t i = 0; i < m.cols; ++i)
    if (!std::isfinite(w[i])) return false;
  if (m.precision.kind == Kind::kInt4) return int4_row(w, row, m);
  if (m.precision.kind != Kind::kInt8) return float_row(w, row, m);
  float scale = 0;
  if (!int8_row(w, m.cols, scale, reinterpret_cast<std::int8_t*>(m.data.data() + row * m.cols))) return false;
  std::memcpy(m.scales.data() + row * 4, &scale, 4);
  return true;
}

std::unexpected<Error> problem(const float* w, std::int64_t row, const QuantizedMatrix& m) {
  for (std::int64_t i = 0; i < m.cols; ++i)
    if (!std::isfinite(w[i]))
      return bad_input("quantize.not_finite", fmt::format("weight [{}, {}] is {}", row, i, w[i]));
  const std::string name = m.precision.name();
  if (m.precision.kind != Kind::kInt4) {
    const auto most = std::max_element(w, w + m.cols, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    return bad_input("quantize.overflow",
                     fmt::format("weight [{}, {}] is {}, beyond the range of {}; use f32", row, most - w, *most, name));
  }
  for (std::int64_t first = 0;; first += m.precision.group) {
    const GroupGrid grid = group_grid(w + first, std::min(m.precision.group, m.cols - first), m.precision.symmetric);
    if (grid.scale == kF16Infinity)
      return bad_input(
          "quantize.scale_overflow",
          fmt::format("the weights [{}, {}...] are too large for {}: their scale exceeds 65504, the largest f16; "
                      "use int8, bf16 or f32",
                      row, first, name));
  }
}

void allocate(QuantizedMatrix& m) {
  const auto rows = static_cast<std::size_t>(m.rows);
  m.data.assign(rows * static_cast<std::size_t>(row_bytes(m)), std::byte{0});
  if (m.precision.kind == Kind::kInt8) m.scales.assign(rows * 4, std::byte{0});
  if (m.precision.kind != Kind::kInt4) return;
  const std::size_t groups = rows * static_cast<std::size_t>(groups_per_row(m));
  m.scales.assign(groups * 2, std::byte{0});
  if (!m.precision.symmetric) m.zeros.assign(groups, 0);
}

void dequantize_int4_row(const QuantizedMatrix& m, std::int64_t row, float* out) {
  const std::byte* packed = m.data.data() + row * row_bytes(m);
  const std::int64_t groups = groups_per_row(m);
  for (std::int64_t i = 0; i < m.cols; ++i) {
    const std::int64_t slot = row * groups + i / m.precision.group;
    std::uint16_t scale = 0;
    std::memcpy(&scale, m.scales.data() + slot * 2, 2);
    const int nibble = static_cast<int>(static_cast<unsigned>(packed[i / 2]) >> ((i & 1) * 4)) & 15;
    const int zero = m.zeros.empty() ? 8 : m.zeros[static_cast<std::size_t>(slot)];
    out[i] = static_cast<float>(nibble - zero) * f16_to_f32(scale);  // exact: 5 by 11 significant bits
  }
}

void dequantize_row(const QuantizedMatrix& m, std::int64_t row, float* out) {
  if (m.precision.kind == Kind::kInt4) return dequantize_int4_row(m, row, out);
  const std::byte* data = m.data.data() + row * row_bytes(m);
  if (m.precision.kind != Kind::kInt8)
    return convert_floats(storage_of(m.precision.kind).float_type, data, DType::kF32, reinterpret_cast<std::byte*>(out),
                          static_cast<std::size_t>(m.cols));
  float scale = 0;
  std::memcpy(&scale, m.scales.data() + row * 4, 4);
  for (std::int64_t i = 0; i < m.cols; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(data[i])) * scale;
}

}  // namespace

std::string WeightPrecision::name() const {
  for (const Named& n : kPrecisions)
    if (n.precision.kind == kind &&
        (kind != Kind::kInt4 || (n.precision.group == group && n.precision.symmetric == symmetric)))
      return n.name;
  return fmt::format("int4-g{}-{}", group, symmetric ? "sym" : "asym");
}

Result<WeightPrecision> WeightPrecision::parse(const std::string& name) {
  std::string known;
  for (const Named& n : kPrecisions) {
    if (name == n.name) return n.precision;
    known += (known.empty() ? "" : ", ") + std::string(n.name);
  }
  return fail(ErrorKind::kUsage, "precision.unknown",
              fmt::format("\"{}\" is not a weight precision; valid: {}", name, known));
}

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t rows, std::int64_t cols,
                                 const WeightPrecision& precision) {
  const bool even_group = precision.kind != Kind::kInt4 || (precision.group >= 2 && precision.group % 2 == 0);
  if (rows <= 0 || cols <= 0 || !even_group ||
      weights.size() / static_cast<std::size_t>(cols) != static_cast<std::size_t>(rows) ||
      weights.size() % static_cast<std::size_t>(cols) != 0)
    return fail(ErrorKind::kInternal, "quantize.bad_shape",
                fmt::format("{} weights are not {} x {} (group {})", weights.size(), rows, cols, precision.group));
  QuantizedMatrix out{.precision = precision, .rows = rows, .cols = cols, .data = {}, .scales = {}, .zeros = {}};
  allocate(out);
  std::atomic<std::int64_t> first_bad = rows;  // the lowest row that failed, whatever the order in which rows finish
  tbb::parallel_for(tbb::blocked_range<std::int64_t>(0, rows, 16), [&](const auto& range) {
    for (std::int64_t r = range.begin(); r < range.end(); ++r) {
      if (quantize_row(weights.data() + r * cols, r, out)) continue;
      std::int64_t seen = first_bad.load();
      while (r < seen && !first_bad.compare_exchange_weak(seen, r)) {
      }
    }
  });
  if (const std::int64_t bad = first_bad.load(); bad < rows) return problem(weights.data() + bad * cols, bad, out);
  return out;
}

concord_weight_desc QuantizedMatrix::desc(concord_dtype activation) const {
  concord_weight_desc d{};
  d.struct_size = sizeof(d);
  d.dtype = storage_of(precision.kind).dtype;
  d.rows = rows;
  d.cols = cols;
  d.data = data.data();
  d.scales = scales.empty() ? nullptr : scales.data();
  d.zeros = zeros.empty() ? nullptr : zeros.data();
  d.group = precision.kind == Kind::kInt4 ? static_cast<std::uint32_t>(precision.group) : 0;
  d.activation_dtype = activation;
  return d;
}

void QuantizedMatrix::dequantize(std::span<float> out) const {
  tbb::parallel_for(tbb::blocked_range<std::int64_t>(0, rows, 16), [&](const auto& range) {
    for (std::int64_t r = range.begin(); r < range.end(); ++r) dequantize_row(*this, r, out.data() + r * cols);
  });
}

}  // namespace concord
