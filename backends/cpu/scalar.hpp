// Storage types as float32, without the processor's help, for the kernel sources: internal linkage, so that no copy
// compiled for a newer processor is shared with another file.
#pragma once
#include <cstdint>

namespace cpu {
namespace {

inline float from_bits(std::uint32_t u) { return __builtin_bit_cast(float, u); }
inline std::uint32_t to_bits(float f) { return __builtin_bit_cast(std::uint32_t, f); }

inline float widen_f16(std::uint16_t h) {
  const std::uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
  const std::uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
  return from_bits(sign | (magnitude < 0x400u ? to_bits(subnormal) : normal));
}
inline std::uint16_t narrow_f16(float f) {
  const std::uint32_t u = to_bits(f), magnitude = u & 0x7fffffffu;
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t small = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  std::uint32_t r = magnitude < 0x38800000u ? small : normal;
  r = magnitude >= 0x477ff000u ? 0x7c00u : r;
  return static_cast<std::uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : r));
}
inline std::uint16_t narrow_bf16(float f) {
  const std::uint32_t u = to_bits(f);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
}

}  // namespace
}  // namespace cpu
