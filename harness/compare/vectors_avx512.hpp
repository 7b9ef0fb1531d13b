// Sixteen elements at a time in AVX-512. The three vectors_*.hpp offer the same names with the same results, bit for
// bit; exactly one is included by each kernels_*.cpp.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace concord::detail {
namespace {

using Ints = __m512i;     // 16 x uint32
using Floats = __m512;    // 16 x float
using Doubles = __m512d;  // 8 x double
using Mask = __mmask16;

inline Ints splat(std::uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
inline Floats splat_float(float v) { return _mm512_set1_ps(v); }
inline Doubles splat_double(double v) { return _mm512_set1_pd(v); }
inline Ints load32(const std::byte* p) { return _mm512_loadu_si512(p); }
inline Ints load16(const std::byte* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
inline void store(std::uint32_t* p, Ints v) { _mm512_storeu_si512(p, v); }
inline void store(double* p, Doubles v) { _mm512_storeu_pd(p, v); }
inline Doubles load_doubles(const double* p) { return _mm512_loadu_pd(p); }

inline Ints plus(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints minus(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints magnitude(Ints a) { return _mm512_abs_epi32(a); }
inline Ints larger(Ints a, Ints b) { return _mm512_max_epu32(a, b); }
inline Ints smaller(Ints a, Ints b) { return _mm512_min_epu32(a, b); }
inline Ints any_of(Ints a, Ints b) { return _mm512_or_si512(a, b); }
inline Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints differ(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
template <int kBits>
Ints right(Ints a) {
  return _mm512_srli_epi32(a, kBits);
}
template <int kBits>
Ints left(Ints a) {
  return _mm512_slli_epi32(a, kBits);
}

inline Mask at_least(Ints a, Ints b) { return _mm512_cmpge_epu32_mask(a, b); }
inline Mask at_most(Ints a, Ints b) { return _mm512_cmple_epu32_mask(a, b); }
inline Mask equal(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(a, b); }
inline Mask any_bit(Ints a, Ints b) { return _mm512_test_epi32_mask(a, b); }
inline Mask at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline Mask above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline Mask below(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask all_of(Mask a, Mask b) { return a & b; }
inline Mask any_of(Mask a, Mask b) { return a | b; }
inline Mask without(Mask a, Mask b) { return static_cast<Mask>(a & ~b); }
inline bool none(Mask a) { return a == 0; }
inline std::uint32_t bits(Mask a) { return a; }
// How many of both masks' elements are set.
inline std::uint32_t count(Mask a, Mask b) {
  return static_cast<std::uint32_t>(__builtin_popcount(_mm512_kunpackw(b, a)));
}
inline Mask mask_of(std::uint32_t bits) { return static_cast<Mask>(bits); }
inline Ints pick(Mask m, Ints a) { return _mm512_maskz_mov_epi32(m, a); }
inline Ints choose(Mask m, Ints yes, Ints no) { return _mm512_mask_mov_epi32(no, m, yes); }
inline std::uint32_t above_bits(Doubles a, double limit) {
  return _mm512_cmp_pd_mask(a, _mm512_set1_pd(limit), _CMP_GT_OQ);
}

inline Floats as_floats(Ints a) { return _mm512_castsi512_ps(a); }
inline Ints as_ints(Floats a) { return _mm512_castps_si512(a); }
inline Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }  // of integers below 2^24: exact
inline Floats from_half(Ints a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
inline Floats load_half(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Floats round_to_half(Floats a) { return _mm512_cvtph_ps(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
inline Floats minus(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats magnitude(Floats a) { return _mm512_abs_ps(a); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Doubles low(Floats a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a)); }
inline Doubles high(Floats a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)); }
inline Doubles load_widened(const std::byte* p) {
  return _mm512_cvtps_pd(_mm256_loadu_ps(reinterpret_cast<const float*>(p)));
}
inline Doubles plus(Doubles a, Doubles b) { return _mm512_add_pd(a, b); }
inline Doubles minus(Doubles a, Doubles b) { return _mm512_sub_pd(a, b); }
inline Doubles times(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
inline Doubles magnitude(Doubles a) { return _mm512_abs_pd(a); }
inline Doubles larger(Doubles a, Doubles b) { return _mm512_max_pd(a, b); }
// sum + a * b where the product is exact, so that one rounding and two are the same.
inline Doubles add_exact_product(Doubles sum, Doubles a, Doubles b) { return _mm512_fmadd_pd(a, b, sum); }

// The upper halves of the words, less `offset` or 0.
inline void store_upper_halves(std::uint16_t* p, Ints a, std::uint16_t offset) {
  const __m256i upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16));
  _mm256_store_si256(reinterpret_cast<__m256i*>(p),
                     _mm256_subs_epu16(upper, _mm256_set1_epi16(static_cast<short>(offset))));
}

inline std::uint32_t largest(Ints a) { return _mm512_reduce_max_epu32(a); }
inline std::uint32_t sum(Ints a) { return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(a)); }
inline float largest(Floats a) { return _mm512_reduce_max_ps(a); }
inline double largest(Doubles a) { return _mm512_reduce_max_pd(a); }

using Eight = __m256;  // 8 x float
inline Eight load_eight(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Eight v) { _mm256_storeu_ps(p, v); }
inline Eight plus(Eight a, Eight b) { return _mm256_add_ps(a, b); }

}  // namespace
}  // namespace concord::detail
