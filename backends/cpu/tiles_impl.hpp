// The float32 tiles of one instruction set. Define CONCORD_TILES, CONCORD_TILES_NAME, CONCORD_TILE_ROWS and
// CONCORD_TILE_BLOCK besides what simd.hpp needs, then include.
#include "simd.hpp"
#include "tile_sums.hpp"

namespace cpu {
namespace {

// The numbers of one form, a vector at a time.
template <Form F>
inline Vec form_load(const std::byte* p) {
  if constexpr (F == kF32) return load(reinterpret_cast<const float*>(p));
  if constexpr (F == kF16) return load_f16(reinterpret_cast<const std::uint16_t*>(p));
  if constexpr (F == kBf16) return load_bf16(reinterpret_cast<const std::uint16_t*>(p));
  if constexpr (F == kI8) return load_i8(reinterpret_cast<const std::int8_t*>(p));
}
constexpr int nibble_shift(std::size_t j) { return static_cast<int>((j % 2) * 16 + (j / 2) * 4); }

template <std::size_t R, std::size_t N>
struct Sums : TileSums<R, N> {
  // One input: w[v] times token r's number.
  void step(const Vec (&w)[N], const float* x, std::size_t x_stride) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const Vec b = all(x[r * x_stride]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < N; ++v) this->acc[r][v] = multiply_add(b, w[v], this->acc[r][v]);
    }
  }
};

template <Form F, std::size_t R, std::size_t N>
inline void plain_segment(Sums<R, N>& s, const TileCall& c, std::size_t k0, std::size_t n) {
  const std::byte* p = c.panel + k0 * N * kVec * block_row_bytes(F);
  const float* x = static_cast<const float*>(c.x) + k0;
  for (std::size_t k = 0; k < n; ++k, p += N * kVec * block_row_bytes(F)) {
    Vec w[N];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) w[v] = form_load<F>(p + v * kVec * block_row_bytes(F));
    s.step(w, x + k, c.x_stride);
  }
}

template <std::size_t N>
inline void load_zeros(const std::uint8_t* zeros, Vec (&out)[N]) {
#pragma GCC unroll 8
  for (std::size_t v = 0; v < N; ++v) out[v] = zeros ? load_u8(zeros + v * kVec) : all(8.0f);
}

template <std::size_t R, std::size_t N>
inline void nibble_segment(Sums<R, N>& s, const TileCall& c, const std::uint8_t* zeros, std::size_t k0, std::size_t n) {
  Vec offset[N];
  load_zeros(zeros, offset);
  const std::byte* p = c.panel + k0 / 8 * N * kVec * 4;
  const float* x = static_cast<const float*>(c.x) + k0;
  for (std::size_t k = 0; k < n; k += 8, p += N * kVec * 4) {
    Ints d[N];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < N; ++v) d[v] = load_ints(p + v * kVec * 4);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
      if (k + j >= n) break;
      Vec w[N];
#pragma GCC unroll 8
      for (std::size_t v = 0; v < N; ++v) w[v] = sub(nibble(d[v], nibble_shift(j)), offset[v]);
      s.step(w, x + k + j, c.x_stride);
    }
  }
}

template <Form F, std::size_t R, std::size_t N>
void tile(const TileCall& c) {
  for (std::size_t k0 = 0, g = 0; k0 < c.k; k0 += c.segment, ++g) {
    const std::size_t n = c.segment < c.k - k0 ? c.segment : c.k - k0;
    Sums<R, N> s;
    if constexpr (F == kU4)
      nibble_segment(s, c, c.zeros ? c.zeros + g * N * kVec : nullptr, k0, n);
    else
      plain_segment<F>(s, c, k0, n);
    s.give(c, c.scales ? c.scales + g * N * kVec : nullptr, g == 0 && !c.add);
  }
}

template <Form F>
void expand_plain(const ExpandCall& c) {
  auto* out = reinterpret_cast<float*>(c.out);
  for (std::size_t i = 0; i < c.k * c.w; i += kVec) store(out + i, form_load<F>(c.panel + i * block_row_bytes(F)));
}

void expand_nibbles(const ExpandCall& c) {
  auto* out = reinterpret_cast<float*>(c.out);
  for (std::size_t k = 0; k < c.k; ++k) {
    const std::byte* p = c.panel + k / 8 * c.w * 4;
    for (std::size_t i = 0; i < c.w; i += kVec) {
      const Vec offset = c.zeros ? load_u8(c.zeros + k / c.segment * c.w + i) : all(8.0f);
      const Ints d = load_ints(p + i * 4);
      Vec value = zero();
      switch (k % 8) {  // a shift must be a constant where the vectors have no variable one
        case 0: value = nibble(d, nibble_shift(0)); break;
        case 1: value = nibble(d, nibble_shift(1)); break;
        case 2: value = nibble(d, nibble_shift(2)); break;
        case 3: value = nibble(d, nibble_shift(3)); break;
        case 4: value = nibble(d, nibble_shift(4)); break;
        case 5: value = nibble(d, nibble_shift(5)); break;
        case 6: value = nibble(d, nibble_shift(6)); break;
        default: value = nibble(d, nibble_shift(7));
      }
      store(out + k * c.w + i, sub(value, offset));
    }
  }
}

void expand(const ExpandCall& c) {
  switch (c.form) {
    case kF16: return expand_plain<kF16>(c);
    case kBf16: return expand_plain<kBf16>(c);
    case kI8: return expand_plain<kI8>(c);
    case kU4: return expand_nibbles(c);
    default: return expand_plain<kF32>(c);
  }
}

#if CONCORD_TILE_ROWS == 6
#define CONCORD_TILE_LIST(F) \
  {{tile<F, 1, 4>, tile<F, 1, 2>}, {tile<F, 2, 4>, tile<F, 2, 2>}, {tile<F, 3, 4>, tile<F, 3, 2>}, \
   {tile<F, 4, 4>, tile<F, 4, 2>}, {tile<F, 5, 4>, tile<F, 5, 2>}, {tile<F, 6, 4>, tile<F, 6, 2>}}
#elif CONCORD_TILE_ROWS == 3
#define CONCORD_TILE_LIST(F) \
  {{tile<F, 1, 4>, tile<F, 1, 2>}, {tile<F, 2, 4>, tile<F, 2, 2>}, {tile<F, 3, 4>, tile<F, 3, 2>}}
#else
#define CONCORD_TILE_LIST(F) {{tile<F, 1, 4>, tile<F, 1, 2>}, {tile<F, 2, 4>, tile<F, 2, 2>}}
#endif

}  // namespace

const TileSet CONCORD_TILES = {CONCORD_TILES_NAME,
                               false,
                               kVec,
                               CONCORD_TILE_ROWS,
                               CONCORD_TILE_BLOCK,
                               kF32,
                               {CONCORD_TILE_LIST(kF32), CONCORD_TILE_LIST(kF16), CONCORD_TILE_LIST(kBf16),
                                CONCORD_TILE_LIST(kI8), CONCORD_TILE_LIST(kU4), {}, {}},
                               expand};

}  // namespace cpu
