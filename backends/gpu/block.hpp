// Sums and maxima over the threads of a block, in one fixed order for each block size and warp width: butterflies within warps, then the warps one after another.
#pragma once
#include "gpu/runtime.hpp"

namespace CONCORD_GPU {

struct Plus {
  template <class T>
  GPU_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
struct Greater {  // NaN is lost: not for data that may hold one
  GPU_DEVICE float operator()(float a, float b) const { return a > b ? a : b; }
};

// The same value in every lane: butterflies add the same pairs in every lane, and addition commutes.
template <class T, class Combine>
GPU_DEVICE T warp_reduce(T v, Combine combine) {
  for (unsigned mask = warp_width() / 2; mask > 0; mask /= 2) v = combine(v, exchange_xor(v, mask));
  return v;
}

// The same value in every thread. `room`: shared memory for one T per warp (32 suffice), free to be used again when the call returns.
template <class T, class Combine>
GPU_DEVICE T block_reduce(T v, T* room, Combine combine) {
  v = warp_reduce(v, combine);
  if (lane() == 0) room[warp()] = v;
  sync();
  T all = room[0];
  for (unsigned w = 1; w < threads() / warp_width(); ++w) all = combine(all, room[w]);
  sync();
  return all;
}

}  // namespace CONCORD_GPU
