#include "model/quantize.hpp"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>

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

// The loops below are written so that the compiler makes vector code of them: no branches, one width per loop, and
// minima and maxima kept in lanes, since it may not reorder them itself.

// The largest magnitude, by the bits: finite floats without their sign are ordered like integers.
float largest(const float* w, std::int64_t n) {
  std::int32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i)
    most = std::max(most, static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(w[i]) & 0x7fffffffu));
  return std::bit_cast<float>(most);
}

// codes[i] = clamp(rne(w[i] / scale) + zero, low, high), each step in float64.
void encode(const float* w, std::int64_t n, double scale, double zero, double low, double high, std::int32_t* codes) {
  for (std::int64_t i = 0; i < n; ++i) {
    double q = rne(static_cast<double>(w[i]) / scale) + zero;
    q = q < low ? low : q;
    q = q > high ? high : q;
    codes[i] = static_cast<std::int32_t>(q);
  }
}
constexpr std::int64_t kCodes = 128;  // encoded at once

// False when 127 * scale, rounded up, is no longer a float32.
bool int8_row(const float* w, std::int64_t cols, float& scale, std::int8_t* q) {
  scale = static_cast<float>(static_cast<double>(largest(w, cols)) / 127.0);
  if (scale == 0) {  // zeros, or so small that the scale underflows
    std::memset(q, 0, static_cast<std::size_t>(cols));
    return true;
  }
  if (!std::isfinite(127.0f * scale)) return false;
  std::int32_t codes[kCodes];
  for (std::int64_t first = 0; first < cols; first += kCodes) {
    const std::int64_t n = std::min(kCodes, cols - first);
    encode(w + first, n, scale, 0, -127, 127, codes);
    for (std::int64_t i = 0; i < n; ++i) q[first + i] = static_cast<std::int8_t>(codes[i]);
  }
  return true;
}

struct GroupGrid {
  std::uint16_t scale = 0;  // f16
  double zero = 0;          // 0..15
  double low = 0;           // smallest q
};

GroupGrid group_grid(const float* w, std::int64_t n, bool symmetric) {
  constexpr std::int64_t kLanes = 8;
  float lows[kLanes] = {}, highs[kLanes] = {};  // zero is always on the grid
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t lanes = std::min(kLanes, n - i);
    if (lanes == kLanes) {
      for (std::int64_t l = 0; l < kLanes; ++l) lows[l] = w[i + l] < lows[l] ? w[i + l] : lows[l];
      for (std::int64_t l = 0; l < kLanes; ++l) highs[l] = w[i + l] > highs[l] ? w[i + l] : highs[l];
    } else {
      for (std::int64_t l = 0; l < lanes; ++l)
        lows[l] = std::min(lows[l], w[i + l]), highs[l] = std::max(highs[l], w[i + l]);
    }
  }
  const double low = *std::min_element(lows, lows + kLanes), high = *std::max_element(highs, highs + kLanes);
  if (symmetric) return {f64_to_f16(std::max(high, -low) / 7.0), 8.0, 1.0};
  GroupGrid g{f64_to_f16((high - low) / 15.0), 0.0, 0.0};
  const double scale = f16_to_f32(g.scale);
  if (scale != 0) g.zero = std::clamp(rne(-low / scale), 0.0, 15.0);
  return g;
}

// Writes n nibbles from column `first` (even) on; a last odd one has zero above it.
void int4_group(const float* w, std::int64_t first, std::int64_t n, const GroupGrid& g, std::byte* row) {
  const double scale = f16_to_f32(g.scale);
  std::int32_t codes[kCodes];
  for (std::int64_t at = 0; at < n; at += kCodes) {
    const std::int64_t count = std::min(kCodes, n - at);
    if (scale == 0)
      std::fill_n(codes, count, static_cast<std::int32_t>(g.zero));
    else
      encode(w + at, count, scale, g.zero, g.low, 15, codes);
    std::byte* out = row + (first + at) / 2;
    for (std::int64_t i = 0; i < count / 2; ++i) out[i] = static_cast<std::byte>(codes[2 * i] | codes[2 * i + 1] << 4);
    if (count % 2 != 0) out[count / 2] = static_cast<std::byte>(codes[count - 1]);
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

template <class Bits>
bool no_full_exponent(std::span<const std::byte> data, Bits exponent) {
  Bits bad = 0;
  for (std::size_t i = 0; i < data.size(); i += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, data.data() + i, sizeof bits);
    bad |= static_cast<Bits>((bits & exponent) == exponent);
  }
  return bad == 0;
}

bool float_row(const float* w, std::int64_t row, QuantizedMatrix& m) {
  const DType type = storage_of(m.precision.kind).float_type;
  const auto bytes = static_cast<std::size_t>(row_bytes(m));
  std::byte* out = m.data.data() + static_cast<std::size_t>(row) * bytes;
  if (reinterpret_cast<const std::byte*>(w) != out)  // a source may have filled the matrix itself
    convert_floats(DType::kF32, reinterpret_cast<const std::byte*>(w), type, out, static_cast<std::size_t>(m.cols));
  return all_finite(type, {out, bytes});
}

// False when the row cannot be stored; problem() then says why.
bool quantize_row(const float* w, std::int64_t row, QuantizedMatrix& m) {
  if (!all_finite(DType::kF32, std::as_bytes(std::span(w, static_cast<std::size_t>(m.cols))))) return false;
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

// Of all rows that failed, the lowest one, whatever the order in which they finish.
struct FirstFailure {
  std::mutex mutex;
  std::int64_t row = std::numeric_limits<std::int64_t>::max();
  std::optional<Error> error;
  void at(std::int64_t where, std::unexpected<Error> why) {
    const std::lock_guard lock(mutex);
    if (where < row) row = where, error = std::move(why).error();
  }
};

void quantize_piece(const RowSource& source, std::int64_t begin, std::int64_t end, QuantizedMatrix& m,
                    FirstFailure& failure) {
  thread_local std::vector<float> scratch;
  float* w = reinterpret_cast<float*>(m.data.data() + begin * row_bytes(m));  // float32 needs no other place
  if (m.precision.kind != Kind::kF32) {
    scratch.resize(std::max(scratch.size(), static_cast<std::size_t>((end - begin) * m.cols)));
    w = scratch.data();
  }
  if (Status read = source(begin, end, w); !read) return failure.at(begin, std::unexpected(std::move(read).error()));
  for (std::int64_t r = begin; r < end; ++r)
    if (const float* row = w + (r - begin) * m.cols; !quantize_row(row, r, m)) return failure.at(r, problem(row, r, m));
}

void allocate(QuantizedMatrix& m) {
  const auto rows = static_cast<std::size_t>(m.rows);
  const std::size_t groups = m.precision.kind == Kind::kInt4 ? rows * static_cast<std::size_t>(groups_per_row(m)) : 0;
  m.data.resize(rows * static_cast<std::size_t>(row_bytes(m)));
  m.scales.resize(m.precision.kind == Kind::kInt8 ? rows * 4 : groups * 2);
  m.zeros.resize(m.precision.symmetric ? 0 : groups);
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

bool all_finite(DType dtype, std::span<const std::byte> data) {
  if (dtype == DType::kF32) return no_full_exponent<std::uint32_t>(data, 0x7f800000u);
  return no_full_exponent<std::uint16_t>(data, dtype == DType::kF16 ? 0x7c00u : 0x7f80u);
}

Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t rows, std::int64_t cols,
                                 const WeightPrecision& precision) {
  if (rows <= 0 || cols <= 0 || weights.size() / static_cast<std::size_t>(cols) != static_cast<std::size_t>(rows) ||
      weights.size() % static_cast<std::size_t>(cols) != 0)
    return fail(ErrorKind::kInternal, "quantize.bad_shape",
                fmt::format("{} weights are not {} x {}", weights.size(), rows, cols));
  const auto copy = [&](std::int64_t begin, std::int64_t end, float* out) -> Status {
    std::copy(weights.begin() + begin * cols, weights.begin() + end * cols, out);
    return {};
  };
  return quantize(copy, rows, cols, precision);
}

Result<QuantizedMatrix> quantize(const RowSource& source, std::int64_t rows, std::int64_t cols,
                                 const WeightPrecision& precision, QuantizedMatrix storage) {
  if (rows <= 0 || cols <= 0 || (precision.kind == Kind::kInt4 && (precision.group < 2 || precision.group % 2 != 0)))
    return fail(ErrorKind::kInternal, "quantize.bad_shape",
                fmt::format("no matrix of {} x {} in groups of {}", rows, cols, precision.group));
  QuantizedMatrix out = std::move(storage);
  out.precision = precision, out.rows = rows, out.cols = cols;
  allocate(out);
  constexpr std::int64_t kPiece = 32768;  // elements decoded at once: they stay in the second-level cache
  const std::int64_t grain = std::max<std::int64_t>(1, kPiece / cols);
  FirstFailure failure;
  tbb::parallel_for(tbb::blocked_range<std::int64_t>(0, rows, grain), [&](const auto& range) {
    for (std::int64_t begin = range.begin(); begin < range.end(); begin += grain)
      quantize_piece(source, begin, std::min(begin + grain, range.end()), out, failure);
  });
  if (failure.error) return std::unexpected(std::move(*failure.error));
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
