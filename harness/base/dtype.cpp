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

namespace {
// The scalar conversions without branches, so that array loops over them become vector code. Equal to them bit for bit.
float widen_f16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, rest = h & 0x7fffu;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(rest)) * 0x1p-24f);
  const std::uint32_t tiny = 0u - static_cast<std::uint32_t>(rest < 0x0400u);     // all ones or all zeros
  const std::uint32_t special = 0u - static_cast<std::uint32_t>(rest >= 0x7c00u);  // infinity or NaN
  const std::uint32_t quiet = (0u - static_cast<std::uint32_t>(rest > 0x7c00u)) & 0x400000u;
  const std::uint32_t normal = (rest << 13) + (112u << 23);  // exponent bias 15 -> 127
  return std::bit_cast<float>(sign | (subnormal & tiny) | (normal & ~tiny) | (special & 0x7f800000u) | quiet);
}

std::uint16_t narrow_f16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const std::uint32_t nan = 0u - static_cast<std::uint32_t>(a > 0x7f800000u);
  const std::uint32_t huge = 0u - static_cast<std::uint32_t>(a >= 0x477ff000u);  // rounds to infinity
  const std::uint32_t tiny = 0u - static_cast<std::uint32_t>(a < 0x38800000u);   // subnormal or zero
  const std::uint32_t small = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a & tiny) + 0.5f) - 0x3f000000u;
  const std::uint32_t normal = (a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
  const std::uint32_t finite = (small & tiny) | (normal & ~tiny);
  return static_cast<std::uint16_t>(sign | (finite & ~huge) | (0x7c00u & huge) | (0x0200u & nan));
}

std::uint16_t narrow_bf16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  const std::uint32_t nan = 0u - static_cast<std::uint32_t>((u & 0x7fffffffu) > 0x7f800000u);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x0040u;
  return static_cast<std::uint16_t>((rounded & ~nan) | (quiet & nan));
}

template <class From, class To, class Convert>
void convert_each(const std::byte* src, std::byte* dst, std::size_t n, Convert convert) {
  for (std::size_t i = 0; i < n; ++i) store_raw<To>(dst, i, convert(load_raw<From>(src, i)));
}

using Half = std::uint16_t;  // the bits of an F16 or BF16
using Conversion = void (*)(const std::byte*, std::byte*, std::size_t);
struct NamedConversion {
  DType from, to;
  Conversion run;
};
// Float holds every F16 and BF16 exactly, so one rounding remains.
constexpr NamedConversion kConversions[] = {
    {DType::kF16, DType::kF32, [](auto* s, auto* d, auto n) { convert_each<Half, float>(s, d, n, widen_f16); }},
    {DType::kBF16, DType::kF32, [](auto* s, auto* d, auto n) { convert_each<Half, float>(s, d, n, bf16_to_f32); }},
    {DType::kF32, DType::kF16, [](auto* s, auto* d, auto n) { convert_each<float, Half>(s, d, n, narrow_f16); }},
    {DType::kF32, DType::kBF16, [](auto* s, auto* d, auto n) { convert_each<float, Half>(s, d, n, narrow_bf16); }},
    {DType::kF16, DType::kBF16,
     [](auto* s, auto* d, auto n) { convert_each<Half, Half>(s, d, n, [](Half h) { return narrow_bf16(widen_f16(h)); }); }},
    {DType::kBF16, DType::kF16,
     [](auto* s, auto* d, auto n) { convert_each<Half, Half>(s, d, n, [](Half h) { return narrow_f16(bf16_to_f32(h)); }); }},
};
}  // namespace

void convert_floats(DType from, const std::byte* src, DType to, std::byte* dst, std::size_t n) {
  if (from == to) {
    std::memcpy(dst, src, n * dtype_bits(to) / 8);
    return;
  }
  for (const NamedConversion& c : kConversions)
    if (c.from == from && c.to == to) return c.run(src, dst, n);
  for (std::size_t i = 0; i < n; ++i) store_from_f64(to, dst, i, load_as_f64(from, src, i));
}

}  // namespace concord
