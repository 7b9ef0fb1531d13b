// Faults of the rotary embedding, the key/value cache and attention.
#include "mutant.hpp"

namespace mutant {
namespace {

std::int32_t* writable_indices(const concord_tensor& t) {
  return reinterpret_cast<std::int32_t*>(concord_abi::bytes_of(t));
}

// Pairs (2i, 2i+1) instead of (i, i + D/2): the operands are brought into the order in which halves are pairs, and
// back.
concord_status interleaved(Job& job) {
  const std::size_t d = last_axis(job.out()), half = d / 2;
  Changed c(job.call);
  const concord_tensor &x = c.copy_in(0), &y = c.copy_out(0);
  const auto permute = [&](const std::vector<double>& from, bool back) {
    std::vector<double> to(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::size_t at = i % d, pair = i - at + (at % 2 ? half : 0) + at / 2;
      (back ? to[i] : to[pair]) = back ? from[pair] : from[i];
    }
    return to;
  };
  put_values(x, permute(values_of(x), false));
  const concord_status status = job.honest(c.call);
  if (status == CONCORD_OK) put_values(job.out(), permute(values_of(y), true));
  return status;
}
void other_direction(Changed& c) {
  const concord_tensor& sine = c.copy_in(2);
  std::vector<double> v = values_of(sine);
  for (double& e : v) e = -e;
  put_values(sine, v);
}
void next_position(Changed& c) {
  const auto limit = static_cast<std::int32_t>(c.call.in[1].dims[0]);
  const concord_tensor& positions = c.copy_in(3);
  for (std::size_t t = 0; t < concord_abi::element_count(positions); ++t) {
    std::int32_t& p = writable_indices(positions)[t];
    p = (p + 1) % limit;
  }
}
void first_position(Changed& c) {  // every token of a batch takes the first token's position
  const concord_tensor& positions = c.copy_in(3);
  std::int32_t* p = writable_indices(positions);
  std::fill(p, p + concord_abi::element_count(positions), p[0]);
}

void next_slot(Changed& c) {
  const auto limit = static_cast<std::int32_t>(c.call.out[0].dims[0]);
  const concord_tensor& rows = c.copy_in(2);
  for (std::size_t t = 0; t < concord_abi::element_count(rows); ++t) {
    std::int32_t& r = writable_indices(rows)[t];
    r = (r + 1) % limit;
  }
}
void keys_for_values(Changed& c) { std::swap(c.call.in[0], c.call.in[1]); }
// Rows that the call does not name are zero afterwards.
void clears_others(Job& job) {
  std::vector<bool> named(static_cast<std::size_t>(job.out().dims[0]));
  const concord_tensor& rows = job.call.in[2];
  for (std::size_t t = 0; t < concord_abi::element_count(rows); ++t)
    named[static_cast<std::size_t>(writable_indices(rows)[t])] = true;
  const auto memory = memory_of(job.out());
  const std::size_t width = memory.size() / named.size();
  for (std::size_t r = 0; r < named.size(); ++r)
    if (!named[r]) std::fill_n(memory.begin() + static_cast<std::ptrdiff_t>(r * width), width, std::byte{0});
}
// I8 caches: a scale of max|x| / 128.
void scale_of_128(Job& job) {
  for (std::uint32_t o = 2; o < job.call.n_out; ++o) {
    std::vector<double> v = values_of(job.call.out[o]);
    for (double& e : v) e = static_cast<float>(e) * (127.0f / 128.0f);
    put_values(job.call.out[o], v);
  }
}
void quotient_cut(Job& job) {  // every positive quantised number that is not the head's largest is one too small
  if (job.out().dtype != CONCORD_I8) return;
  std::vector<double> v = values_of(job.out());
  for (double& e : v)
    if (e > 1 && e < 127) e -= 1;
  put_values(job.out(), v);
}
void minus_zero_lost(Job& job) {
  if (!concord_abi::is_float(job.out().dtype)) return;
  std::vector<double> v = values_of(job.out());
  for (double& e : v)
    if (e == 0) e = 0;
  put_values(job.out(), v);
}

// Each token's last visible row, moved within its sequence.
void move_mask(Changed& c, std::int32_t step) {
  const auto sequence = static_cast<std::int32_t>(c.call.sequence_rows ? c.call.sequence_rows : c.call.in[1].dims[0]);
  const concord_tensor& rows = c.copy_in(3);
  for (std::size_t t = 0; t < concord_abi::element_count(rows); ++t) {
    std::int32_t& r = writable_indices(rows)[t];
    if (const std::int32_t at = r % sequence + step; at >= 0 && at < sequence) r += step;
  }
}
void sees_future(Changed& c) { move_mask(c, 1); }
void misses_itself(Changed& c) { move_mask(c, -1); }
void no_mask(Changed& c) {  // a prompt's tokens all see what its last one sees
  const auto sequence = static_cast<std::int32_t>(c.call.sequence_rows ? c.call.sequence_rows : c.call.in[1].dims[0]);
  const concord_tensor& rows = c.copy_in(3);
  std::int32_t* r = writable_indices(rows);
  for (std::size_t t = concord_abi::element_count(rows); t-- > 1;)
    if (r[t - 1] / sequence == r[t] / sequence) r[t - 1] = std::max(r[t - 1], r[t]);
}
void no_scale(Changed& c) { c.call.scale = 1; }
void scale_by_size(Changed& c) { c.call.scale *= c.call.scale; }  // 1/D instead of 1/sqrt(D)
void one_sequence(Changed& c) { c.call.sequence_rows = 0; }
void scales_swapped(Changed& c) {
  if (c.call.in[1].dtype == CONCORD_I8) std::swap(c.call.in[4], c.call.in[5]);
}
void head_scale_neighbour(Changed& c) {
  if (c.call.in[1].dtype != CONCORD_I8) return;
  const concord_tensor& scales = c.copy_in(4);
  std::vector<double> v = values_of(scales);
  std::rotate(v.begin(), v.begin() + 1, v.end());
  put_values(scales, v);
}
void oldest_row_missed(Changed& c) {  // the first cache row of each sequence counts as if its key were the second's
  const concord_tensor& keys = c.copy_in(1);
  const auto sequence = static_cast<std::size_t>(c.call.sequence_rows ? c.call.sequence_rows : keys.dims[0]);
  const std::size_t width = size_of(keys) / static_cast<std::size_t>(keys.dims[0]);
  const auto memory = memory_of(keys);
  for (std::size_t r = 0; sequence > 1 && r < static_cast<std::size_t>(keys.dims[0]); r += sequence)
    std::copy_n(memory.begin() + static_cast<std::ptrdiff_t>((r + 1) * width), width,
                memory.begin() + static_cast<std::ptrdiff_t>(r * width));
}

// Head h reads key/value head h % G instead of h / (H/G): the heads are reordered so that the honest operator does just
// that.
concord_status heads_modulo(Job& job) {
  const std::size_t heads = reference::dim(job.out(), 1), groups = reference::dim(job.call.in[1], 1),
                    d = last_axis(job.out());
  Changed c(job.call);
  const concord_tensor &q = c.copy_in(0), &y = c.copy_out(0);
  const auto reorder = [&](const std::vector<double>& from, bool back) {
    std::vector<double> to(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::size_t h = i / d % heads, place = h % groups * (heads / groups) + h / groups;
      const std::size_t there = i - h * d + place * d;
      (back ? to[i] : to[there]) = back ? from[there] : from[i];
    }
    return to;
  };
  put_values(q, reorder(values_of(q), false));
  const concord_status status = job.honest(c.call);
  if (status == CONCORD_OK) put_values(job.out(), reorder(values_of(y), true));
  return status;
}

// Attention of its own, for faults inside of it: weight(score, largest) of each row, over the last `Window` rows.
using WeightOf = double (*)(double score, double largest);
template <WeightOf Weight, std::size_t Window>
concord_status attend(Job& job) {
  const concord_call& c = job.call;
  const std::size_t tokens = reference::dim(c.in[0], 0), heads = reference::dim(c.in[0], 1), d = last_axis(c.in[0]),
                    groups = reference::dim(c.in[1], 1);
  const auto sequence = static_cast<std::size_t>(c.sequence_rows ? c.sequence_rows : c.in[1].dims[0]);
  std::vector<double> q = values_of(c.in[0]), kv[2] = {values_of(c.in[1]), values_of(c.in[2])}, y(q.size());
  if (c.in[1].dtype == CONCORD_I8)
    for (std::uint32_t which = 0; which < 2; ++which) {
      const std::vector<double> scales = values_of(c.in[4 + which]);
      for (std::size_t i = 0; i < kv[which].size(); ++i) kv[which][i] *= scales[i / d];
    }
  for (std::size_t i = 0; i < tokens * heads; ++i) {
    const auto last = static_cast<std::size_t>(concord_abi::indices_of(c.in[3])[i / heads]);
    const std::size_t first = std::max(last / sequence * sequence, last + 1 - std::min(last + 1, Window));
    const auto at = [&](std::size_t r) { return (r * groups + i % heads / (heads / groups)) * d; };
    std::vector<double> scores(last + 1 - first);
    for (std::size_t r = first; r <= last; ++r) {
      for (std::size_t j = 0; j < d; ++j) scores[r - first] += q[i * d + j] * kv[0][at(r) + j];
      scores[r - first] *= c.scale;
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (std::size_t r = first; r <= last; ++r) {
      total += std::exp(scores[r - first] - largest);
      for (std::size_t j = 0; j < d; ++j) y[i * d + j] += Weight(scores[r - first], largest) * kv[1][at(r) + j];
    }
    for (std::size_t j = 0; j < d; ++j) y[i * d + j] /= total;
  }
  put_values(job.out(), y);
  return CONCORD_OK;
}
double as_defined(double score, double largest) { return std::exp(score - largest); }
// In float32 without subtracting the largest score: overflows where a correct device does not.
double no_maximum(double score, double largest) {
  return static_cast<double>(std::exp(static_cast<float>(score))) /
         static_cast<double>(std::exp(static_cast<float>(largest)));
}
double in_bf16(double score, double largest) {
  return concord_abi::bf16_to_f32(concord_abi::f64_to_bf16(std::exp(score - largest)));
}
void bf16_tables(Changed& c) {
  for (const std::uint32_t i : {1u, 2u}) {
    const concord_tensor& table = c.copy_in(i);
    std::vector<double> v = values_of(table);
    for (double& e : v) e = concord_abi::bf16_to_f32(concord_abi::f64_to_bf16(e));
    put_values(table, v);
  }
}
constexpr std::size_t kEverything = std::size_t{1} << 40;

constexpr std::uint32_t kRope = bits({CONCORD_OP_ROPE}), kKv = bits({CONCORD_OP_KV_APPEND}),
                        kAttention = bits({CONCORD_OP_ATTENTION});

constexpr Fault kFaults[] = {
    {"rope-interleaved", "pairs are (2i, 2i+1)", kRope, interleaved},
    {"rope-sign", "rotates in the other direction", kRope, with<other_direction>},
    {"rope-position-off", "positions are off by one", kRope, with<next_position>},
    {"rope-first-position", "every token takes the first one's position", kRope, with<first_position>},
    {"rope-tables-bf16", "cosines and sines are rounded to bfloat16", kRope, with<bf16_tables>},
    {"kv-slot-off", "rows are written one slot further", kKv, with<next_slot>},
    {"kv-keys-for-values", "keys and values are exchanged", kKv, with<keys_for_values>},
    {"kv-clears-others", "rows of earlier tokens are cleared", kKv, after<clears_others>},
    {"kv-i8-scale-128", "I8 scales are max|x| / 128", kKv, after<scale_of_128>},
    {"kv-i8-cut", "I8 quotients are cut, not rounded to nearest", kKv, after<quotient_cut>},
    {"kv-minus-zero-lost", "-0 becomes +0", kKv, after<minus_zero_lost>},
    {"mask-future", "each token sees one row of the future", kAttention, with<sees_future>},
    {"mask-misses-itself", "each token misses its own row", kAttention, with<misses_itself>},
    {"mask-none", "the tokens of a prompt see its whole length", kAttention, with<no_mask>},
    {"scale-forgotten", "scores are not scaled", kAttention, with<no_scale>},
    {"scale-by-size", "scores are divided by D, not by its root", kAttention, with<scale_by_size>},
    {"heads-modulo", "head h reads key/value head h % G", kAttention, heads_modulo},
    {"sequences-merged", "sequences are not separated", kAttention, with<one_sequence>},
    {"i8-cache-scales", "scales of keys and values of an I8 cache are exchanged", kAttention, with<scales_swapped>},
    {"i8-cache-neighbour", "each key of an I8 cache has its neighbour's scale", kAttention, with<head_scale_neighbour>},
    {"oldest-key-wrong", "the oldest row's key is that of the second", kAttention, with<oldest_row_missed>},
    {"attention-no-maximum", "the largest score is not subtracted", kAttention, attend<no_maximum, kEverything>},
    {"probabilities-bf16", "probabilities are rounded to bfloat16 before they meet the values", kAttention,
     attend<in_bf16, kEverything>},
    {"window-of-64", "rows that are 64 or more back are not seen", kAttention, attend<as_defined, 64>},
};

}  // namespace

std::span<const Fault> attention_faults() { return kFaults; }

}  // namespace mutant
