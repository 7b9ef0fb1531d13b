// What the ways of multiplying share: the operands, how stored bytes become numbers, and how a sum becomes an output.
#pragma once
#include "gpu/device.hpp"
#include "gpu/tile.hpp"

namespace CONCORD_GPU {

// y [tokens, outputs] = x [tokens, inputs] w^T, w [outputs, inputs] with rows every `pitch` bytes.
struct Matmul {
  const std::byte *x, *weight, *z;
  std::byte* y;
  const float* row_scales;      // I8: one for each output, applied to the finished sum
  const std::uint16_t* scales;  // U4: F16 [outputs][groups]
  const std::uint8_t* zeros;    // U4: [outputs][groups], or NULL: 8
  const float* bias;            // or NULL
  std::uint64_t pitch;
  unsigned tokens, outputs, inputs, group, groups;
  unsigned dtype, weight_dtype;  // concord_dtype, of activations and weight
  unsigned flags;                // CONCORD_PLUS or CONCORD_GATED with z
  bool aligned;                  // every row of x begins on a multiple of 16 bytes
  float* partial;  // sums of parts of K, [splits][tokens][outputs], to be finished by another kernel; or NULL
  unsigned splits, split_inputs;
};

struct alignas(16) Bytes16 {
  std::uint32_t v[4];
};
GPU_DEVICE Bytes16 load16(const void* p) { return *static_cast<const Bytes16*>(p); }
// The same for what nobody reads again soon.
GPU_DEVICE Bytes16 load16_once(const void* p) {
#if defined(CONCORD_GPU_CUDA)
  const uint4 v = __ldcs(static_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
#else
  return load16(p);
#endif
}

// One of the two 16-bit numbers of a word.
template <class T>
GPU_DEVICE float half_of(std::uint32_t word, unsigned i) {
  return to_float(T{static_cast<std::uint16_t>(word >> (16 * i))});
}
GPU_DEVICE float int8_of(std::uint32_t word, unsigned i) {
  return static_cast<float>(static_cast<std::int8_t>(word >> (8 * i)));
}
GPU_DEVICE float int4_of(std::uint32_t word, unsigned i, unsigned zero) {
  return static_cast<float>(static_cast<int>(word >> (4 * i) & 15u) - static_cast<int>(zero));
}
GPU_DEVICE float scale_at(const Matmul& p, std::uint64_t row, unsigned group) {
  return to_float(F16{p.scales[row * p.groups + group]});
}
GPU_DEVICE unsigned zero_at(const Matmul& p, std::uint64_t row, unsigned group) {
  return p.zeros ? p.zeros[row * p.groups + group] : 8u;
}

// kCount (4 or 8) numbers of a row of x from element k, a multiple of 4, on; 0 behind the end of the row.
template <class T, unsigned kCount>
GPU_DEVICE void load_x(const Matmul& p, unsigned token, unsigned k, float (&out)[kCount]) {
  const T* from = reinterpret_cast<const T*>(p.x) + std::uint64_t{token} * p.inputs + k;
  constexpr unsigned kBytes = kCount * sizeof(T);
  if (!p.aligned || k + kCount > p.inputs) {
    for (unsigned i = 0; i < kCount; ++i) out[i] = k + i < p.inputs ? to_float(from[i]) : 0.0f;
  } else if constexpr (kBytes == 8) {
    struct alignas(8) Pack {
      T v[kCount];
    };
    const Pack pack = *reinterpret_cast<const Pack*>(from);
    for (unsigned i = 0; i < kCount; ++i) out[i] = to_float(pack.v[i]);
  } else {
    for (unsigned b = 0; b < kBytes / 16; ++b) {
      const Bytes16 pack = load16(from + b * (16 / sizeof(T)));
      if constexpr (sizeof(T) == 4)
        for (unsigned i = 0; i < 4; ++i) out[b * 4 + i] = bits_to_float(pack.v[i]);
      else
        for (unsigned i = 0; i < 8; ++i) out[b * 8 + i] = half_of<T>(pack.v[i / 2], i % 2);
    }
  }
}

// Which tile of the product a block computes. Blocks that run together share what they read: `together` tiles of tokens
// have the same outputs, one behind the other.
struct TilePlace {
  unsigned token, output;  // the tile's first
};
GPU_DEVICE TilePlace tile_place(const Matmul& p, unsigned tokens, unsigned outputs, unsigned together, unsigned block) {
  const unsigned token_tiles = (p.tokens + tokens - 1) / tokens, output_tiles = (p.outputs + outputs - 1) / outputs;
  const unsigned first = block / (together * output_tiles) * together, rest = block % (together * output_tiles);
  const unsigned here = token_tiles - first < together ? token_tiles - first : together;
  return {(first + rest % here) * tokens, rest / here * outputs};
}

// The sum over K -> y. With z the sum is rounded to the activations' type first, as MATMUL by itself would store it.
template <class T>
GPU_DEVICE void finish(const Matmul& p, unsigned token, unsigned output, float sum) {
  if (p.row_scales) sum = sum * p.row_scales[output];
  if (p.bias) sum = sum + p.bias[output];
  const std::uint64_t at = std::uint64_t{token} * p.outputs + output;
  if (p.flags) {
    const float z = to_float(reinterpret_cast<const T*>(p.z)[at]), value = to_float(from_float<T>(sum));
    sum = p.flags == CONCORD_GATED ? swiglu_of(z, value) : z + value;
  }
  reinterpret_cast<T*>(p.y)[at] = from_float<T>(sum);
}
GPU_DEVICE void finish_any(const Matmul& p, unsigned token, unsigned output, float sum) {
  if (p.dtype == CONCORD_F32) return finish<float>(p, token, output, sum);
  if (p.dtype == CONCORD_F16) return finish<F16>(p, token, output, sum);
  finish<BF16>(p, token, output, sum);
}

const char* form_name(unsigned weight_dtype);

// The ways: each launches its kernels and names them in the witness.
concord_status matmul_portable(Context& c, const Matmul& p);
concord_status matmul_skinny(Context& c, const Matmul& p);
concord_status matmul_tiles(Context& c, const Matmul& p);
bool skinny_takes(const Matmul& p);  // few tokens; int4 in groups of a multiple of 32
bool tiles_take(const Matmul& p);    // types that matrix instructions multiply exactly; int4 likewise
// `from`: sums of p.dtype or F32, [p.splits][tokens][outputs], added in that order and finished.
Error finish_sums(const Matmul& p, const void* from, unsigned from_dtype, Stream stream);

}  // namespace CONCORD_GPU
