// The vectors of one instruction set under one set of names, for the kernel sources that are compiled once per set.
// Needs CONCORD_LANES (16: AVX-512, 8: AVX2, 4: SSE2) and CONCORD_FMA. Everything has internal linkage: a function that
// is shared with another file could otherwise be taken from the copy that was compiled for a newer processor.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "scalar.hpp"

namespace cpu {
namespace {

constexpr std::size_t kVec = CONCORD_LANES;  // float32 numbers in a vector

#if CONCORD_LANES == 16
using Vec = __m512;
using Ints = __m512i;
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec all(float f) { return _mm512_set1_ps(f); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec load_f16(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_bf16(const std::uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Vec load_i8(const std::int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vec load_u8(const std::uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
// The four bits at `shift` of every lane, as a float: a table look-up, which reads no more than four bits.
inline Vec nibble(Ints v, int shift) {
  const Vec table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_ps(_mm512_srli_epi32(v, static_cast<unsigned>(shift)), table);
}
#elif CONCORD_LANES == 8
using Vec = __m256;
using Ints = __m256i;
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec all(float f) { return _mm256_set1_ps(f); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec load_f16(const std::uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load_bf16(const std::uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline Vec load_i8(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Vec load_u8(const std::uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Ints load_ints(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Vec nibble(Ints v, int shift) {
  return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(v, shift), _mm256_set1_epi32(15)));
}
#elif CONCORD_LANES == 4
using Vec = __m128;
using Ints = __m128i;
inline Vec zero() { return _mm_setzero_ps(); }
inline Vec all(float f) { return _mm_set1_ps(f); }
inline Vec load(const float* p) { return _mm_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm_storeu_ps(p, v); }
inline Vec add(Vec a, Vec b) { return _mm_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm_mul_ps(a, b); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
template <class T, class F>
Vec four(const T* p, F widen) {
  return _mm_setr_ps(widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3]));
}
inline Vec load_f16(const std::uint16_t* p) { return four(p, widen_f16); }
inline Vec load_bf16(const std::uint16_t* p) {
  return _mm_castsi128_ps(
      _mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Vec load_i8(const std::int8_t* p) {
  return four(p, [](std::int8_t v) { return static_cast<float>(v); });
}
inline Vec load_u8(const std::uint8_t* p) {
  return four(p, [](std::uint8_t v) { return static_cast<float>(v); });
}
inline Ints load_ints(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Vec nibble(Ints v, int shift) {
  return _mm_cvtepi32_ps(_mm_and_si128(_mm_srli_epi32(v, shift), _mm_set1_epi32(15)));
}
#endif

}  // namespace
}  // namespace cpu
