// The kernels as one source. Define CONCORD_LANES, CONCORD_FMA (0 or 1), CONCORD_KERNELS and CONCORD_KERNELS_NAME, then
// include. Internal linkage throughout, compiler builtins instead of the standard library: a function that is shared
// with another file could otherwise be taken from the copy that was compiled for a newer processor.
#include "kernels.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace cpu {
namespace {

constexpr std::size_t kLanes = CONCORD_LANES;

inline float multiply_add(float a, float b, float c) {
#if CONCORD_FMA
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// exp, tanh and erfc. Without lanes they are taken in double and rounded, which leaves nothing to the C library's float
// code paths.
#if CONCORD_LANES == 1
inline float exp_of(float x) { return static_cast<float>(__builtin_exp(static_cast<double>(x))); }
inline float tanh_of(float x) { return static_cast<float>(__builtin_tanh(static_cast<double>(x))); }
inline float erfc_of(float x) { return static_cast<float>(__builtin_erfc(static_cast<double>(x))); }
#else
inline float exp_of(float x) { return __builtin_expf(x); }
inline float tanh_of(float x) { return __builtin_tanhf(x); }
inline float erfc_of(float x) { return __builtin_erfcf(x); }
#endif

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

void load(std::uint32_t dtype, const void* src, std::size_t n, float* out) {
  if (dtype == 0) {
    __builtin_memcpy(out, src, n * 4);
    return;
  }
  const auto* in = static_cast<const std::uint16_t*>(src);
  if (dtype == 2) {
    for (std::size_t i = 0; i < n; ++i) out[i] = from_bits(static_cast<std::uint32_t>(in[i]) << 16);
    return;
  }
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#endif
  for (; i < n; ++i) out[i] = widen_f16(in[i]);
}

void store(std::uint32_t dtype, const float* in, std::size_t n, void* dst) {
  if (dtype == 0) {
    if (dst != in) __builtin_memcpy(dst, in, n * 4);
    return;
  }
  auto* out = static_cast<std::uint16_t*>(dst);
  if (dtype == 2) {
    for (std::size_t i = 0; i < n; ++i) out[i] = narrow_bf16(in[i]);
    return;
  }
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; ++i) out[i] = narrow_f16(in[i]);
}

// Adds the lanes as a binary tree: lane l and lane l + width/2, then half of that, down to one.
inline float tree(float* lane) {
  for (std::size_t width = kLanes / 2; width > 0; width /= 2)
    for (std::size_t l = 0; l < width; ++l) lane[l] += lane[l + width];
  return lane[0];
}

// Sum of term(i) for i in [0, n) in lanes; step(acc, i) returns acc with term i added.
template <class Step>
inline float reduce(std::size_t n, Step step) {
  float lane[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::size_t l = 0; l < kLanes; ++l) lane[l] = step(lane[l], i + l);
  for (std::size_t l = 0; i < n; ++i, ++l) lane[l] = step(lane[l], i);
  return tree(lane);
}

float max(const float* x, std::size_t n) {
  float best = x[0];
  for (std::size_t i = 0; i < n; ++i) best = (x[i] > best || x[i] != x[i]) ? x[i] : best;
  return best;
}
float sum(const float* x, std::size_t n) {
  return reduce(n, [=](float acc, std::size_t i) { return acc + x[i]; });
}
float sum_squares(const float* x, float centre, std::size_t n) {
  return reduce(n, [=](float acc, std::size_t i) { return multiply_add(x[i] - centre, x[i] - centre, acc); });
}
float dot(const float* a, const float* b, std::size_t n) {
  return reduce(n, [=](float acc, std::size_t i) { return multiply_add(a[i], b[i], acc); });
}
void axpy(float a, const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = multiply_add(a, x[i], y[i]);
}
void normalise(float* x, float centre, float scale, const float* gain, const float* shift, std::size_t n) {
  if (shift)
    for (std::size_t i = 0; i < n; ++i) x[i] = multiply_add((x[i] - centre) * scale, gain[i], shift[i]);
  else
    for (std::size_t i = 0; i < n; ++i) x[i] = (x[i] - centre) * scale * gain[i];
}
float exp_sum(float* x, float shift, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = exp_of(x[i] - shift);
  return sum(x, n);
}
void divide(float* x, float by, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] /= by;
}
void rotate(float* x, const float* cos, const float* sin, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = multiply_add(a, cos[i], -(b * sin[i]));
    x[i + half] = multiply_add(b, cos[i], a * sin[i]);
  }
}
void add(const float* a, const float* b, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
void swiglu(const float* gate, const float* up, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = gate[i] / (1.0f + exp_of(-gate[i])) * up[i];
}
void gelu(const float* x, float* y, std::size_t n, bool tanh_form) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = x[i];
    if (tanh_form)
      y[i] = 0.5f * v * (1.0f + tanh_of(0.7978845608f * multiply_add(0.044715f * v * v, v, v)));
    else
      y[i] = 0.5f * v * erfc_of(v * -0.7071067812f);
  }
}

}  // namespace

const Kernels CONCORD_KERNELS = {CONCORD_KERNELS_NAME,
                                 load,
                                 store,
                                 max,
                                 sum,
                                 sum_squares,
                                 dot,
                                 axpy,
                                 normalise,
                                 exp_sum,
                                 divide,
                                 rotate,
                                 add,
                                 swiglu,
                                 gelu};

}  // namespace cpu
