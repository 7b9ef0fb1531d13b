// Sixteen elements at a time in AVX2 (with FMA and F16C): two registers for each of vectors_avx512.hpp's.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace concord::detail {
namespace {

struct Ints {
  __m256i l, h;
};
struct Floats {
  __m256 l, h;
};
struct Doubles {
  __m256d l, h;
};
struct Mask {
  __m256i l, h;
};

inline Ints splat(std::uint32_t v) {
  const __m256i x = _mm256_set1_epi32(static_cast<int>(v));
  return {x, x};
}
inline Floats splat_float(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
inline Doubles splat_double(double v) { return {_mm256_set1_pd(v), _mm256_set1_pd(v)}; }
inline Ints load32(const std::byte* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
inline Ints load16(const std::byte* p) {
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
}
inline Floats load_floats(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v.l), _mm256_storeu_ps(p + 8, v.h); }
inline void store(std::uint32_t* p, Ints v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.l);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), v.h);
}
inline void store(double* p, Doubles v) { _mm256_storeu_pd(p, v.l), _mm256_storeu_pd(p + 4, v.h); }
inline Doubles load_doubles(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }

inline Ints plus(Ints a, Ints b) { return {_mm256_add_epi32(a.l, b.l), _mm256_add_epi32(a.h, b.h)}; }
inline Ints minus(Ints a, Ints b) { return {_mm256_sub_epi32(a.l, b.l), _mm256_sub_epi32(a.h, b.h)}; }
inline Ints magnitude(Ints a) { return {_mm256_abs_epi32(a.l), _mm256_abs_epi32(a.h)}; }
inline Ints larger(Ints a, Ints b) { return {_mm256_max_epu32(a.l, b.l), _mm256_max_epu32(a.h, b.h)}; }
inline Ints smaller(Ints a, Ints b) { return {_mm256_min_epu32(a.l, b.l), _mm256_min_epu32(a.h, b.h)}; }
inline Ints any_of(Ints a, Ints b) { return {_mm256_or_si256(a.l, b.l), _mm256_or_si256(a.h, b.h)}; }
inline Ints both(Ints a, Ints b) { return {_mm256_and_si256(a.l, b.l), _mm256_and_si256(a.h, b.h)}; }
inline Ints differ(Ints a, Ints b) { return {_mm256_xor_si256(a.l, b.l), _mm256_xor_si256(a.h, b.h)}; }
template <int kBits>
Ints right(Ints a) {
  return {_mm256_srli_epi32(a.l, kBits), _mm256_srli_epi32(a.h, kBits)};
}
template <int kBits>
Ints left(Ints a) {
  return {_mm256_slli_epi32(a.l, kBits), _mm256_slli_epi32(a.h, kBits)};
}

inline Mask equal(Ints a, Ints b) { return {_mm256_cmpeq_epi32(a.l, b.l), _mm256_cmpeq_epi32(a.h, b.h)}; }
inline Mask at_least(Ints a, Ints b) { return equal(larger(a, b), a); }
inline Mask at_most(Ints a, Ints b) { return equal(larger(a, b), b); }
inline Mask without(Mask a, Mask b) { return {_mm256_andnot_si256(b.l, a.l), _mm256_andnot_si256(b.h, a.h)}; }
inline Mask any_bit(Ints a, Ints b) {
  const __m256i ones = _mm256_set1_epi32(-1);
  const Mask zero = equal(both(a, b), splat(0));
  return without({ones, ones}, zero);
}
template <int kRelation>
Mask compare_floats(Floats a, Floats b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.l, b.l, kRelation)),
          _mm256_castps_si256(_mm256_cmp_ps(a.h, b.h, kRelation))};
}
inline Mask at_least(Floats a, Floats b) { return compare_floats<_CMP_GE_OQ>(a, b); }
inline Mask above(Floats a, Floats b) { return compare_floats<_CMP_GT_OQ>(a, b); }
inline Mask below(Floats a, Floats b) { return compare_floats<_CMP_LT_OQ>(a, b); }
inline Mask all_of(Mask a, Mask b) { return {_mm256_and_si256(a.l, b.l), _mm256_and_si256(a.h, b.h)}; }
inline Mask any_of(Mask a, Mask b) { return {_mm256_or_si256(a.l, b.l), _mm256_or_si256(a.h, b.h)}; }
inline std::uint32_t bits(Mask a) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(a.l)) |
                                    _mm256_movemask_ps(_mm256_castsi256_ps(a.h)) << 8);
}
inline bool none(Mask a) {
  const __m256i any = _mm256_or_si256(a.l, a.h);
  return _mm256_testz_si256(any, any);
}
inline std::uint32_t count(Mask a, Mask b) {
  return static_cast<std::uint32_t>(__builtin_popcount(bits(a) | bits(b) << 16));
}
inline Mask mask_of(std::uint32_t bits) {
  const __m256i l = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), h = _mm256_slli_epi32(l, 8);
  const __m256i v = _mm256_set1_epi32(static_cast<int>(bits));
  return {_mm256_cmpeq_epi32(_mm256_and_si256(v, l), l), _mm256_cmpeq_epi32(_mm256_and_si256(v, h), h)};
}
inline Ints pick(Mask m, Ints a) { return {_mm256_and_si256(m.l, a.l), _mm256_and_si256(m.h, a.h)}; }
inline Ints choose(Mask m, Ints yes, Ints no) {
  return {_mm256_blendv_epi8(no.l, yes.l, m.l), _mm256_blendv_epi8(no.h, yes.h, m.h)};
}
inline std::uint32_t above_bits(Doubles a, double limit) {
  const __m256d v = _mm256_set1_pd(limit);
  return static_cast<std::uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(a.l, v, _CMP_GT_OQ)) |
                                    _mm256_movemask_pd(_mm256_cmp_pd(a.h, v, _CMP_GT_OQ)) << 4);
}

inline Floats as_floats(Ints a) { return {_mm256_castsi256_ps(a.l), _mm256_castsi256_ps(a.h)}; }
inline Ints as_ints(Floats a) { return {_mm256_castps_si256(a.l), _mm256_castps_si256(a.h)}; }
inline Floats to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.l), _mm256_cvtepi32_ps(a.h)}; }
inline __m128i narrow(__m256i a) { return _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)); }
inline Floats from_half(Ints a) { return {_mm256_cvtph_ps(narrow(a.l)), _mm256_cvtph_ps(narrow(a.h))}; }
inline Floats load_half(const std::byte* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
}
inline Floats round_to_half(Floats a) {
  return {_mm256_cvtph_ps(_mm256_cvtps_ph(a.l, _MM_FROUND_TO_NEAREST_INT)),
          _mm256_cvtph_ps(_mm256_cvtps_ph(a.h, _MM_FROUND_TO_NEAREST_INT))};
}
inline Floats minus(Floats a, Floats b) { return {_mm256_sub_ps(a.l, b.l), _mm256_sub_ps(a.h, b.h)}; }
inline Floats magnitude(Floats a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.l), _mm256_andnot_ps(sign, a.h)};
}
inline Floats larger(Floats a, Floats b) { return {_mm256_max_ps(a.l, b.l), _mm256_max_ps(a.h, b.h)}; }
inline Doubles widen(__m256 a) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
}
inline Doubles low(Floats a) { return widen(a.l); }
inline Doubles high(Floats a) { return widen(a.h); }
inline Doubles load_widened(const std::byte* p) { return widen(_mm256_loadu_ps(reinterpret_cast<const float*>(p))); }
inline Doubles plus(Doubles a, Doubles b) { return {_mm256_add_pd(a.l, b.l), _mm256_add_pd(a.h, b.h)}; }
inline Doubles minus(Doubles a, Doubles b) { return {_mm256_sub_pd(a.l, b.l), _mm256_sub_pd(a.h, b.h)}; }
inline Doubles times(Doubles a, Doubles b) { return {_mm256_mul_pd(a.l, b.l), _mm256_mul_pd(a.h, b.h)}; }
inline Doubles magnitude(Doubles a) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  return {_mm256_andnot_pd(sign, a.l), _mm256_andnot_pd(sign, a.h)};
}
inline Doubles larger(Doubles a, Doubles b) { return {_mm256_max_pd(a.l, b.l), _mm256_max_pd(a.h, b.h)}; }
inline Doubles add_exact_product(Doubles sum, Doubles a, Doubles b) {
  return {_mm256_fmadd_pd(a.l, b.l, sum.l), _mm256_fmadd_pd(a.h, b.h, sum.h)};
}

inline void store_upper_halves(std::uint16_t* p, Ints a, std::uint16_t offset) {
  const __m256i less = _mm256_set1_epi16(static_cast<short>(offset));
  const __m256i upper = _mm256_packus_epi32(_mm256_srli_epi32(a.l, 16), _mm256_srli_epi32(a.h, 16));
  // Packing works within halves of a register: the quarters come out as 0, 2, 1, 3.
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(_mm256_subs_epu16(upper, less), 0xd8));
}

template <class T, int kCount>
T largest_of(const T (&v)[kCount]) {
  T most = v[0];
  for (T x : v) most = most > x ? most : x;
  return most;
}
inline std::uint32_t largest(Ints a) {
  alignas(32) std::uint32_t v[16];
  store(v, a);
  return largest_of(v);
}
inline std::uint32_t sum(Ints a) {
  alignas(32) std::uint32_t v[16];
  store(v, a);
  std::uint32_t total = 0;
  for (std::uint32_t x : v) total += x;
  return total;
}
inline float largest(Floats a) {
  alignas(32) float v[16];
  store(v, a);
  return largest_of(v);
}
inline double largest(Doubles a) {
  alignas(32) double v[8];
  store(v, a);
  return largest_of(v);
}

using Eight = __m256;  // 8 x float
inline Eight load_eight(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Eight v) { _mm256_storeu_ps(p, v); }
inline Eight plus(Eight a, Eight b) { return _mm256_add_ps(a, b); }

}  // namespace
}  // namespace concord::detail
