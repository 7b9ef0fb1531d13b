// One warp multiplies 16 x 16 tiles: C [16, 16] += A [16, 16] B [16, 16]^T, A and B of F16 or BF16 row-major in shared
// memory, C in float32 registers. Each lane holds tile_elements() of C (8, or 4 with 64 lanes); element i of a lane
// stands in row tile_row(i) and column tile_col(i), so that scales can be applied in registers. Matrix instructions
// where the compiler has them (mma.sync on CUDA from sm_80 on, MFMA on gfx90a and gfx94x); elsewhere, and under
// emulation, multiply-adds with the same meaning. The order of the 16 products is the hardware's own: results are
// identical per configuration, not across targets. Tensor cores cut off low bits where a float32 addition rounds: a
// long sum is better made of the tile sums of some 128 products each, added in float32.
//
// Two ways to call it, every lane of the warp together:
//   tile_multiply(c, a, a_stride, b, b_stride)           from shared memory, once
//   load_tile(operand, a, a_stride); multiply_tiles(c, operand_a, operand_b)      an operand that is loaded once and
//   multiplied several times. A and B are loaded alike. The
//                                                        memory must stay as it is until the last multiply_tiles() with
//                                                        the operand: where there are no matrix instructions the
//                                                        operand is a pointer.
// A row of A and B begins on a multiple of 16 bytes: the pointer is 16-byte aligned and the stride a multiple of 8
// elements. Strides of 8 more than a multiple of 16 or 32 (24, 40, 72, 136) keep eight rows in different banks. An
// array in static shared memory has the alignment of its type: say alignas(16).
#pragma once
#include "gpu/numbers.hpp"

#if defined(CONCORD_GPU_EMULATED)
#include <cstdlib>
#endif

#if defined(CONCORD_GPU_EMULATED) || (defined(CONCORD_GPU_CUDA) && !defined(__CUDA_ARCH__))  // g++ knows no such pragma
#define GPU_UNROLL
#else
#define GPU_UNROLL _Pragma("unroll")  // before a loop over a register array, which would otherwise lie in memory
#endif

#if defined(CONCORD_GPU_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define CONCORD_GPU_TILE_MMA
#elif defined(CONCORD_GPU_HIP) && \
    (defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__))
#define CONCORD_GPU_TILE_MFMA
#endif

namespace CONCORD_GPU {

inline constexpr unsigned kTile = 16;

// Whether kernels of tiles are compiled for this processor: not for AMD's that have no matrix instructions. They are never launched there (Properties::matrix), and without the
// instructions they take longer to compile than all the rest. kTileWidth: lanes of a warp where only one number is possible, else 0.
#if defined(CONCORD_GPU_HIP) && defined(__HIP_DEVICE_COMPILE__) && !defined(CONCORD_GPU_TILE_MFMA)
inline constexpr bool kTilesCompiled = false;
#pragma clang diagnostic ignored "-Wunused-function"  // what only kernels of tiles use
#pragma clang diagnostic ignored "-Wunneeded-internal-declaration"
#pragma clang diagnostic ignored "-Wunused-const-variable"
#else
inline constexpr bool kTilesCompiled = true;
#endif
#if defined(CONCORD_GPU_CUDA)
inline constexpr unsigned kTileWidth = 32;
#elif defined(CONCORD_GPU_TILE_MFMA)
inline constexpr unsigned kTileWidth = 64;
#else
inline constexpr unsigned kTileWidth = 0;
#endif

struct TileSum {
  float v[8] = {};  // the first tile_elements() of them
};

GPU_DEVICE unsigned tile_elements() { return 256 / warp_width(); }

// Where element i of a lane stands, for each way of multiplying. mma.m16n8k16 (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"): lane l has rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next; two of them make 16 columns.
// MFMA 16x16x16: lane l has column l % 16 and four rows from 4 (l / 16) on. Plain: lane l has row l % 16 and columns
// that stand side by side.
struct MmaLayout {
  static constexpr unsigned kElements = 8;
  GPU_BOTH static constexpr unsigned row(unsigned lane, unsigned i) { return lane / 4 + i % 4 / 2 * 8; }
  GPU_BOTH static constexpr unsigned col(unsigned lane, unsigned i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }
};
struct MfmaLayout {
  static constexpr unsigned kElements = 4;
  GPU_BOTH static constexpr unsigned row(unsigned lane, unsigned i) { return lane / 16 * 4 + i; }
  GPU_BOTH static constexpr unsigned col(unsigned lane, unsigned) { return lane % 16; }
};
template <unsigned kWidth>
struct PlainLayout {
  static constexpr unsigned kElements = 256 / kWidth;
  GPU_BOTH static constexpr unsigned row(unsigned lane, unsigned) { return lane % kTile; }
  GPU_BOTH static constexpr unsigned col(unsigned lane, unsigned i) { return lane / kTile * kElements + i; }
};

// Every element of a tile belongs to one lane and one of its elements.
template <class Layout>
constexpr bool covers_tile() {
  bool seen[256] = {};
  for (unsigned lane = 0; lane < 256 / Layout::kElements; ++lane)
    for (unsigned i = 0; i < Layout::kElements; ++i) {
      const unsigned at = Layout::row(lane, i) * kTile + Layout::col(lane, i);
      if (at >= 256 || seen[at]) return false;
      seen[at] = true;
    }
  return true;
}
static_assert(covers_tile<MmaLayout>() && covers_tile<MfmaLayout>() && covers_tile<PlainLayout<32>>() &&
              covers_tile<PlainLayout<64>>());

GPU_DEVICE unsigned plain_tile_row(unsigned) { return lane() % kTile; }
GPU_DEVICE unsigned plain_tile_col(unsigned i) { return lane() / kTile * tile_elements() + i; }

#if defined(CONCORD_GPU_TILE_MMA)

GPU_DEVICE unsigned tile_row(unsigned i) { return MmaLayout::row(lane(), i); }
GPU_DEVICE unsigned tile_col(unsigned i) { return MmaLayout::col(lane(), i); }

// 16 rows of 16 as four matrices of 8 x 8: rows 0 to 7 and 8 to 15 of columns 0 to 7, then the same of columns 8 to 15.
// That is the order of A's registers; as B, matrices 0 and 2 are the first eight columns of C, 1 and 3 the others.
template <class T>
struct TileOperand {
  std::uint32_t v[4];
};

template <class T>
GPU_DEVICE void load_tile(TileOperand<T>& o, const T* p, unsigned stride) {
  const T* row = p + lane() % kTile * stride + lane() / kTile * 8;  // lane l names row l % 8 of matrix l / 8
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(o.v[0]), "=r"(o.v[1]), "=r"(o.v[2]), "=r"(o.v[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

GPU_DEVICE void mma(float* c, const TileOperand<BF16>& a, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b0), "r"(b1));
}
GPU_DEVICE void mma(float* c, const TileOperand<F16>& a, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b0), "r"(b1));
}
template <class T>
GPU_DEVICE void multiply_tiles(TileSum& c, const TileOperand<T>& a, const TileOperand<T>& b) {
  mma(c.v, a, b.v[0], b.v[2]);
  mma(c.v + 4, a, b.v[1], b.v[3]);
}

#elif defined(CONCORD_GPU_TILE_MFMA)

GPU_DEVICE unsigned tile_row(unsigned i) { return MfmaLayout::row(lane(), i); }
GPU_DEVICE unsigned tile_col(unsigned i) { return MfmaLayout::col(lane(), i); }

using MfmaSum = __attribute__((ext_vector_type(4))) float;
using MfmaHalf = __attribute__((ext_vector_type(4))) _Float16;
using MfmaShort = __attribute__((ext_vector_type(4))) short;

// Lane l has, of row l % 16, the four numbers from 4 (l / 16) on.
template <class T>
struct TileOperand {
  MfmaShort v;
};

template <class T>
GPU_DEVICE void load_tile(TileOperand<T>& o, const T* p, unsigned stride) {
  o.v = *reinterpret_cast<const MfmaShort*>(p + lane() % kTile * stride + lane() / kTile * 4);
}

GPU_DEVICE MfmaSum mfma(MfmaSum c, const TileOperand<BF16>& a, const TileOperand<BF16>& b) {
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a.v, b.v, c, 0, 0, 0);
}
// gfx90a takes subnormal F16 inputs of MFMA as zero, and 2^-15 is one: there the numbers are multiplied as float32,
// four of K at a time. Which four does not matter, as long as A and B agree.
GPU_DEVICE MfmaSum mfma(MfmaSum c, const TileOperand<F16>& a, const TileOperand<F16>& b) {
  const auto x = __builtin_bit_cast(MfmaHalf, a.v), y = __builtin_bit_cast(MfmaHalf, b.v);
#if defined(__gfx90a__)
  for (int i = 0; i < 4; ++i)
    c = __builtin_amdgcn_mfma_f32_16x16x4f32(static_cast<float>(x[i]), static_cast<float>(y[i]), c, 0, 0, 0);
  return c;
#else
  return __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, c, 0, 0, 0);
#endif
}
template <class T>
GPU_DEVICE void multiply_tiles(TileSum& c, const TileOperand<T>& a, const TileOperand<T>& b) {
  const MfmaSum sum = mfma(MfmaSum{c.v[0], c.v[1], c.v[2], c.v[3]}, a, b);
  for (int i = 0; i < 4; ++i) c.v[i] = sum[i];
}

#else

GPU_DEVICE unsigned tile_row(unsigned i) { return plain_tile_row(i); }
GPU_DEVICE unsigned tile_col(unsigned i) { return plain_tile_col(i); }

template <class T>
struct TileOperand {
  const T* p;
  unsigned stride;
};

template <class T>
GPU_DEVICE void load_tile(TileOperand<T>& o, const T* p, unsigned stride) {
#if defined(CONCORD_GPU_EMULATED)
  if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0 || stride % 8 != 0) std::abort();  // what ldmatrix would not take
#endif
  o.p = p, o.stride = stride;
}
template <class T>
GPU_DEVICE void multiply_tiles(TileSum& c, const TileOperand<T>& a, const TileOperand<T>& b) {
  float row[kTile];
  for (unsigned k = 0; k < kTile; ++k) row[k] = to_float(a.p[plain_tile_row(0) * a.stride + k]);
  GPU_UNROLL
  for (unsigned i = 0; i < 8; ++i) {  // with an unknown count the sums of a GPU would lie in memory
    if (i >= tile_elements()) break;
    const T* col = b.p + plain_tile_col(i) * b.stride;
    for (unsigned k = 0; k < kTile; ++k) c.v[i] = fused(row[k], to_float(col[k]), c.v[i]);
  }
}

#endif

template <class T>
GPU_DEVICE void tile_multiply(TileSum& c, const T* a, unsigned a_stride, const T* b, unsigned b_stride) {
  TileOperand<T> x, y;
  load_tile(x, a, a_stride);
  load_tile(y, b, b_stride);
  multiply_tiles(c, x, y);
}

}  // namespace CONCORD_GPU
