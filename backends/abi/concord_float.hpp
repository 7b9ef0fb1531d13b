// Storage types of the ABI as numbers: exact widening, and narrowing with exactly one rounding (nearest, ties to even).
// Header-only C++20, shared by the plug-ins; nothing here depends on the processor.
#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "abi/concord_backend.h"

namespace concord_abi {

// Bytes per element; 0 for CONCORD_U4, which has no byte per element, and for unknown values.
constexpr std::size_t dtype_bytes(std::uint32_t dtype) {
  switch (dtype) {
    case CONCORD_F64:
      return 8;
    case CONCORD_F32:
    case CONCORD_I32:
      return 4;
    case CONCORD_F16:
    case CONCORD_BF16:
      return 2;
    case CONCORD_I8:
      return 1;
    default:
      return 0;
  }
}
constexpr const char* dtype_name(std::uint32_t dtype) {
  constexpr const char* kNames[] = {"F32", "F16", "BF16", "F64", "I32", "I8", "U4"};
  return dtype < 7 ? kNames[dtype] : "unknown dtype";
}
constexpr bool is_float(std::uint32_t d) {
  return d == CONCORD_F32 || d == CONCORD_F16 || d == CONCORD_BF16 || d == CONCORD_F64;
}

inline float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x400u) {  // subnormal: magnitude * 2^-24, exact
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
}
inline float bf16_to_f32(std::uint16_t b) { return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16); }

inline std::uint16_t f32_to_bf16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline std::uint16_t f32_to_f16(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f), magnitude = u & 0x7fffffffu;
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // subnormal result: adding 1/2 puts the quantum 2^-24 at the last mantissa bit
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u));
  }
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

// The float next to d whose last bit says that something was cut off (round to odd, Boldo and Melquiond 2008): rounding
// it again to a format at least two bits narrower gives the correct rounding of d itself.
inline float round_to_odd(double d) {
  const float f = static_cast<float>(d);
  if (std::isnan(f) || std::isinf(f) || static_cast<double>(f) == d) return f;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(f);
  if (bits & 1u) return f;
  return std::bit_cast<float>(std::fabs(static_cast<double>(f)) > std::fabs(d) ? bits - 1u : bits + 1u);
}
inline std::uint16_t f64_to_f16(double d) { return f32_to_f16(round_to_odd(d)); }
inline std::uint16_t f64_to_bf16(double d) { return f32_to_bf16(round_to_odd(d)); }

template <class T>
T load_as(const std::byte* p, std::size_t i) {
  T v;
  std::memcpy(&v, p + i * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void store_as(std::byte* p, std::size_t i, T v) {
  std::memcpy(p + i * sizeof(T), &v, sizeof(T));
}

// n elements from src, widened exactly to double.
inline void load_f64(std::uint32_t dtype, const std::byte* src, std::size_t n, double* out) {
  switch (dtype) {
    case CONCORD_F64:
      std::memcpy(out, src, n * 8);
      return;
    case CONCORD_F32:
      for (std::size_t i = 0; i < n; ++i) out[i] = load_as<float>(src, i);
      return;
    case CONCORD_F16:
      for (std::size_t i = 0; i < n; ++i) out[i] = f16_to_f32(load_as<std::uint16_t>(src, i));
      return;
    default:
      for (std::size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load_as<std::uint16_t>(src, i));
  }
}
// n doubles to dst, each rounded once.
inline void store_f64(std::uint32_t dtype, const double* in, std::size_t n, std::byte* dst) {
  switch (dtype) {
    case CONCORD_F64:
      std::memcpy(dst, in, n * 8);
      return;
    case CONCORD_F32:
      for (std::size_t i = 0; i < n; ++i) store_as(dst, i, static_cast<float>(in[i]));
      return;
    case CONCORD_F16:
      for (std::size_t i = 0; i < n; ++i) store_as(dst, i, f64_to_f16(in[i]));
      return;
    default:
      for (std::size_t i = 0; i < n; ++i) store_as(dst, i, f64_to_bf16(in[i]));
  }
}
// The same for float; dtype is F32, F16 or BF16.
inline void load_f32(std::uint32_t dtype, const std::byte* src, std::size_t n, float* out) {
  switch (dtype) {
    case CONCORD_F32:
      std::memcpy(out, src, n * 4);
      return;
    case CONCORD_F16:
      for (std::size_t i = 0; i < n; ++i) out[i] = f16_to_f32(load_as<std::uint16_t>(src, i));
      return;
    default:
      for (std::size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load_as<std::uint16_t>(src, i));
  }
}
inline void store_f32(std::uint32_t dtype, const float* in, std::size_t n, std::byte* dst) {
  switch (dtype) {
    case CONCORD_F32:
      std::memcpy(dst, in, n * 4);
      return;
    case CONCORD_F16:
      for (std::size_t i = 0; i < n; ++i) store_as(dst, i, f32_to_f16(in[i]));
      return;
    default:
      for (std::size_t i = 0; i < n; ++i) store_as(dst, i, f32_to_bf16(in[i]));
  }
}

// One head of an I8 cache row (concord_backend.h), all in float32: returns its scale.
inline float quantise_head(const float* x, std::size_t n, std::int8_t* out) {
  float largest = 0;
  bool finite = true;
  for (std::size_t i = 0; i < n; ++i) finite = finite && std::isfinite(x[i]), largest = std::fmax(largest, std::fabs(x[i]));
  const float scale = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
  for (std::size_t i = 0; i < n; ++i)
    out[i] = scale > 0 ? static_cast<std::int8_t>(std::nearbyint(x[i] / scale)) : std::int8_t{0};
  return scale;
}

}  // namespace concord_abi
