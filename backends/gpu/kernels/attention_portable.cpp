// Attention of many tokens in multiply-adds, any types: 256 threads, 64 queries by 64 keys, an online softmax over tiles of keys (Milakov and Gimelshein 2018; Dao et al. 2022).
// Heads go through shared memory in slices of 64 numbers. A thread has four queries by four keys of the scores, and four queries by four columns of a slice of the result.
#include <cstdio>

#include "gpu/block.hpp"
#include "gpu/kernels/attention_prefill.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kKeys = 64, kSlice = 64, kThreads = 256, kStride = kSlice + 4;  // a stride that spreads float4 reads of eight rows over all banks
constexpr unsigned kSide = 16;                                                      // threads along the keys, and along the queries

struct PortableRoom {
  alignas(16) float a[kQueries * kStride];  // queries, then weights
  alignas(16) float b[kKeys * kStride];     // keys, then values
  float key_scale[kKeys], value_scale[kKeys];
  int last[kQueries];
};

struct Softmax {
  float most[4], total[4];
};

// One tile of keys: rows first + k0 .. first + k0 + n of the cache.
struct KeyTile {
  const QueryTile& q;
  const Run& run;
  PortableRoom& room;
  unsigned k0, n;

  GPU_DEVICE unsigned x() const { return thread() % kSide; }
  GPU_DEVICE unsigned query(unsigned i) const { return thread() / kSide + kSide * i; }
  // Keys of this tile that query i of this thread sees.
  GPU_DEVICE unsigned seen(unsigned i) const {
    const unsigned all = q.visible(run, query(i));
    return all <= k0 ? 0 : all - k0 < kKeys ? all - k0 : kKeys;
  }
  GPU_DEVICE bool whole() const { return run.least >= k0 + n; }  // every query sees every key

  GPU_DEVICE static void put8(float* to, const float* v) {
    put_float4(to, {{v[0], v[1], v[2], v[3]}});
    put_float4(to + 4, {{v[4], v[5], v[6], v[7]}});
  }
  GPU_DEVICE void load_queries(unsigned slice) const {
    const AttentionCall& a = q.a;
    for (unsigned i = thread(); i < kQueries * kSlice / 8; i += kThreads) {
      const unsigned r = i / (kSlice / 8), col = slice * kSlice + i % (kSlice / 8) * 8;
      float v[8] = {};
      if (col < a.d && q.token(r) < a.tokens) load8(a.dtype, a.q, q.place(r) + col, a.d - col, a.q_aligned, v);
      put8(room.a + r * kStride + i % (kSlice / 8) * 8, v);
    }
  }
  GPU_DEVICE void load_cache(const void* from, unsigned slice) const {  // zeros where there is nothing that anybody sees
    const AttentionCall& a = q.a;
    for (unsigned i = thread(); i < kKeys * kSlice / 8; i += kThreads) {
      const unsigned r = i / (kSlice / 8), col = slice * kSlice + i % (kSlice / 8) * 8;
      float v[8] = {};
      if (col < a.d && r < n) load8(a.cache_dtype, from, q.head(static_cast<std::size_t>(run.first) + k0 + r) * a.d + col, a.d - col, a.cache_aligned, v);
      put8(room.b + r * kStride + i % (kSlice / 8) * 8, v);
    }
  }
  GPU_DEVICE void load_scales() const {
    if (!q.a.key_scales || thread() >= kKeys) return;
    const bool used = thread() < n;
    const std::size_t at = q.head(static_cast<std::size_t>(run.first) + k0 + thread());
    room.key_scale[thread()] = used ? q.a.key_scales[at] : 0.0f, room.value_scale[thread()] = used ? q.a.value_scales[at] : 0.0f;
  }

  GPU_DEVICE void add_scores(unsigned slice, float (&score)[4][4]) const {
    const unsigned left = q.a.d - slice * kSlice, depth = left < kSlice ? left : kSlice;
    const float *queries = room.a + query(0) * kStride, *keys = room.b + x() * kStride;
    for (unsigned d = 0; d < depth; d += 4) {
      Float4 k[4];
      GPU_UNROLL
      for (unsigned j = 0; j < 4; ++j) k[j] = float4_at(keys + j * kSide * kStride + d);
      GPU_UNROLL
      for (unsigned i = 0; i < 4; ++i) {
        const Float4 row = float4_at(queries + i * kSide * kStride + d);
        for (unsigned j = 0; j < 4; ++j)
          for (unsigned e = 0; e < 4; ++e) score[i][j] = fused(row.v[e], k[j].v[e], score[i][j]);
      }
    }
  }

  template <class T, class Combine>
  GPU_DEVICE static T over_row(T v, Combine combine) {  // the sixteen threads of a query stand side by side in a warp
    for (unsigned mask = kSide / 2; mask > 0; mask /= 2) v = combine(v, exchange_xor(v, mask));
    return v;
  }
  // Scores become weights; what was summed before is to be multiplied with the result.
  GPU_DEVICE float soften(unsigned i, float (&score)[4], Softmax& state) const {
    const bool scaled = q.a.key_scales != nullptr;
    const unsigned limit = seen(i);
    float most = state.most[i], sum = 0;
    for (unsigned j = 0; j < 4; ++j) {
      if (scaled) score[j] *= room.key_scale[x() + kSide * j];
      score[j] *= q.a.scale;
      if (x() + kSide * j < limit && score[j] > most) most = score[j];
    }
    most = over_row(most, Greater{});
    for (unsigned j = 0; j < 4; ++j) {
      const float w = x() + kSide * j < limit ? expf(score[j] - exp_base(most)) : 0.0f;
      sum += w;
      score[j] = scaled && x() + kSide * j < limit ? w * room.value_scale[x() + kSide * j] : w;
    }
    const float shrink = expf(state.most[i] - exp_base(most));
    state.total[i] = fused(state.total[i], shrink, over_row(sum, Plus{}));
    state.most[i] = most;
    return shrink;
  }

  // A weight of 0 hides a finite value, but the value may not be finite: who does not see it must not touch it.
  template <bool kWhole>
  GPU_DEVICE void weigh(float (&step)[4][4]) const {
    unsigned limit[4];
    for (unsigned i = 0; i < 4; ++i) limit[i] = seen(i);
    const float *weights = room.a + query(0) * kStride, *values = room.b + x() * 4;
    for (unsigned j = 0; j < n; j += 4) {
      Float4 w[4];
      GPU_UNROLL
      for (unsigned i = 0; i < 4; ++i) w[i] = float4_at(weights + i * kSide * kStride + j);
      GPU_UNROLL
      for (unsigned e = 0; e < 4; ++e) {
        const Float4 v = float4_at(values + (j + e) * kStride);
        for (unsigned i = 0; i < 4; ++i)
          for (unsigned c = 0; c < 4; ++c) step[i][c] = kWhole || j + e < limit[i] ? fused(w[i].v[e], v.v[c], step[i][c]) : step[i][c];
      }
    }
  }

  template <unsigned kSlices>
  GPU_DEVICE void attend(Softmax& state, float (&out)[kSlices][4][4]) const {
    float score[4][4] = {}, shrink[4];
    for (unsigned s = 0; s < kSlices; ++s) {
      sync();
      load_queries(s), load_cache(q.a.keys, s), load_scales();
      sync();
      add_scores(s, score);
    }
    GPU_UNROLL
    for (unsigned i = 0; i < 4; ++i) shrink[i] = soften(i, score[i], state);
    sync();
    GPU_UNROLL
    for (unsigned i = 0; i < 4; ++i)
      for (unsigned j = 0; j < 4; ++j) room.a[query(i) * kStride + x() + kSide * j] = score[i][j];
    GPU_UNROLL
    for (unsigned s = 0; s < kSlices; ++s) {
      if (s > 0) sync();
      load_cache(q.a.values, s);
      sync();
      float step[4][4] = {};
      if (whole())
        weigh<true>(step);
      else
        weigh<false>(step);
      for (unsigned i = 0; i < 4; ++i)
        for (unsigned c = 0; c < 4; ++c) out[s][i][c] = fused(out[s][i][c], shrink[i], step[i][c]);
    }
  }
};

template <unsigned kSlices>
GPU_KERNEL GPU_BOUNDS(kThreads) attend_portable(AttentionCall a) {
  GPU_SHARED(PortableRoom, room);
  const QueryTile tile(a, room.last);
  tile.find_rows(room.last);
  sync();
  Softmax state;
  float out[kSlices][4][4] = {};
  for (unsigned i = 0; i < 4; ++i) state.most[i] = minus_infinity(), state.total[i] = 0;
  for (Run run; tile.next(run);)
    for (unsigned k0 = 0; k0 < run.keys; k0 += kKeys) KeyTile{tile, run, room, k0, run.keys - k0 < kKeys ? run.keys - k0 : kKeys}.attend<kSlices>(state, out);
  GPU_UNROLL
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned r = thread() / kSide + kSide * i;
    if (room.last[r] < 0) continue;
    GPU_UNROLL
    for (unsigned s = 0; s < kSlices; ++s)
      for (unsigned c = 0; c < 4; ++c) {
        const unsigned col = s * kSlice + thread() % kSide * 4 + c;
        if (col < a.d) store(a.dtype, a.y, tile.place(r) + col, out[s][i][c] / state.total[i]);
      }
  }
}

}  // namespace

concord_status attention_portable(Context& c, const AttentionCall& a) {
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "attention: %s portable %ux%u wave%u", kTarget, kQueries, kKeys, c.device.properties.warp);
  const unsigned blocks = query_tiles(a);
  if (a.d <= kSlice) return c.done(GPU_LAUNCH(attend_portable<1>, blocks, 1, kThreads, 0, c.stream, a));
  if (a.d <= 2 * kSlice) return c.done(GPU_LAUNCH(attend_portable<2>, blocks, 1, kThreads, 0, c.stream, a));
  return c.done(GPU_LAUNCH(attend_portable<4>, blocks, 1, kThreads, 0, c.stream, a));
}

}  // namespace CONCORD_GPU
