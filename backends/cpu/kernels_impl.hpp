// The kernels as one source. Define CONCORD_LANES, CONCORD_FMA (0 or 1), CONCORD_KERNELS and CONCORD_KERNELS_NAME, then
// include. Internal linkage throughout, compiler builtins instead of the standard library: a function that is shared
// with another file could otherwise be taken from the copy that was compiled for a newer processor.
#include "kernels.hpp"
#include "scalar.hpp"

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
// exp without a branch or a call, so that loops over it become vector code: n = rint(x / ln 2), r = x - n ln 2 in two
// parts (Cody and Waite 1980), the Taylor polynomial of degree 7 (its remainder is below 2^-27 for |r| <= ln 2 / 2), and
// 2^n in two factors, so that results below the normal numbers are rounded once. Error below 1 ulp.
inline float exp_of(float x) {
  const float bounded = x < -110.0f ? -110.0f : (x > 100.0f ? 100.0f : x);  // exp is 0 or infinite there; NaN stays
  constexpr float kRound = 12582912.0f;                                     // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = multiply_add(bounded, 0x1.715476p+0f, kRound), n = shifted - kRound;
  const float r = multiply_add(n, -0x1.7f7d1cp-20f, multiply_add(n, -0x1.62e4p-1f, bounded));
  float p = 0x1.a01a02p-13f;
  p = multiply_add(p, r, 0x1.6c16c2p-10f);
  p = multiply_add(p, r, 0x1.111112p-7f);
  p = multiply_add(p, r, 0x1.555556p-5f);
  p = multiply_add(p, r, 0x1.555556p-3f);
  p = multiply_add(p, r, 0.5f);
  p = multiply_add(r * r, p, r) + 1.0f;
  const auto whole = static_cast<std::int32_t>(to_bits(shifted) - 0x4b400000u), half = whole >> 1;
  const float low = from_bits(static_cast<std::uint32_t>(half + 127) << 23),
              high = from_bits(static_cast<std::uint32_t>(whole - half + 127) << 23);
  return p * low * high;
}
inline float tanh_of(float x) { return __builtin_tanhf(x); }
inline float erfc_of(float x) { return __builtin_erfcf(x); }
#endif

void load(std::uint32_t dtype, const void* src, std::size_t n, float* out) {
  if (dtype == 0) {
    __builtin_memcpy(out, src, n * 4);
    return;
  }
  const auto* in = static_cast<const std::uint16_t*>(src);
  if (dtype == 2) {
    std::size_t i = 0;
#if defined(__AVX512BW__)
    for (; i + 16 <= n; i += 16) {
      const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i)));
      _mm512_storeu_si512(out + i, _mm512_slli_epi32(wide, 16));
    }
#endif
    for (; i < n; ++i) out[i] = from_bits(static_cast<std::uint32_t>(in[i]) << 16);
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
    std::size_t i = 0;
#if defined(__AVX512BW__)
    for (; i + 16 <= n; i += 16) {  // narrow_bf16, sixteen at a time
      const __m512 v = _mm512_loadu_ps(in + i);
      const __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
      const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
      const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
      const __m512i result = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), high, _mm512_set1_epi32(0x40));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm512_cvtepi32_epi16(result));
    }
#endif
    for (; i < n; ++i) out[i] = narrow_bf16(in[i]);
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

// Without a branch; which lane an element goes to does not matter to a maximum.
float max(const float* x, std::size_t n) {
  float lane[kLanes];
  std::uint32_t strange[kLanes] = {};
  for (std::size_t l = 0; l < kLanes; ++l) lane[l] = -__builtin_inff();
  const auto take = [&](std::size_t l, float v) {
    lane[l] = v > lane[l] ? v : lane[l];
    strange[l] |= v != v;
  };
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::size_t l = 0; l < kLanes; ++l) take(l, x[i + l]);
  for (; i < n; ++i) take(0, x[i]);
  float best = lane[0];
  std::uint32_t any = 0;
  for (std::size_t l = 0; l < kLanes; ++l) best = lane[l] > best ? lane[l] : best, any |= strange[l];
  return any ? __builtin_nanf("") : best;
}
float sum(const float* x, std::size_t n) {
  return reduce(n, [=](float acc, std::size_t i) { return acc + x[i]; });
}
float sum_squares(const float* x, float centre, std::size_t n) {
  return reduce(n, [=](float acc, std::size_t i) { return multiply_add(x[i] - centre, x[i] - centre, acc); });
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
// One head of a cache row as int8 (concord_backend.h): returns its scale.
float quantize(const float* x, std::size_t n, std::int8_t* out) {
  float largest = 0;
  bool fine = true;
  for (std::size_t i = 0; i < n; ++i) {
    const float size = __builtin_fabsf(x[i]);
    largest = size > largest ? size : largest;
    fine &= x[i] - x[i] == 0.0f;
  }
  const float scale = fine ? largest / 127.0f : __builtin_nanf("");
  for (std::size_t i = 0; i < n; ++i) {
    const float q = fine && scale > 0 ? x[i] / scale : 0.0f;
    out[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(to_bits(q + 12582912.0f) - 0x4b400000u));
  }
  return scale;
}
// A tile's sums to results: the row's scale, then the bias.
void finish(const float* sums, const float* scales, const float* bias, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = scales ? sums[i] * scales[i] : sums[i];
    y[i] = bias ? v + bias[i] : v;
  }
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
}  // namespace cpu

#include "attention_impl.hpp"

namespace cpu {

const Kernels CONCORD_KERNELS = {CONCORD_KERNELS_NAME,
                                 load,
                                 store,
                                 max,
                                 sum,
                                 sum_squares,
                                 normalise,
                                 exp_sum,
                                 divide,
                                 rotate,
                                 add,
                                 swiglu,
                                 gelu,
                                 quantize,
                                 finish,
                                 attend};

}  // namespace cpu
