// One block of causal attention: what attention.cpp hands to the kernels compiled per instruction set.
#pragma once
#include "tiles.hpp"

namespace cpu {

// Queries that share one key/value head of one sequence. Pointers into the cache are at the sequence's first row, at
// this head; rows are `cache_stride` numbers apart, their scales (I8 only) `scale_stride`.
struct AttentionBlock {
  const TileSet* tiles = nullptr;        // float32 tiles; the keys of one step fill a panel
  const float* q = nullptr;              // [rows][d]
  float* out = nullptr;                  // [rows][d]
  const std::uint32_t* visible = nullptr;  // [rows] cache rows that each query sees, ascending, at least 1
  std::size_t rows = 0, d = 0;
  std::uint32_t cache_dtype = 0;
  const std::byte *keys = nullptr, *values = nullptr;
  const float *key_scales = nullptr, *value_scales = nullptr;
  std::size_t cache_stride = 0, scale_stride = 0;
  float scale = 1;
  float* scratch = nullptr;  // attention_scratch() floats
};
inline std::size_t attention_width(const TileSet& t, std::size_t d) {  // d rounded up to whole panels
  return (d + 2 * t.lanes - 1) / (2 * t.lanes) * (2 * t.lanes);
}
inline std::size_t attention_scratch(const TileSet& t, std::size_t rows, std::size_t d) {
  const std::size_t keys = kPanelVectors * t.lanes, wide = attention_width(t, d);
  return keys * (d + 2 * wide) + rows * (keys + 2 * wide + 3);
}

}  // namespace cpu
