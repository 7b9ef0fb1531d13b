// Storage types as numbers on the device: exact widening to float, narrowing with one rounding to nearest even.
#pragma once
#include "gpu/runtime.hpp"
#if defined(CONCORD_GPU_EMULATED)
#include "abi/concord_float.hpp"
#endif

namespace CONCORD_GPU {

struct F16 {
  std::uint16_t bits;
};
struct BF16 {
  std::uint16_t bits;
};

GPU_DEVICE float bits_to_float(std::uint32_t u) {
#if defined(CONCORD_GPU_EMULATED)
  return std::bit_cast<float>(u);
#else
  return __uint_as_float(u);
#endif
}
GPU_DEVICE std::uint32_t float_to_bits(float f) {
#if defined(CONCORD_GPU_EMULATED)
  return std::bit_cast<std::uint32_t>(f);
#else
  return __float_as_uint(f);
#endif
}

GPU_DEVICE float to_float(float v) { return v; }
GPU_DEVICE float to_float(std::int8_t v) { return static_cast<float>(v); }
GPU_DEVICE float to_float(BF16 v) { return bits_to_float(static_cast<std::uint32_t>(v.bits) << 16); }
GPU_DEVICE float to_float(F16 v) {
#if defined(CONCORD_GPU_EMULATED)
  return concord_abi::f16_to_f32(v.bits);
#else
  return __half2float(__ushort_as_half(v.bits));
#endif
}

template <class T>
GPU_DEVICE T from_float(float v);
template <>
GPU_DEVICE float from_float<float>(float v) {
  return v;
}
template <>
GPU_DEVICE BF16 from_float<BF16>(float v) {
  const std::uint32_t u = float_to_bits(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
template <>
GPU_DEVICE F16 from_float<F16>(float v) {
#if defined(CONCORD_GPU_EMULATED)
  return {concord_abi::f32_to_f16(v)};
#else
  return {__half_as_ushort(__float2half_rn(v))};
#endif
}

// SWIGLU, and MATMUL with CONCORD_GATED, which has its bits.
GPU_DEVICE float swiglu_of(float gate, float up) {
  return gate / (1.0f + expf(-gate)) * up;  // e^-gate may be infinite: 0 then
}

// Calls f with a value of the type that an activation's dtype (F32, F16 or BF16) stands for: on_float(dtype, [&](auto zero) { using T = decltype(zero); ... }).
template <class F>
auto on_float(std::uint32_t dtype, const F& f) {
  return dtype == 0 ? f(float{}) : dtype == 1 ? f(F16{}) : f(BF16{});  // CONCORD_F32, CONCORD_F16, CONCORD_BF16
}

}  // namespace CONCORD_GPU
