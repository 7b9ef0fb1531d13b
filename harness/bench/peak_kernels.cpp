#include "bench/peak_kernels.hpp"

#include <immintrin.h>

#include <cstring>

// Twelve accumulators: more than latency times throughput of a fused multiply-add on every processor these instruction
// sets exist on, and few enough to stay in sixteen registers beside the operands. factor and addend arrive at run time,
// so that nothing can be folded.
namespace concord::bench {
namespace {

constexpr int kChains = 12;

float sse2(std::uint64_t rounds, float factor, float addend) {
  __m128 m[kChains / 2], s[kChains / 2];
  const __m128 f = _mm_set1_ps(factor), a = _mm_set1_ps(addend);
  for (int i = 0; i < kChains / 2; ++i) m[i] = s[i] = _mm_set1_ps(static_cast<float>(i));
  for (std::uint64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 6
    for (int i = 0; i < kChains / 2; ++i) {
      m[i] = _mm_mul_ps(m[i], f);
      s[i] = _mm_add_ps(s[i], a);
    }
  }
  __m128 sum = _mm_setzero_ps();
  for (int i = 0; i < kChains / 2; ++i) sum = _mm_add_ps(sum, _mm_add_ps(m[i], s[i]));
  return _mm_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) float avx2(std::uint64_t rounds, float factor, float addend) {
  __m256 s[kChains];
  const __m256 f = _mm256_set1_ps(factor), a = _mm256_set1_ps(addend);
  for (int i = 0; i < kChains; ++i) s[i] = _mm256_set1_ps(static_cast<float>(i));
  for (std::uint64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) s[i] = _mm256_fmadd_ps(s[i], f, a);
  }
  __m256 sum = s[0];
  for (int i = 1; i < kChains; ++i) sum = _mm256_add_ps(sum, s[i]);
  return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float avx512(std::uint64_t rounds, float factor, float addend) {
  __m512 s[kChains];
  const __m512 f = _mm512_set1_ps(factor), a = _mm512_set1_ps(addend);
  for (int i = 0; i < kChains; ++i) s[i] = _mm512_set1_ps(static_cast<float>(i));
  for (std::uint64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) s[i] = _mm512_fmadd_ps(s[i], f, a);
  }
  __m512 sum = s[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, s[i]);
  return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) float avx512_bf16(std::uint64_t rounds, float factor,
                                                                                  float addend) {
  __m512 s[kChains];
  const __m512bh f = _mm512_cvtne2ps_pbh(_mm512_set1_ps(factor), _mm512_set1_ps(factor));
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(addend), _mm512_set1_ps(addend));
  for (int i = 0; i < kChains; ++i) s[i] = _mm512_set1_ps(static_cast<float>(i));
  for (std::uint64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) s[i] = _mm512_dpbf16_ps(s[i], f, a);
  }
  __m512 sum = s[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, s[i]);
  return _mm512_cvtss_f32(sum);
}

// --- reading -----------------------------------------------------------------------------------------------------

constexpr std::size_t kStep = 512;  // bytes of each stream in one round

std::uint64_t read_sse2(const std::byte* const* streams, std::size_t count, std::size_t rounds) {
  __m128i x[8];
  for (auto& v : x) v = _mm_setzero_si128();
  for (std::size_t r = 0; r < rounds; ++r)
    for (std::size_t s = 0; s < count; ++s) {
      const auto* p = reinterpret_cast<const __m128i*>(streams[s] + r * kStep);
#pragma GCC unroll 32
      for (int i = 0; i < 32; ++i) x[i % 8] = _mm_xor_si128(x[i % 8], _mm_loadu_si128(p + i));
    }
  for (int i = 1; i < 8; ++i) x[0] = _mm_xor_si128(x[0], x[i]);
  alignas(16) std::uint64_t w[2];
  _mm_store_si128(reinterpret_cast<__m128i*>(w), x[0]);
  return w[0] ^ w[1];
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::byte* const* streams, std::size_t count,
                                                        std::size_t rounds) {
  __m256i x[8];
  for (auto& v : x) v = _mm256_setzero_si256();
  for (std::size_t r = 0; r < rounds; ++r)
    for (std::size_t s = 0; s < count; ++s) {
      const auto* p = reinterpret_cast<const __m256i*>(streams[s] + r * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) x[i % 8] = _mm256_xor_si256(x[i % 8], _mm256_loadu_si256(p + i));
    }
  for (int i = 1; i < 8; ++i) x[0] = _mm256_xor_si256(x[0], x[i]);
  alignas(32) std::uint64_t w[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(w), x[0]);
  return w[0] ^ w[1] ^ w[2] ^ w[3];
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::byte* const* streams, std::size_t count,
                                                             std::size_t rounds) {
  __m512i x[8];
  for (auto& v : x) v = _mm512_setzero_si512();
  for (std::size_t r = 0; r < rounds; ++r)
    for (std::size_t s = 0; s < count; ++s) {
      const std::byte* p = streams[s] + r * kStep;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) x[i] = _mm512_xor_si512(x[i], _mm512_loadu_si512(p + 64 * i));
    }
  for (int i = 1; i < 8; ++i) x[0] = _mm512_xor_si512(x[0], x[i]);
  alignas(64) std::uint64_t w[8];
  _mm512_store_si512(w, x[0]);
  std::uint64_t out = 0;
  for (const std::uint64_t v : w) out ^= v;
  return out;
}

}  // namespace

const char* arithmetic_name(Arithmetic a) {
  constexpr const char* kNames[kArithmetics] = {"f32 SSE2 multiply and add", "f32 AVX2 FMA", "f32 AVX-512 FMA",
                                                "bf16 AVX-512 dot product"};
  return kNames[static_cast<int>(a)];
}

bool processor_has(Arithmetic a) {
  switch (a) {
    case Arithmetic::kSse2:
      return __builtin_cpu_supports("sse2");
    case Arithmetic::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Arithmetic::kAvx512:
      return __builtin_cpu_supports("avx512f");
    case Arithmetic::kAvx512Bf16:
      return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl");
  }
  return false;
}

FlopsKernel flops_kernel(Arithmetic a) {
  constexpr FlopsKernel kKernels[kArithmetics] = {{kChains * 4.0, sse2},
                                                  {kChains * 8 * 2.0, avx2},
                                                  {kChains * 16 * 2.0, avx512},
                                                  {kChains * 16 * 4.0, avx512_bf16}};
  return kKernels[static_cast<int>(a)];
}

std::uint64_t read_streams(const std::byte* const* streams, std::size_t count, std::size_t bytes) {
  const std::size_t rounds = bytes / kStep;
  std::uint64_t out = processor_has(Arithmetic::kAvx512) ? read_avx512(streams, count, rounds)
                      : processor_has(Arithmetic::kAvx2) ? read_avx2(streams, count, rounds)
                                                         : read_sse2(streams, count, rounds);
  for (std::size_t s = 0; s < count; ++s)
    for (std::size_t i = rounds * kStep; i < bytes; ++i)
      out ^= static_cast<std::uint64_t>(streams[s][i])
             << (i % 8 * 8);  // kStep is a multiple of 8: the words stay in step
  return out;
}

}  // namespace concord::bench
