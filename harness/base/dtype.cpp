#include "base/dtype.hpp"

#include <cassert>
#include <cmath>

namespace concord {

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& info : kDTypes)
    if (info.name == name) return info.dtype;
  return std::nullopt;
}

float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0u));
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

namespace {

// Rounds |d| to a format with `p` stored mantissa bits, smallest normal exponent `emin`, largest finite exponent `emax`.
// Returns the bit pattern without the sign. Ties to even; overflow gives infinity.
std::uint16_t round_magnitude(double a, int p, int emin, int emax) {
  const std::uint16_t infinity = static_cast<std::uint16_t>((emax - emin + 2) << p);
  if (std::isinf(a)) return infinity;
  if (a == 0) return 0;
  int exponent = std::ilogb(a);
  if (exponent < emin) exponent = emin;              // subnormal: fixed quantum
  const double scaled = std::ldexp(a, p - exponent);  // exact: power-of-two scaling in double
  const double rounded = std::nearbyint(scaled);      // default mode: nearest, ties to even
  const auto integer = static_cast<std::uint32_t>(rounded);  // <= 2^(p+1)
  // Bits: exponent field times 2^p plus mantissa; the carry of rounding up to 2^(p+1) lands in the exponent by itself.
  std::uint32_t bits = integer;
  if (exponent > emin || integer >= (1u << p))
    bits = (static_cast<std::uint32_t>(exponent - emin + 1) << p) + (integer - (1u << p));
  return bits >= infinity ? infinity : static_cast<std::uint16_t>(bits);
}

}  // namespace

std::uint16_t f64_to_f16(double d) {
  const std::uint16_t sign = std::signbit(d) ? 0x8000u : 0u;
  if (std::isnan(d)) return static_cast<std::uint16_t>(sign | 0x7e00u);
  return static_cast<std::uint16_t>(sign | round_magnitude(std::fabs(d), 10, -14, 15));
}

std::uint16_t f64_to_bf16(double d) {
  const std::uint16_t sign = std::signbit(d) ? 0x8000u : 0u;
  if (std::isnan(d)) return static_cast<std::uint16_t>(sign | 0x7fc0u);
  return static_cast<std::uint16_t>(sign | round_magnitude(std::fabs(d), 7, -126, 127));
}

std::uint16_t f32_to_f16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  const std::uint16_t sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (a >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
  if (a < 0x38800000u) {  // below 2^-14: adding 0.5 aligns the value to the subnormal quantum 2^-24 and rounds it
    const float shifted = std::bit_cast<float>(a) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = a + 0xfffu + ((a >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

namespace {
template <class T>
T load_raw(const std::byte* data, std::size_t i) {
  T v;
  std::memcpy(&v, data + i * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void store_raw(std::byte* data, std::size_t i, T v) {
  std::memcpy(data + i * sizeof(T), &v, sizeof(T));
}
}  // namespace

double load_as_f64(DType d, const std::byte* data, std::size_t i) {
  switch (d) {
    case DType::kF16: return f16_to_f32(load_raw<std::uint16_t>(data, i));
    case DType::kBF16: return bf16_to_f32(load_raw<std::uint16_t>(data, i));
    case DType::kF32: return load_raw<float>(data, i);
    case DType::kF64: return load_raw<double>(data, i);
    default: assert(false && "load_as_f64 takes float types"); return 0;
  }
}

void store_from_f64(DType d, std::byte* data, std::size_t i, double v) {
  switch (d) {
    case DType::kF16: store_raw(data, i, f64_to_f16(v)); return;
    case DType::kBF16: store_raw(data, i, f64_to_bf16(v)); return;
    case DType::kF32: store_raw(data, i, static_cast<float>(v)); return;
    case DType::kF64: store_raw(data, i, v); return;
    default: assert(false && "store_from_f64 takes float types");
  }
}

void convert_floats(DType from, const std::byte* src, DType to, std::byte* dst, std::size_t n) {
  if (from == to) {
    std::memcpy(dst, src, n * dtype_bits(to) / 8);
    return;
  }
  if (from != DType::kF64 && to != DType::kF64) {  // float holds every source exactly, so one rounding remains
    for (std::size_t i = 0; i < n; ++i) {
      const float v = from == DType::kF32   ? load_raw<float>(src, i)
                      : from == DType::kF16 ? f16_to_f32(load_raw<std::uint16_t>(src, i))
                                            : bf16_to_f32(load_raw<std::uint16_t>(src, i));
      if (to == DType::kF32) store_raw(dst, i, v);
      else store_raw(dst, i, to == DType::kF16 ? f32_to_f16(v) : f32_to_bf16(v));
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) store_from_f64(to, dst, i, load_as_f64(from, src, i));
}

}  // namespace concord
