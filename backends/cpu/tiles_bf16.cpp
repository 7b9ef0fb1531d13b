// The tiles of cpu:bf16: VDPBF16PS adds two products of bf16 numbers to a float32 sum. Integer weights become bf16
// without loss (up to 127 there are no more than 7 bits), so they are multiplied as they are stored; their scales
// multiply float32 sums.
#define CONCORD_LANES 16
#define CONCORD_FMA 1
#include "simd.hpp"
#include "tile_sums.hpp"

namespace cpu {
namespace {

inline __m512bh bf(__m512i v) { return reinterpret_cast<__m512bh>(v); }

// bf16 numbers of the integers 0 to 127: low bytes, high bytes.
struct ByteEntries {
  alignas(64) std::uint8_t byte[2][128];
  constexpr ByteEntries() : byte{} {
    for (int m = 0; m < 128; ++m) {
      const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, static_cast<float>(m)) >> 16;
      byte[0][m] = static_cast<std::uint8_t>(bits & 255u), byte[1][m] = static_cast<std::uint8_t>(bits >> 8);
    }
  }
};
constexpr ByteEntries kBytes;

struct ByteTables {
  __m512i low[2] = {_mm512_load_si512(kBytes.byte[0]), _mm512_load_si512(kBytes.byte[0] + 64)};
  __m512i high[2] = {_mm512_load_si512(kBytes.byte[1]), _mm512_load_si512(kBytes.byte[1] + 64)};
  // 64 int8 -> the pairs of inputs 0, 1 and those of inputs 2, 3 (the layout of kI8Quads).
  void pairs(__m512i q, __m512i& first, __m512i& second) const {
    const __m512i m = _mm512_abs_epi8(q);
    const __m512i l = _mm512_permutex2var_epi8(low[0], m, low[1]);
    const __m512i h = _mm512_ternarylogic_epi64(_mm512_permutex2var_epi8(high[0], m, high[1]), q,
                                                _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);  // a | (b & c)
    first = _mm512_unpacklo_epi8(l, h), second = _mm512_unpackhi_epi8(l, h);
  }
};

// bf16 numbers of nibble - zero. Entry i is i % 16 - 8 where every zero is 8, so that a look-up may leave the
// neighbouring nibble's lowest bit in its index; else i - 16, and the index is nibble + 16 - zero.
struct NibbleEntries {
  alignas(64) std::uint16_t entry[2][32];
  constexpr NibbleEntries() : entry{} {
    for (int i = 0; i < 32; ++i) {
      entry[0][i] = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, static_cast<float>(i % 16 - 8)) >> 16);
      entry[1][i] = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, static_cast<float>(i - 16)) >> 16);
    }
  }
};
constexpr NibbleEntries kNibbles;

inline __m512i nibble_offsets(const std::uint8_t* zeros) {  // 16 - zero in both halves of every row's word
  const __m512i z = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros)));
  const __m512i d = _mm512_sub_epi32(_mm512_set1_epi32(16), z);
  return _mm512_or_si512(d, _mm512_slli_epi32(d, 16));
}

template <bool kZeros>
inline __m512i nibble_pairs(__m512i words, unsigned j, __m512i table, __m512i offset) {
  __m512i index = _mm512_srli_epi16(words, 4 * j);
  if constexpr (kZeros) index = _mm512_add_epi16(_mm512_and_si512(index, _mm512_set1_epi16(15)), offset);
  return _mm512_permutexvar_epi16(index, table);
}

template <std::size_t R, std::size_t N>
struct Sums : TileSums<R, N> {
  // Two inputs: pairs w[v] times token r's pair. `left` 1: the second input does not exist.
  void step(const __m512i (&w)[N], const std::uint16_t* x, std::size_t x_stride, std::size_t left) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      std::uint32_t pair = x[r * x_stride];
      if (left > 1) __builtin_memcpy(&pair, x + r * x_stride, 4);
      const __m512i b = _mm512_set1_epi32(static_cast<int>(pair));
#pragma GCC unroll 8
      for (std::size_t v = 0; v < N; ++v) this->acc[r][v] = _mm512_dpbf16_ps(this->acc[r][v], bf(w[v]), bf(b));
    }
  }
};

template <std::size_t R, std::size_t N>
inline void pair_segment(Sums<R, N>& s, const TileCall& c, std::size_t k0, std::size_t n) {
  const std::byte* p = c.panel + k0 / 2 * N * 64;
  const auto* x = static_cast<const std::uint16_t*>(c.x) + k0;
  const auto one = [&](std::size_t k, std::size_t left) {
    __m512i w[N];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) w[v] = load_ints(p + v * 64);
    s.step(w, x + k, c.x_stride, left);
  };
  std::size_t k = 0;
  for (; k + 2 <= n; k += 2, p += N * 64) one(k, 2);
  if (k < n) one(k, 1);
}

template <std::size_t R, std::size_t N>
inline void quad_segment(Sums<R, N>& s, const TileCall& c, const ByteTables& tables, std::size_t k0, std::size_t n) {
  const std::byte* p = c.panel + k0 / 4 * N * 64;
  const auto* x = static_cast<const std::uint16_t*>(c.x) + k0;
  const auto one = [&](std::size_t k, std::size_t left) {
    __m512i w[2][N];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) tables.pairs(load_ints(p + v * 64), w[0][v], w[1][v]);
    s.step(w[0], x + k, c.x_stride, left);
    if (left > 2) s.step(w[1], x + k + 2, c.x_stride, left - 2);
  };
  std::size_t k = 0;
  for (; k + 4 <= n; k += 4, p += N * 64) one(k, 4);
  if (k < n) one(k, n - k);
}

template <bool kZeros, std::size_t R, std::size_t N>
inline void nibble_segment(Sums<R, N>& s, const TileCall& c, __m512i table, const std::uint8_t* zeros, std::size_t k0,
                           std::size_t n) {
  __m512i offset[N];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < N; ++v)
    offset[v] = kZeros ? nibble_offsets(zeros + v * kVec) : _mm512_setzero_si512();
  const std::byte* p = c.panel + k0 / 8 * N * 64;
  const auto* x = static_cast<const std::uint16_t*>(c.x) + k0;
  const auto one = [&](std::size_t k, std::size_t left) {
    __m512i d[N], w[N];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) d[v] = load_ints(p + v * 64);
#pragma GCC unroll 4
    for (unsigned j = 0; j < 4; ++j) {
      if (2 * j >= left) return;
#pragma GCC unroll 8
      for (std::size_t v = 0; v < N; ++v) w[v] = nibble_pairs<kZeros>(d[v], j, table, offset[v]);
      s.step(w, x + k + 2 * j, c.x_stride, left - 2 * j);
    }
  };
  std::size_t k = 0;
  for (; k + 8 <= n; k += 8, p += N * 64) one(k, 8);
  if (k < n) one(k, n - k);
}

template <Form F, std::size_t R, std::size_t N>
void tile(const TileCall& c) {
  [[maybe_unused]] const __m512i nibbles = _mm512_load_si512(kNibbles.entry[c.zeros ? 1 : 0]);
  [[maybe_unused]] const ByteTables bytes;
  for (std::size_t k0 = 0, g = 0; k0 < c.k; k0 += c.segment, ++g) {
    const std::size_t n = c.segment < c.k - k0 ? c.segment : c.k - k0;
    Sums<R, N> s;
    if constexpr (F == kBf16Pairs) pair_segment(s, c, k0, n);
    if constexpr (F == kI8Quads) quad_segment(s, c, bytes, k0, n);
    if constexpr (F == kU4) {
      if (c.zeros)
        nibble_segment<true>(s, c, nibbles, c.zeros + g * N * kVec, k0, n);
      else
        nibble_segment<false>(s, c, nibbles, nullptr, k0, n);
    }
    s.give(c, c.scales ? c.scales + g * N * kVec : nullptr, g == 0 && !c.add);
  }
}

void expand_quads(const ExpandCall& c) {
  const ByteTables tables;
  for (std::size_t q = 0; q < (c.k + 3) / 4; ++q)
    for (std::size_t v = 0; v < c.w / kVec; ++v) {
      __m512i first, second;
      tables.pairs(load_ints(c.panel + (q * c.w / kVec + v) * 64), first, second);
      _mm512_storeu_si512(c.out + (2 * q * c.w / kVec + v) * 64, first);
      _mm512_storeu_si512(c.out + ((2 * q + 1) * c.w / kVec + v) * 64, second);
    }
}

template <bool kZeros>
void expand_nibbles(const ExpandCall& c) {
  const __m512i nibbles = _mm512_load_si512(kNibbles.entry[kZeros ? 1 : 0]);
  for (std::size_t b = 0; b < (c.k + 7) / 8; ++b)
    for (std::size_t v = 0; v < c.w / kVec; ++v) {
      const __m512i words = load_ints(c.panel + (b * c.w / kVec + v) * 64);
      __m512i offset = _mm512_setzero_si512();
      if constexpr (kZeros) offset = nibble_offsets(c.zeros + 8 * b / c.segment * c.w + v * kVec);
      for (unsigned j = 0; j < 4; ++j)
        _mm512_storeu_si512(c.out + ((4 * b + j) * c.w / kVec + v) * 64,
                            nibble_pairs<kZeros>(words, j, nibbles, offset));
    }
}

void expand(const ExpandCall& c) {
  if (c.form == kI8Quads) return expand_quads(c);
  if (c.form == kU4) return c.zeros ? expand_nibbles<true>(c) : expand_nibbles<false>(c);
  __builtin_memcpy(c.out, c.panel, panel_bytes(kBf16Pairs, c.w, c.k));
}

#define CONCORD_TILE_LIST(F) \
  {{tile<F, 1, 4>, tile<F, 1, 2>}, {tile<F, 2, 4>, tile<F, 2, 2>}, {tile<F, 3, 4>, tile<F, 3, 2>}, \
   {tile<F, 4, 4>, tile<F, 4, 2>}, {tile<F, 5, 4>, tile<F, 5, 2>}, {tile<F, 6, 4>, tile<F, 6, 2>}}

}  // namespace

const TileSet kBf16Tiles = {"avx512_bf16 dot products",
                            true,
                            kVec,
                            6,
                            512,
                            kBf16Pairs,
                            {{}, {}, {}, {}, CONCORD_TILE_LIST(kU4), CONCORD_TILE_LIST(kBf16Pairs), CONCORD_TILE_LIST(kI8Quads)},
                            expand};

}  // namespace cpu
