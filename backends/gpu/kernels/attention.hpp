// What the ways of computing attention share: the call as kernels see it, and how they read and write it.
//   attention_split.cpp     few tokens: blocks share out the context in chunks, a second kernel puts the chunks together
//   attention_portable.cpp  many tokens: tiles of queries and keys in multiply-adds, any types
//   attention_tiled.cpp     many tokens: the same through matrix instructions, q and cache of one 16-bit type
// In each of them the bits of a token do not depend on the tokens beside it. They do depend on the way, so a token alone (split) and the same token in a prompt need not
// have the same bits.
#pragma once
#include <cmath>

#include "gpu/device.hpp"
#include "gpu/tile.hpp"

#if defined(CONCORD_GPU_EMULATED)
#define GPU_ROLLED
#else
#define GPU_ROLLED _Pragma("unroll 1")  // before a loop whose body is long and keeps no registers by its index
#endif

namespace CONCORD_GPU {

inline constexpr unsigned kMostHeadSize = 256;

struct AttentionCall {
  const void *q, *keys, *values;
  const int* rows;
  const float *key_scales, *value_scales;  // NULL but for an I8 cache
  void* y;
  Fault* fault;
  long long cache_rows;
  unsigned tokens, heads, groups, share, d;  // share: query heads to a key/value head
  unsigned dtype, cache_dtype;
  int sequence;  // cache rows of one sequence
  float scale;
  bool q_aligned, cache_aligned;  // eight elements can be read at once
};

concord_status attention_split(Context& c, const AttentionCall& a);
concord_status attention_portable(Context& c, const AttentionCall& a);
// CONCORD_UNSUPPORTED where the device's blocks have too little shared memory; nothing was launched then.
concord_status attention_tiled(Context& c, const AttentionCall& a);

// --- device side ---------------------------------------------------------------------------------------------------------------------------------------------------------
struct alignas(16) Float4 {
  float v[4];
};
// Bits of whatever type: the compiler is told that they may be another object's.
struct __attribute__((__aligned__(16), __may_alias__)) Words4 {
  std::uint32_t w[4];
};
struct __attribute__((__aligned__(8), __may_alias__)) Words2 {
  std::uint32_t w[2];
};
struct __attribute__((__aligned__(4), __may_alias__)) Word {
  std::uint32_t w;
};

GPU_DEVICE Float4 float4_at(const float* p) { return *reinterpret_cast<const Float4*>(p); }
GPU_DEVICE void put_float4(float* p, const Float4& v) { *reinterpret_cast<Float4*>(p) = v; }

GPU_DEVICE void read8(const float* from, float* to) {
  const Float4 a = float4_at(from), b = float4_at(from + 4);
  for (unsigned i = 0; i < 4; ++i) to[i] = a.v[i], to[4 + i] = b.v[i];
}
template <class T>
GPU_DEVICE void read8_halves(const T* from, float* to) {
  const Words4 words = *reinterpret_cast<const Words4*>(from);
  for (unsigned i = 0; i < 8; ++i) to[i] = to_float(T{static_cast<std::uint16_t>(words.w[i / 2] >> (16 * (i % 2)))});
}
GPU_DEVICE void read8(const F16* from, float* to) { read8_halves(from, to); }
GPU_DEVICE void read8(const BF16* from, float* to) { read8_halves(from, to); }
GPU_DEVICE void read8(const std::int8_t* from, float* to) {
  const Words2 words = *reinterpret_cast<const Words2*>(from);
  for (unsigned i = 0; i < 8; ++i) to[i] = static_cast<float>(static_cast<std::int8_t>(words.w[i / 4] >> (8 * (i % 4))));
}

// Eight numbers, zeros from number `count` on.
template <class T>
GPU_DEVICE void load8(const T* from, unsigned count, bool aligned, float* to) {
  if (aligned && count >= 8) return read8(from, to);
  for (unsigned i = 0; i < 8; ++i) to[i] = i < count ? to_float(from[i]) : 0.0f;
}
// The same of a type that is known when the kernel runs.
GPU_DEVICE void load8(unsigned dtype, const void* from, std::size_t at, unsigned count, bool aligned, float* to) {
  if (dtype == CONCORD_F32) return load8(static_cast<const float*>(from) + at, count, aligned, to);
  if (dtype == CONCORD_F16) return load8(static_cast<const F16*>(from) + at, count, aligned, to);
  if (dtype == CONCORD_BF16) return load8(static_cast<const BF16*>(from) + at, count, aligned, to);
  load8(static_cast<const std::int8_t*>(from) + at, count, aligned, to);
}
GPU_DEVICE void store(unsigned dtype, void* to, std::size_t at, float v) {
  if (dtype == CONCORD_F32)
    static_cast<float*>(to)[at] = v;
  else if (dtype == CONCORD_F16)
    static_cast<F16*>(to)[at] = from_float<F16>(v);
  else
    static_cast<BF16*>(to)[at] = from_float<BF16>(v);
}

// The last cache row that token t sees; -1 where the cache has no such row, which is said in the name of those that report.
GPU_DEVICE int last_row(const AttentionCall& a, unsigned t, bool reports) {
  const int row = a.rows[t];
  if (row >= 0 && row < a.cache_rows) return row;
  if (reports && claim(&a.fault->op, CONCORD_OP_ATTENTION + 1u)) {
    a.fault->operand = 3, a.fault->index = static_cast<int>(t);
    a.fault->value = row, a.fault->limit = a.cache_rows;
  }
  return -1;
}

GPU_DEVICE float minus_infinity() { return bits_to_float(0xff800000u); }
// What is taken from scores before exp: their maximum, but nothing where all of them are -inf, which weigh 0 then.
GPU_DEVICE float exp_base(float most) { return most == minus_infinity() ? 0.0f : most; }

}  // namespace CONCORD_GPU
