// Keys and values of new tokens into their rows of the caches, in the caches' own types. One launch: part 0 of the grid
// has the keys, part 1 the values, part 2 looks for rows that are named twice.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

struct Append {
  const std::byte* from[2];
  std::byte* cache[2];
  float* scales[2];  // of an I8 cache
  const std::int32_t* rows;
  unsigned tokens, heads, size;
  std::int64_t limit;  // rows of the cache
  Fault* fault;
};

// The one of two that this part of the grid is about: an index would make the compiler put the arguments on the stack.
template <class T>
GPU_DEVICE T* of_part(T* const (&both)[2]) {
  return block_y() == 0 ? both[0] : both[1];
}

// The cache row of token t, or -1 where there is none; `first` says who reports it.
GPU_DEVICE std::int64_t row_of(const Append& a, std::uint64_t t, bool first) {
  const std::int32_t row = a.rows[t];
  if (row >= 0 && row < a.limit) return row;
  if (first) report(a.fault, CONCORD_OP_KV_APPEND, 2, t, row, a.limit);
  return -1;
}

struct Or {
  GPU_DEVICE unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};

// Rows that rise are distinct, and almost always they rise; only else is each compared with all before it.
GPU_DEVICE void look_for_twins(const Append& a) {
  if (std::uint64_t{block()} * threads() >= a.tokens) return;
  unsigned falls = 0;
  for (std::uint64_t t = std::uint64_t{thread()} + 1; t < a.tokens; t += threads()) falls |= a.rows[t] <= a.rows[t - 1];
  if (!Team<true>::reduce(falls, Or{})) return;
  for (std::uint64_t t = std::uint64_t{block()} * threads() + thread(); t < a.tokens;
       t += std::uint64_t{blocks()} * threads())
    for (std::uint64_t i = 0; i < t; ++i)
      if (a.rows[i] == a.rows[t]) return report(a.fault, CONCORD_OP_KV_APPEND, 2, t, a.rows[t], 0);
}

// One block per token.
template <class T, class Cache>
GPU_KERNEL GPU_BOUNDS(256) append(Append a) {
  if (block_y() == 2) return look_for_twins(a);
  constexpr unsigned kCount = kPack<T> > kPack<Cache> ? kPack<T> : kPack<Cache>;
  const std::uint64_t n = std::uint64_t{a.heads} * a.size;
  for (std::uint64_t t = block(); t < a.tokens; t += blocks()) {
    const std::int64_t row = row_of(a, t, thread() == 0 && block_y() == 0);
    if (row < 0) continue;
    const T* from = reinterpret_cast<const T*>(of_part(a.from)) + t * n;
    Cache* to = reinterpret_cast<Cache*>(of_part(a.cache)) + static_cast<std::uint64_t>(row) * n;
    for (std::uint64_t i = std::uint64_t{thread()} * kCount; i < n; i += std::uint64_t{threads()} * kCount) {
      float v[kCount];
      load_values(from + i, n - i, v);
      store_values(v, to + i, n - i);
    }
  }
}

// One warp per head of a token. The scale is max|x| / 127 and a head holds rint(x / scale); the quotient may be above
// 127 only where the scale is a rounded subnormal, and is then taken modulo 256 as the oracle does.
template <class T>
GPU_KERNEL GPU_BOUNDS(256) append_quantised(Append a) {
  if (block_y() == 2) return look_for_twins(a);
  using Threads = Team<false>;
  for (std::uint64_t i = Threads::first(); i < std::uint64_t{a.tokens} * a.heads; i += Threads::step()) {
    const std::uint64_t t = i / a.heads, h = i % a.heads;
    const std::int64_t row = row_of(a, t, lane() == 0 && h == 0 && block_y() == 0);
    if (row < 0) continue;
    const T* from = reinterpret_cast<const T*>(of_part(a.from)) + i * a.size;
    const std::uint64_t head = static_cast<std::uint64_t>(row) * a.heads + h;
    std::int8_t* to = reinterpret_cast<std::int8_t*>(of_part(a.cache)) + head * a.size;
    float largest = 0;
    unsigned strange = 0;
    each_value<Threads>(from, a.size, [&](float v, unsigned) {
      largest = fabsf(v) > largest ? fabsf(v) : largest;
      strange |= !(v - v == 0.0f);
    });
    largest = Threads::reduce(largest, Greater{});
    const float scale = Threads::reduce(strange, Or{}) ? bits_to_float(0x7fc00000u) : largest / 127.0f;
    each_value<Threads>(from, a.size, [&](float v, unsigned j) {
      to[j] = scale > 0 ? static_cast<std::int8_t>(static_cast<int>(rintf(v / scale))) : std::int8_t{0};
    });
    if (lane() == 0) of_part(a.scales)[head] = scale;
  }
}

Append arguments(const Context& c, bool quantised) {
  const concord_call& call = c.call;
  Append a{};
  for (int i = 0; i < 2; ++i) {
    a.from[i] = data<const std::byte>(call.in[i]);
    a.cache[i] = data<std::byte>(call.out[i]);
    a.scales[i] = quantised ? data<float>(call.out[2 + i]) : nullptr;
  }
  a.rows = data<const std::int32_t>(call.in[2]);
  a.tokens = dim(call.in[0], 0), a.heads = dim(call.in[0], 1), a.size = dim(call.in[0], 2);
  a.limit = call.out[0].dims[0], a.fault = c.device.fault;
  return a;
}

}  // namespace

concord_status kv_append(Context& c) {
  constexpr unsigned kThreads = 256;
  const std::uint32_t cache = concord_abi::cache_dtype(c.call);
  const Append a = arguments(c, cache == CONCORD_I8);
  const unsigned parts = a.tokens > 1 ? 3 : 2;
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (cache == CONCORD_I8) {
      const unsigned grid = grid_size(ceil_div(std::uint64_t{a.tokens} * a.heads, kThreads / c.device.properties.warp));
      return c.done(GPU_LAUNCH(append_quantised<T>, grid, parts, kThreads, 0, c.stream, a));
    }
    return on_float(cache, [&](auto cache_zero) {
      using Cache = decltype(cache_zero);
      const unsigned threads = block_size(c, ceil_div(std::uint64_t{a.heads} * a.size, 8), kThreads);
      return c.done(GPU_LAUNCH((append<T, Cache>), grid_size(a.tokens), parts, threads, 0, c.stream, a));
    });
  });
}

}  // namespace CONCORD_GPU
