// What the operators over rows and elements share: 16 bytes at a time where addresses allow it, the threads that treat
// a row together, and how wrong indices are reported.
#pragma once
#include <algorithm>
#include <cstring>

#include "gpu/block.hpp"
#include "gpu/device.hpp"
#include "gpu/numbers.hpp"

namespace CONCORD_GPU {

// Elements of a thread at a time. Which thread has which elements depends on this alone and never on an address, so
// that sums have one order.
template <class T>
inline constexpr unsigned kPack = 16 / sizeof(T);

// 16 bytes in one access.
struct alignas(16) [[gnu::may_alias]] Words {
  std::uint32_t word[4];
};

GPU_DEVICE bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

// The first kCount elements at `from`, or the `left` that there are: gives how many, the others are 0.
template <unsigned kCount, class T>
GPU_DEVICE unsigned load_values(const T* from, std::uint64_t left, float (&v)[kCount]) {
  static_assert(kCount % kPack<T> == 0);
  if (left >= kCount && aligned(from)) {
    for (unsigned i = 0; i < kCount; i += kPack<T>) {
      T piece[kPack<T>];
      const Words words = *reinterpret_cast<const Words*>(from + i);
      memcpy(piece, &words, 16);
      for (unsigned j = 0; j < kPack<T>; ++j) v[i + j] = to_float(piece[j]);
    }
    return kCount;
  }
  for (unsigned i = 0; i < kCount; ++i) v[i] = i < left ? to_float(from[i]) : 0.0f;
  return left < kCount ? static_cast<unsigned>(left) : kCount;
}

// Rounds and stores the first kCount values, or the `left` that there are.
template <unsigned kCount, class T>
GPU_DEVICE void store_values(const float (&v)[kCount], T* to, std::uint64_t left) {
  static_assert(kCount % kPack<T> == 0);
  if (left >= kCount && aligned(to)) {
    for (unsigned i = 0; i < kCount; i += kPack<T>) {
      T piece[kPack<T>];
      for (unsigned j = 0; j < kPack<T>; ++j) piece[j] = from_float<T>(v[i + j]);
      Words words;
      memcpy(&words, piece, 16);
      *reinterpret_cast<Words*>(to + i) = words;
    }
    return;
  }
  for (unsigned i = 0; i < kCount; ++i)
    if (i < left) to[i] = from_float<T>(v[i]);
}

// The threads that treat a row together: a block where rows are wide, else a warp.
template <bool kWide>
struct Team {
  static GPU_DEVICE unsigned rank() { return kWide ? thread() : lane(); }
  static GPU_DEVICE unsigned size() { return kWide ? threads() : warp_width(); }
  static GPU_DEVICE std::uint64_t per_block() { return kWide ? 1 : threads() / warp_width(); }
  static GPU_DEVICE std::uint64_t first() { return block() * per_block() + (kWide ? 0 : warp()); }
  static GPU_DEVICE std::uint64_t step() { return blocks() * per_block(); }

  // The same value in every thread of the team, all of which must arrive.
  template <class T, class Combine>
  static GPU_DEVICE T reduce(T v, Combine combine) {
    if constexpr (kWide) {
      GPU_SHARED(T[32], room);
      return block_reduce(v, room, combine);
    } else {
      return warp_reduce(v, combine);
    }
  }
};

// f(value, index) for this thread's elements of a row of n.
template <class Threads, class T, class F>
GPU_DEVICE void each_value(const T* row, unsigned n, const F& f) {
  for (std::uint64_t i = std::uint64_t{Threads::rank()} * kPack<T>; i < n;
       i += std::uint64_t{Threads::size()} * kPack<T>) {
    float v[kPack<T>];
    const unsigned count = load_values(row + i, n - i, v);
    for (unsigned j = 0; j < kPack<T>; ++j)
      if (j < count) f(v[j], static_cast<unsigned>(i + j));
  }
}

// An index of operand in[operand] that must be below `limit` and is not: the first to report wins, and the host learns
// of it when it waits.
GPU_DEVICE void report(Fault* fault, unsigned op, unsigned operand, std::uint64_t index, std::int32_t value,
                       std::int64_t limit) {
  if (!claim(&fault->op, op + 1)) return;
  fault->operand = operand, fault->index = static_cast<int>(index), fault->value = value, fault->limit = limit;
}

// Threads of a block that together have `items` to do: whole warps, at most `most`.
inline unsigned block_size(const Context& c, std::uint64_t items, unsigned most) {
  const unsigned warp = c.device.properties.warp;
  return items >= most ? most : std::max(1u, ceil_div(items, warp)) * warp;
}
// Blocks of a grid whose kernel goes on in steps of it: with the largest blocks fewer than 2^32 threads, which is all
// that HIP launches.
inline unsigned grid_size(std::uint64_t blocks) {
  return static_cast<unsigned>(std::min<std::uint64_t>(blocks, 1u << 21));
}

// One of two kernels, by the length of a row alone, so that a row's bits do not depend on how many rows there are. Both
// go through all rows in steps of the grid.
template <class T, class... P, class... A>
concord_status launch_rows(Context& c, void (*narrow)(P...), void (*wide)(P...), unsigned rows, unsigned n,
                           A... arguments) {
  constexpr unsigned kNarrowBytes = 1024, kThreads = 256, kMostThreads = 1024;
  if (n * sizeof(T) <= kNarrowBytes)
    return c.done(GPU_LAUNCH(narrow, grid_size(ceil_div(rows, kThreads / c.device.properties.warp)), 1, kThreads, 0,
                             c.stream, arguments...));
  const unsigned threads = block_size(c, ceil_div(n, kPack<T>), kMostThreads);
  return c.done(GPU_LAUNCH(wide, grid_size(rows), 1, threads, 0, c.stream, arguments...));
}

}  // namespace CONCORD_GPU
