// The accumulators of one tile, for the sources that define its products. Include behind simd.hpp.
#pragma once
#include "tiles.hpp"

namespace cpu {
namespace {

template <std::size_t R, std::size_t N>
struct TileSums {
  Vec acc[R][N];
  TileSums() {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (std::size_t v = 0; v < N; ++v) acc[r][v] = zero();
  }
  // To call.sums: alone where `fresh`, else added to what is there; times `scales` first where they are given.
  void give(const TileCall& c, const std::uint16_t* scales, bool fresh) const {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) {
      const Vec scale = scales ? load_f16(scales + v * kVec) : zero();
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) {
        float* to = c.sums + r * c.stride + v * kVec;
        if (scales)
          store(to, fresh ? mul(acc[r][v], scale) : multiply_add(acc[r][v], scale, load(to)));
        else
          store(to, fresh ? acc[r][v] : add(load(to), acc[r][v]));
      }
    }
  }
};

}  // namespace
}  // namespace cpu
