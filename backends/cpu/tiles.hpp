// Packed weights and the tiles that multiply them: what the portable driver (matmul.cpp) and the kernels compiled per
// instruction set (tiles_impl.hpp, kernels_bf16.cpp) share.
//
// A weight [rows, cols] is cut into panels of `width` rows; a panel holds, input by input, one number per row, so that
// a vector register holds neighbouring outputs. Every output is then a sum over the inputs in their order, whatever the
// number of tokens, threads or panels: prefill, chunks, batches and decode give the same bits.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cpu {

// How a panel stores its numbers; `w` rows, inputs k. The last two are for the bf16 dot product, which takes two inputs
// at a time: pairs and blocks are padded with zeros.
enum Form : std::uint32_t {
  kF32 = 0,    // [k][w] float32
  kF16,        // [k][w] f16
  kBf16,       // [k][w] bf16
  kI8,         // [k][w] int8, a float32 scale per row
  kU4,         // [k/8][w] words of eight nibbles: inputs 0, 2, 4, 6 in the low half, 1, 3, 5, 7 in the high one
  kBf16Pairs,  // [k/2][w] pairs of bf16
  kI8Quads,    // [k/4][w/16] vectors of 64 int8: in each 16 bytes the inputs 0, 1 of four rows, then 2, 3; never -128
  kForms
};
// Inputs that one block of the form holds, and bytes of a panel of w rows and k inputs.
constexpr std::size_t block_inputs(Form f) { return f == kU4 ? 8 : f == kI8Quads ? 4 : f == kBf16Pairs ? 2 : 1; }
constexpr std::size_t block_row_bytes(Form f) { return f == kF16 || f == kBf16 ? 2 : f == kI8 ? 1 : 4; }
constexpr std::size_t panel_bytes(Form f, std::size_t w, std::size_t k) {
  return (k + block_inputs(f) - 1) / block_inputs(f) * w * block_row_bytes(f);
}

// One tile: `rows` tokens times a panel over k inputs. The sum of every `segment` inputs starts at zero and is then
// added to `sums`, multiplied by the segment's scales first where there are any: sums = [sums +] acc * scale.
struct TileCall {
  const void* x = nullptr;  // activations of the first token, at the first input; `x_stride` numbers apart
  std::size_t x_stride = 0;
  const std::byte* panel = nullptr;       // at the first input
  const std::uint16_t* scales = nullptr;  // kU4, or what was expanded from it: f16 [segment][w]
  const std::uint8_t* zeros = nullptr;    // kU4: [segment][w]; NULL: 8
  std::size_t k = 0, segment = 0;
  float* sums = nullptr;  // [rows], `stride` numbers apart
  std::size_t stride = 0;
  bool add = false;  // sums holds earlier segments
};
using Tile = void (*)(const TileCall&);

// Panel form -> the form that the instruction set multiplies at its best (kF32, kBf16Pairs), k inputs, into `out`.
struct ExpandCall {
  Form form = kF32;
  const std::byte* panel = nullptr;
  const std::uint8_t* zeros = nullptr;
  std::size_t k = 0, segment = 0, w = 0;
  std::byte* out = nullptr;
};

inline constexpr std::size_t kMaxTileRows = 6, kPanelVectors = 4;
struct TileSet {
  const char* name;        // "avx512 f32 fma"
  bool bf16;               // activations are BF16, else float32
  std::size_t lanes;       // rows in a vector; a panel has four vectors, the last one two or four
  std::size_t rows;        // most tokens in a tile
  std::size_t block;       // inputs summed before they are added to the total; 0: all of them
  Form wide;               // what expand() gives
  Tile tile[kForms][kMaxTileRows][2];  // [form][tokens - 1][0: four vectors, 1: two]; NULL: not a form of this set
  void (*expand)(const ExpandCall&);
};
extern const TileSet kStrictTiles, kAvx2Tiles, kAvx512Tiles, kBf16Tiles;

}  // namespace cpu
