// Causal attention with grouped heads over the key/value cache: blocks of queries that share a key/value head are
// handed to the kernel, side by side. Scratch is linear in the block, whatever the cache holds.
#include "device.hpp"

namespace cpu {
namespace {

constexpr std::size_t kBlockQueries = 60;  // enough that loading a step's keys costs little, few enough for the cache

struct Attention {
  Context& c;
  const concord_call& call = c.call;
  const TileSet& tiles = *c.device.variant.attention_tiles;
  std::size_t tokens = dim(call.in[0], 0), heads = dim(call.in[0], 1), d = dim(call.in[0], 2);
  std::size_t groups = dim(call.in[1], 1), share = heads / groups;  // share: queries of a token to a key/value head
  std::size_t sequence = static_cast<std::size_t>(call.sequence_rows ? call.sequence_rows : call.in[1].dims[0]);
  const std::int32_t* rows = concord_abi::indices_of(call.in[3]);

  std::size_t row(std::size_t t) const { return static_cast<std::size_t>(rows[t]); }

  void cut(std::vector<AttentionRun>& runs) const {
    const std::size_t most = std::max<std::size_t>(1, kBlockQueries / share);
    for (std::size_t t = 0; t < tokens; ++t) {
      const bool joins = t > 0 && runs.back().count < most && row(t) >= row(t - 1) && row(t) / sequence == row(t - 1) / sequence;
      if (joins)
        ++runs.back().count;
      else
        runs.push_back({t, 1});
    }
  }

  void place_cache(AttentionBlock& b, std::size_t group, std::size_t first_row) const {
    const std::size_t at = first_row * groups + group, bytes = concord_abi::dtype_bytes(call.in[1].dtype);
    b.cache_dtype = call.in[1].dtype, b.cache_stride = groups * d, b.scale_stride = groups;
    b.keys = concord_abi::bytes_of(call.in[1]) + at * d * bytes;
    b.values = concord_abi::bytes_of(call.in[2]) + at * d * bytes;
    if (b.cache_dtype != CONCORD_I8) return;
    b.key_scales = reinterpret_cast<const float*>(concord_abi::bytes_of(call.in[4])) + at;
    b.value_scales = reinterpret_cast<const float*>(concord_abi::bytes_of(call.in[5])) + at;
  }

  void run(const AttentionRun& r, std::size_t group) const {
    const Kernels& k = c.device.kernels;
    const std::size_t queries = r.count * share, start = row(r.first) / sequence * sequence;
    float* q = scratch(0, 2 * queries * d);
    std::uint32_t visible[kBlockQueries > 512 ? kBlockQueries : 512];
    for (std::size_t t = 0; t < r.count; ++t) {
      k.load(call.in[0].dtype, row_of(call.in[0], (r.first + t) * heads + group * share, d), share * d, q + t * share * d);
      for (std::size_t h = 0; h < share; ++h) visible[t * share + h] = static_cast<std::uint32_t>(row(r.first + t) - start + 1);
    }
    AttentionBlock b;
    b.tiles = &tiles, b.q = q, b.out = q + queries * d, b.visible = visible, b.rows = queries, b.d = d;
    b.scale = static_cast<float>(call.scale), b.scratch = scratch(1, attention_scratch(tiles, queries, d));
    place_cache(b, group, start);
    k.attend(b);
    for (std::size_t t = 0; t < r.count; ++t)
      k.store(call.out[0].dtype, b.out + t * share * d, share * d,
              row_of(call.out[0], (r.first + t) * heads + group * share, d));
  }
};

}  // namespace

concord_status attention(Context& c) {
  const concord_tensor& q = c.call.in[0];
  const std::size_t tokens = dim(q, 0), share = dim(q, 1) / dim(c.call.in[1], 1);
  const std::int32_t* rows = concord_abi::indices_of(c.call.in[3]);
  const auto status = concord_abi::check_indices("attention", "rows", rows, tokens, c.call.in[1].dims[0], c.err);
  if (status != CONCORD_OK) return status;
  if (share > 512)
    return concord_abi::refuse(c.err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "attention: %zu query heads to one key/value head, at most 512", share);
  const Attention a{c};
  std::vector<AttentionRun>& runs = c.device.attention_runs(tokens);
  a.cut(runs);
  const std::size_t longest = static_cast<std::size_t>(*std::max_element(rows, rows + tokens)) + 1;
  c.device.spread(runs.size() * a.groups, 2 * share * a.d * std::min(longest, a.sequence), [&](std::size_t begin, std::size_t end) {
    // The last runs see the most rows: they go first, so that no thread is left with one at the end.
    for (std::size_t i = begin; i < end; ++i) a.run(runs[runs.size() - 1 - i / a.groups], i % a.groups);
  });
  return CONCORD_OK;
}

}  // namespace cpu
