// Attention of few tokens (decode): the context is cut into chunks of 128 rows, counted from the sequence's first row, and each block reads the keys and values of one chunk
// once for all query heads that share them. A second kernel puts the chunks of a query together in their order. The chunk is a constant, so a token's bits depend neither on
// the number of tokens nor on the device's size.
#include <algorithm>
#include <cstdio>

#include "gpu/block.hpp"
#include "gpu/kernels/attention.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kChunk = 128, kThreads = 128;
constexpr unsigned kHeads = 8;      // query heads side by side; more go in turns, from the cache
constexpr unsigned kReduced = 4;    // of them that meet in shared memory at a time
constexpr unsigned kLanes = 8;      // lanes that share a key
constexpr std::uint64_t kMostPartial = 64u << 20;  // [bytes] of scratch memory, unless one token needs more

// Chunks' sums: numbers [token][head][chunk][d], and for each a pair of the largest score and the sum of the weights.
struct Partial {
  float* sums;
  float* pairs;
  unsigned first, chunks;  // the first token; chunks of a sequence
  GPU_DEVICE std::size_t at(const AttentionCall& a, unsigned token, unsigned head, unsigned chunk) const {
    return (static_cast<std::size_t>(token) * a.heads + head) * chunks + chunk;
  }
};

struct alignas(16) SplitRoom {  // q is read 16 bytes at a time
  float q[kHeads][kMostHeadSize];
  float weight[kHeads][kChunk];
  float sum[kReduced][kThreads * 8];
};

// One chunk of one token for the query heads head .. head + heads.
template <class T>
struct Chunk {
  const AttentionCall& a;
  const Partial& out;
  SplitRoom& room;
  unsigned token, head, heads, chunk, n;  // n: rows of it
  std::size_t first, stride;              // element where its first row begins, from row to row
  std::size_t scale_at;

  GPU_DEVICE void load_queries() const {
    for (unsigned i = thread(); i < heads * a.d; i += threads()) {
      const std::size_t at = (static_cast<std::size_t>(out.first + token) * a.heads + head) * a.d + i;
      room.q[i / a.d][i % a.d] = a.dtype == CONCORD_F32   ? static_cast<const float*>(a.q)[at]
                                 : a.dtype == CONCORD_F16 ? to_float(static_cast<const F16*>(a.q)[at])
                                                          : to_float(static_cast<const BF16*>(a.q)[at]);
    }
  }

  // weight[h][j] = q[h] k[j] scale. Eight lanes share a key, each with every eighth group of eight numbers.
  GPU_DEVICE void score() const {
    const unsigned part = thread() % kLanes;
    const T* keys = static_cast<const T*>(a.keys) + first;
    for (unsigned j = thread() / kLanes; j < kChunk; j += threads() / kLanes) {
      float dot[kHeads] = {};
      for (unsigned i = part * 8; j < n && i < a.d; i += kLanes * 8) {
        float k[8];
        load8(keys + j * stride + i, a.d - i, a.cache_aligned, k);
        add_dots(k, i, dot);
      }
      float mine = 0;
      GPU_UNROLL
      for (unsigned h = 0; h < kHeads; ++h) {
        if (h >= heads) continue;
        for (unsigned mask = kLanes / 2; mask > 0; mask /= 2) dot[h] += exchange_xor(dot[h], mask);
        if (h == part) mine = dot[h];
      }
      if (part >= heads || j >= n) continue;
      if (a.key_scales) mine *= a.key_scales[scale_at + static_cast<std::size_t>(j) * a.groups];
      room.weight[part][j] = mine * a.scale;
    }
  }
  GPU_DEVICE void add_dots(const float* k, unsigned i, float (&dot)[kHeads]) const {
    const unsigned count = a.d - i < 8 ? a.d - i : 8;
    GPU_UNROLL
    for (unsigned h = 0; h < kHeads; ++h) {
      if (h >= heads) continue;
      if (count == 8) {
        float q[8];
        read8(&room.q[h][i], q);
        for (unsigned e = 0; e < 8; ++e) dot[h] = fused(q[e], k[e], dot[h]);
      } else {
        for (unsigned e = 0; e < count; ++e) dot[h] = fused(room.q[h][i + e], k[e], dot[h]);
      }
    }
  }

  // Weights exp(score - the chunk's largest), times the values' scales: one warp for a head.
  GPU_DEVICE void soften() const {
    for (unsigned h = warp(); h < heads; h += threads() / warp_width()) {
      float most = minus_infinity(), total = 0;
      for (unsigned j = lane(); j < n; j += warp_width())
        if (room.weight[h][j] > most) most = room.weight[h][j];
      most = warp_reduce(most, Greater{});
      for (unsigned j = lane(); j < n; j += warp_width()) {
        const float w = expf(room.weight[h][j] - exp_base(most));
        total += w;
        room.weight[h][j] = a.value_scales ? w * a.value_scales[scale_at + static_cast<std::size_t>(j) * a.groups] : w;
      }
      total = warp_reduce(total, Plus{});
      if (lane() != 0) continue;
      float* pair = out.pairs + 2 * out.at(a, token, head + h, chunk);
      pair[0] = most, pair[1] = total;
    }
  }

  // Each thread has eight columns of every `parts`-th row; the rows' parts meet in shared memory, in their order.
  GPU_DEVICE void weigh() const {
    const unsigned columns = (a.d + 7) / 8, parts = threads() / columns, column = thread() % columns, part = thread() / columns;
    const T* values = static_cast<const T*>(a.values) + first + column * 8;
    float sum[kHeads][8] = {};
    for (unsigned j = part; part < parts && j < n; j += parts) {
      float v[8];
      load8(values + j * stride, a.d - column * 8, a.cache_aligned, v);
      GPU_UNROLL
      for (unsigned h = 0; h < kHeads; ++h) {
        if (h >= heads) continue;
        const float w = room.weight[h][j];
        for (unsigned e = 0; e < 8; ++e) sum[h][e] = fused(w, v[e], sum[h][e]);
      }
    }
    GPU_UNROLL
    for (unsigned h0 = 0; h0 < kHeads; h0 += kReduced) {
      if (h0 >= heads) continue;
      sync();
      GPU_UNROLL
      for (unsigned h = 0; h < kReduced; ++h)
        for (unsigned e = 0; e < 8; ++e)
          if (part < parts) room.sum[h][(part * columns + column) * 8 + e] = sum[h0 + h][e];
      sync();
      for (unsigned i = thread(); i < kReduced * a.d; i += threads())
        if (h0 + i / a.d < heads) put_sum(h0, i / a.d, i % a.d, parts, columns * 8);
    }
  }
  GPU_DEVICE void put_sum(unsigned h0, unsigned h, unsigned i, unsigned parts, unsigned width) const {
    float sum = room.sum[h][i];
    for (unsigned p = 1; p < parts; ++p) sum += room.sum[h][p * width + i];
    out.sums[out.at(a, token, head + h0 + h, chunk) * a.d + i] = sum;
  }
};

template <class T>
GPU_KERNEL GPU_BOUNDS(kThreads) attend_chunks(AttentionCall a, Partial out) {
  GPU_SHARED(SplitRoom, room);
  const unsigned chunk = block() / a.groups, group = block() % a.groups, token = block_y();
  const int last = last_row(a, out.first + token, block() == 0);
  if (last < 0) return;
  const int start = last / a.sequence * a.sequence;
  const unsigned visible = static_cast<unsigned>(last - start) + 1, before = chunk * kChunk;
  if (before >= visible) return;
  const unsigned n = visible - before < kChunk ? visible - before : kChunk;
  const std::size_t at = (static_cast<std::size_t>(start) + before) * a.groups + group;
  for (unsigned h = 0; h < a.share; h += kHeads) {
    const unsigned heads = a.share - h < kHeads ? a.share - h : kHeads;
    const Chunk<T> c{a, out, room, token, group * a.share + h, heads, chunk, n, at * a.d, static_cast<std::size_t>(a.groups) * a.d, at};
    c.load_queries();
    sync();
    c.score();
    sync();
    c.soften();
    sync();
    c.weigh();
    sync();
  }
}

// y of one token and head from the chunks of its context, in their order.
GPU_KERNEL GPU_BOUNDS(kThreads) join_chunks(AttentionCall a, Partial in) {
  GPU_SHARED(float[32], maxima);
  GPU_SHARED(float[kThreads], weight);
  const unsigned head = block(), token = block_y();
  const int last = last_row(a, in.first + token, false);
  if (last < 0) return;
  const unsigned chunks = static_cast<unsigned>(last % a.sequence) / kChunk + 1;
  const std::size_t at = in.at(a, token, head, 0);
  const float *pairs = in.pairs + 2 * at, *sums = in.sums + at * a.d;
  float most = minus_infinity(), total = 0, y[kMostHeadSize / kThreads] = {};
  for (unsigned c = thread(); c < chunks; c += threads())
    if (pairs[2 * c] > most) most = pairs[2 * c];
  most = exp_base(block_reduce(most, maxima, Greater{}));
  for (unsigned c0 = 0; c0 < chunks; c0 += kThreads) {
    const unsigned count = chunks - c0 < kThreads ? chunks - c0 : kThreads;
    if (thread() < count) weight[thread()] = expf(pairs[2 * (c0 + thread())] - most);
    sync();
    for (unsigned c = 0; c < count; ++c) {
      total = fused(pairs[2 * (c0 + c) + 1], weight[c], total);
      const float* sum = sums + static_cast<std::size_t>(c0 + c) * a.d;
      GPU_UNROLL
      for (unsigned k = 0; k < kMostHeadSize / kThreads; ++k)
        if (thread() + k * kThreads < a.d) y[k] = fused(sum[thread() + k * kThreads], weight[c], y[k]);
    }
    sync();
  }
  const std::size_t to = (static_cast<std::size_t>(in.first + token) * a.heads + head) * a.d;
  GPU_UNROLL
  for (unsigned k = 0; k < kMostHeadSize / kThreads; ++k)
    if (thread() + k * kThreads < a.d) store(a.dtype, a.y, to + thread() + k * kThreads, y[k] / total);
}

template <class T>
Error launch_chunks(const Context& c, const AttentionCall& a, const Partial& p, unsigned tokens) {
  return GPU_LAUNCH(attend_chunks<T>, p.chunks * a.groups, tokens, kThreads, 0, c.stream, a, p);
}

Error launch_split(const Context& c, const AttentionCall& a, const Partial& p, unsigned tokens) {
  const Error e = a.cache_dtype == CONCORD_F32    ? launch_chunks<float>(c, a, p, tokens)
                  : a.cache_dtype == CONCORD_F16  ? launch_chunks<F16>(c, a, p, tokens)
                  : a.cache_dtype == CONCORD_BF16 ? launch_chunks<BF16>(c, a, p, tokens)
                                                  : launch_chunks<std::int8_t>(c, a, p, tokens);
  return e == kSuccess ? GPU_LAUNCH(join_chunks, a.heads, tokens, kThreads, 0, c.stream, a, p) : e;
}

}  // namespace

concord_status attention_split(Context& c, const AttentionCall& a) {
  Partial p{};
  p.chunks = ceil_div(static_cast<std::uint64_t>(a.sequence), kChunk);
  const std::uint64_t sums = static_cast<std::uint64_t>(a.heads) * p.chunks, each = sums * (a.d + 2) * sizeof(float);
  const auto most = static_cast<unsigned>(std::clamp<std::uint64_t>(kMostPartial / each, 1, 32768));
  const unsigned at_once = std::min(most, a.tokens);
  void* memory = nullptr;
  if (const auto s = scratch(c.device, kSlotPartial, each * at_once, c.stream, &memory, c.err); s != CONCORD_OK) return s;
  p.sums = static_cast<float*>(memory), p.pairs = p.sums + sums * at_once * a.d;
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "attention: %s split chunk%u wave%u", kTarget, kChunk, c.device.properties.warp);
  for (p.first = 0; p.first < a.tokens; p.first += at_once) {
    const Error e = launch_split(c, a, p, std::min(at_once, a.tokens - p.first));
    if (e != kSuccess) return c.done(e);
  }
  return CONCORD_OK;
}

}  // namespace CONCORD_GPU
