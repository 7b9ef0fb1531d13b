// Causal attention with grouped heads over the key/value cache: for each (token, head) the scores of rows 0..position,
// a softmax in two passes, then the weighted sum of values in row order. Scratch is one row of scores per thread:
// linear in the cache.
#include "device.hpp"

namespace cpu {
namespace {

// Row r of a cache tensor as float32: in place where it is stored so, else widened into scratch slot 2.
const float* cache_row(const Kernels& k, const concord_tensor& t, std::size_t r, std::size_t d) {
  const std::byte* p = row_of(t, r, d);
  if (t.dtype == CONCORD_F32) return reinterpret_cast<const float*>(p);
  float* wide = scratch(2, d);
  k.load(t.dtype, p, d, wide);
  return wide;
}

struct Shape {
  std::size_t tokens, heads, d, groups;
};

void attend(Context& c, const Shape& s, std::size_t token_head, std::size_t last) {
  const Kernels& k = c.device.kernels;
  const auto scale = static_cast<float>(c.call.scale);
  const std::size_t group = token_head % s.heads / (s.heads / s.groups);
  float *q = scratch(0, 2 * s.d), *sum = q + s.d, *score = scratch(1, last + 1);
  k.load(c.call.in[0].dtype, row_of(c.call.in[0], token_head, s.d), s.d, q);
  for (std::size_t p = 0; p <= last; ++p)
    score[p] = k.dot(q, cache_row(k, c.call.in[1], p * s.groups + group, s.d), s.d) * scale;
  const float total = k.exp_sum(score, k.max(score, last + 1), last + 1);
  std::fill(sum, sum + s.d, 0.0f);
  for (std::size_t p = 0; p <= last; ++p)
    k.axpy(score[p], cache_row(k, c.call.in[2], p * s.groups + group, s.d), sum, s.d);
  k.divide(sum, total, s.d);
  k.store(c.call.out[0].dtype, sum, s.d, row_of(c.call.out[0], token_head, s.d));
}

}  // namespace

concord_status attention(Context& c) {
  const concord_tensor& q = c.call.in[0];
  const Shape shape{dim(q, 0), dim(q, 1), dim(q, 2), dim(c.call.in[1], 1)};
  const std::int32_t* positions = concord_abi::indices_of(c.call.in[3]);
  const auto status =
      concord_abi::check_indices("attention", "positions", positions, shape.tokens, c.call.in[1].dims[0], c.err);
  if (status != CONCORD_OK) return status;
  const auto longest = static_cast<std::size_t>(*std::max_element(positions, positions + shape.tokens)) + 1;
  c.device.parallel(shape.tokens * shape.heads, 2 * longest * shape.d, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) attend(c, shape, i, static_cast<std::size_t>(positions[i / shape.heads]));
  });
  return CONCORD_OK;
}

}  // namespace cpu
