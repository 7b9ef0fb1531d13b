// Attention with an online softmax (Milakov and Gimelshein 2018; tiled as by Dao et al. 2022), included behind
// kernels_impl.hpp. Keys come in steps of one panel, counted from the sequence's first row, and every sum of a query
// runs over keys in their order: what a query gets does not depend on the queries beside it, so prefill, chunks and
// decode give the same bits.
#include "attention_tile.hpp"

namespace cpu {
namespace {

struct AttentionScratch {
  float *keys, *values, *raw, *score, *out, *step, *largest, *total, *shrink;
  AttentionScratch(const AttentionBlock& b, std::size_t width, std::size_t wide) {
    float* p = b.scratch;
    const auto take = [&p](std::size_t n) {
      float* at = p;
      p += n;
      return at;
    };
    keys = take(width * b.d), values = take(width * wide), raw = take(width * wide), score = take(b.rows * width);
    out = take(b.rows * wide), step = take(b.rows * wide), largest = take(b.rows), total = take(b.rows), shrink = take(b.rows);
  }
};

// Row p of the cache as float32, without its scale.
const float* cache_row(const AttentionBlock& b, const std::byte* from, std::size_t p, float* wide) {
  if (b.cache_dtype == 0) return reinterpret_cast<const float*>(from) + p * b.cache_stride;
  if (b.cache_dtype == 5) {
    const auto* q = reinterpret_cast<const std::int8_t*>(from) + p * b.cache_stride;
    for (std::size_t i = 0; i < b.d; ++i) wide[i] = static_cast<float>(q[i]);
  } else {
    load(b.cache_dtype, from + p * b.cache_stride * 2, b.d, wide);
  }
  return wide;
}

#if defined(__AVX512F__)
// to[i * stride + j] = from[j][i] for 16 rows of 16 numbers.
inline void transpose16(const float* const* from, std::size_t at, float* to, std::size_t stride) {
  __m512 a[16], t[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(from[i] + at);
  for (int i = 0; i < 16; i += 2) {  // pairs of rows
    t[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // four rows: a[i + c] has column c of every group of four columns
    const auto lo = [](__m512 x, __m512 y) {
      return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    };
    const auto hi = [](__m512 x, __m512 y) {
      return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    };
    a[i] = lo(t[i], t[i + 2]), a[i + 1] = hi(t[i], t[i + 2]);
    a[i + 2] = lo(t[i + 1], t[i + 3]), a[i + 3] = hi(t[i + 1], t[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {  // gather the 128-bit parts: columns c, c + 4, c + 8, c + 12
    const __m512 p = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88), q = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
    const __m512 r = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88), s = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
    const auto put = [&](int column, __m512 v) { _mm512_storeu_ps(to + static_cast<std::size_t>(column) * stride, v); };
    put(c, _mm512_shuffle_f32x4(p, r, 0x88)), put(c + 8, _mm512_shuffle_f32x4(p, r, 0xdd));
    put(c + 4, _mm512_shuffle_f32x4(q, s, 0x88)), put(c + 12, _mm512_shuffle_f32x4(q, s, 0xdd));
  }
}
#endif

// Keys first .. first + n as a panel [d][width], zeros behind.
void load_keys(const AttentionBlock& b, std::size_t first, std::size_t n, std::size_t width, AttentionScratch& s) {
  const float* row[64];
  for (std::size_t j = 0; j < n; ++j) row[j] = cache_row(b, b.keys, first + j, s.raw + j * b.d);
  std::size_t done = 0, deep = 0;
#if defined(__AVX512F__)
  deep = b.d / 16 * 16;
  for (; done + 16 <= n; done += 16)
    for (std::size_t i = 0; i < deep; i += 16) transpose16(row + done, i, s.keys + i * width + done, width);
#endif
  for (std::size_t i = 0; i < b.d; ++i) {
    for (std::size_t j = i < deep ? done : 0; j < n; ++j) s.keys[i * width + j] = row[j][i];
    for (std::size_t j = n; j < width; ++j) s.keys[i * width + j] = 0;
  }
}

// Values first .. first + n in panels [n][w] one behind the other.
void load_values(const AttentionBlock& b, std::size_t first, std::size_t n, std::size_t wide, AttentionScratch& s) {
  const std::size_t full = kPanelVectors * b.tiles->lanes;
  for (std::size_t j = 0; j < n; ++j) {
    const float* row = cache_row(b, b.values, first + j, s.raw);
    for (std::size_t at = 0; at < wide; at += full) {
      const std::size_t w = full < wide - at ? full : wide - at;
      float* to = s.values + at * n + j * w;
      for (std::size_t i = 0; i < w; ++i) to[i] = at + i < b.d ? row[at + i] : 0.0f;
    }
  }
}

void multiply(const TileSet& tiles, TileCall call, std::size_t rows, std::size_t vectors) {
  const auto* x = static_cast<const float*>(call.x);
  float* sums = call.sums;
  for (std::size_t r = 0; r < rows; r += tiles.rows) {
    const std::size_t count = tiles.rows < rows - r ? tiles.rows : rows - r;
    call.x = x + r * call.x_stride, call.sums = sums + r * call.stride;
    tiles.tile[kF32][count - 1][vectors == kPanelVectors ? 0 : 1](call);
  }
}

// step[r] = score[r] times the values, over n keys.
void weigh_values(const AttentionBlock& b, AttentionScratch& s, std::size_t r, std::size_t rows, std::size_t n,
                  std::size_t width, std::size_t wide, std::size_t loaded) {
  const std::size_t full = kPanelVectors * b.tiles->lanes;
  for (std::size_t at = 0; at < wide; at += full) {
    const std::size_t w = full < wide - at ? full : wide - at;
    TileCall c;
    c.x = s.score + r * width, c.x_stride = width, c.k = n, c.segment = width;
    c.panel = reinterpret_cast<const std::byte*>(s.values + at * loaded);
    c.sums = s.step + r * wide + at, c.stride = wide;
    multiply(*b.tiles, c, rows, w / b.tiles->lanes);
  }
}

// Turns the scores of query r over `seen` keys into weights exp(score - largest), zeros behind; shrink is what the sums
// before are to be multiplied with.
void soften(const AttentionBlock& b, AttentionScratch& s, std::size_t r, std::size_t first, std::size_t seen,
            std::size_t width) {
  float* score = s.score + r * width;
  if (b.key_scales)
    for (std::size_t j = 0; j < seen; ++j) score[j] *= b.key_scales[(first + j) * b.scale_stride];
  for (std::size_t j = 0; j < seen; ++j) score[j] *= b.scale;
  const float before = s.largest[r], here = max(score, seen);
  const float largest = (here > before || here != here) ? here : before;
  const float sum = exp_sum(score, largest, seen), shrink = exp_of(before - largest);
  if (b.value_scales)
    for (std::size_t j = 0; j < seen; ++j) score[j] *= b.value_scales[(first + j) * b.scale_stride];
  for (std::size_t j = seen; j < width; ++j) score[j] = 0;
  s.largest[r] = largest, s.total[r] = multiply_add(s.total[r], shrink, sum), s.shrink[r] = shrink;
}

bool all_finite(const float* v, std::size_t n) {
  bool fine = true;
  for (std::size_t i = 0; i < n; ++i) fine &= (v[i] - v[i] == 0.0f);
  return fine;
}

void attend(const AttentionBlock& b) {
  const std::size_t width = kPanelVectors * b.tiles->lanes, wide = attention_width(*b.tiles, b.d);
  AttentionScratch s(b, width, wide);
  for (std::size_t r = 0; r < b.rows; ++r) s.largest[r] = -__builtin_inff(), s.total[r] = 0;
  for (std::size_t i = 0; i < b.rows * wide; ++i) s.out[i] = 0;
  const std::size_t all = b.visible[b.rows - 1];
  for (std::size_t first = 0, r0 = 0; first < all; first += width) {
    const std::size_t n = width < all - first ? width : all - first;
    while (b.visible[r0] <= first) ++r0;
    load_keys(b, first, n, width, s);
    load_values(b, first, n, wide, s);
    TileCall c;
    c.x = b.q + r0 * b.d, c.x_stride = b.d, c.k = c.segment = b.d, c.panel = reinterpret_cast<const std::byte*>(s.keys);
    c.sums = s.score + r0 * width, c.stride = width;
    multiply(*b.tiles, c, b.rows - r0, kPanelVectors);
    const auto seen = [&](std::size_t r) { return n < b.visible[r] - first ? n : b.visible[r] - first; };
    for (std::size_t r = r0; r < b.rows; ++r) soften(b, s, r, first, seen(r), width);
    // A weight of zero hides a finite value; one that is not finite must be left out for the queries that do not see it.
    if (seen(r0) == n || all_finite(s.values, n * wide))
      weigh_values(b, s, r0, b.rows - r0, n, width, wide, n);
    else
      for (std::size_t r = r0; r < b.rows; ++r) weigh_values(b, s, r, 1, seen(r), width, wide, n);
    for (std::size_t r = r0; r < b.rows; ++r) {
      const float shrink = s.shrink[r], *step = s.step + r * wide;
      float* out = s.out + r * wide;
      for (std::size_t i = 0; i < wide; ++i) out[i] = multiply_add(out[i], shrink, step[i]);
    }
  }
  for (std::size_t r = 0; r < b.rows; ++r)
    for (std::size_t i = 0; i < b.d; ++i) b.out[r * b.d + i] = s.out[r * wide + i] / s.total[r];
}

}  // namespace
}  // namespace cpu
