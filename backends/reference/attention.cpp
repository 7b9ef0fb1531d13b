// Rotary embedding (Su et al. 2021, halves: pairs (i, i + D/2)), the key/value cache, and causal attention with grouped
// heads.
#include "ops.hpp"

namespace reference {

concord_status rope(const concord_call& call, concord_error* err) {
  const concord_tensor& x = call.in[0];
  const std::size_t tokens = dim(x, 0), heads = dim(x, 1), d = dim(x, 2), half = d / 2;
  const std::int32_t* positions = concord_abi::indices_of(call.in[3]);
  const auto status = concord_abi::check_indices("rope", "positions", positions, tokens, call.in[1].dims[0], err);
  if (status != CONCORD_OK) return status;
  for_each(tokens * heads, [&](std::size_t i) {
    std::vector<double> v(d), c(half), s(half);
    load_row(x, i, d, v.data());
    load_row(call.in[1], static_cast<std::size_t>(positions[i / heads]), half, c.data());
    load_row(call.in[2], static_cast<std::size_t>(positions[i / heads]), half, s.data());
    for (std::size_t j = 0; j < half; ++j) {
      const double a = v[j], b = v[j + half];
      v[j] = a * c[j] - b * s[j];
      v[j + half] = b * c[j] + a * s[j];
    }
    store_row(call.out[0], i, d, v.data());
  });
  return CONCORD_OK;
}

namespace {
// The definition of an I8 cache is in float32, so the row is rounded to it first.
void store_quantised(const concord_call& call, std::uint32_t which, std::size_t at, const std::vector<double>& row) {
  const std::size_t heads = dim(call.in[0], 1), d = dim(call.in[0], 2);
  const std::vector<float> values(row.begin(), row.end());
  auto* q = reinterpret_cast<std::int8_t*>(concord_abi::bytes_of(call.out[which])) + at * heads * d;
  for (std::size_t h = 0; h < heads; ++h)
    concord_abi::store_as(concord_abi::bytes_of(call.out[2 + which]), at * heads + h,
                          concord_abi::quantise_head(values.data() + h * d, d, q + h * d));
}
}  // namespace

concord_status kv_append(const concord_call& call, concord_error* err) {
  const std::size_t tokens = dim(call.in[0], 0), width = dim(call.in[0], 1) * dim(call.in[0], 2);
  const std::int32_t* rows = concord_abi::indices_of(call.in[2]);
  const auto status = concord_abi::check_rows(rows, tokens, call.out[0].dims[0], err);
  if (status != CONCORD_OK) return status;
  std::vector<double> row(width);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::uint32_t which = 0; which < 2; ++which) {
      load_row(call.in[which], t, width, row.data());
      if (concord_abi::cache_dtype(call) == CONCORD_I8)
        store_quantised(call, which, static_cast<std::size_t>(rows[t]), row);
      else
        store_row(call.out[which], static_cast<std::size_t>(rows[t]), width, row.data());
    }
  }
  return CONCORD_OK;
}

namespace {

struct Head {
  const concord_call& call;
  std::size_t d, groups, group;  // head size; key/value heads, and the one that this head reads
  std::size_t first;             // the sequence's first cache row
  std::size_t row(std::size_t p) const { return (first + p) * groups + group; }
  void load(int operand, std::size_t p, double* out) const {  // key or value row p of the sequence, with its scale
    const concord_tensor& cache = call.in[operand];
    if (cache.dtype != CONCORD_I8) return load_row(cache, row(p), d, out);
    const double scale = concord_abi::load_as<float>(concord_abi::bytes_of(call.in[operand + 3]), row(p));
    for (std::size_t i = 0; i < d; ++i)
      out[i] = concord_abi::load_as<std::int8_t>(concord_abi::bytes_of(cache), row(p) * d + i) * scale;
  }
};

// Softmax in two passes over the sequence's rows 0..last, then the weighted sum of values.
void attend(const Head& h, const std::vector<double>& q, std::size_t last, std::vector<double>& out) {
  std::vector<double> score(last + 1), row(h.d);
  double largest = -INFINITY;
  for (std::size_t p = 0; p <= last; ++p) {
    h.load(1, p, row.data());
    Sum dot;
    for (std::size_t i = 0; i < h.d; ++i) dot.add(q[i] * row[i]);
    score[p] = dot.value() * h.call.scale;
    largest = std::max(largest, score[p]);
  }
  Sum total;
  for (double& s : score) total.add(s = std::exp(s - largest));
  std::vector<Sum> sums(h.d);
  for (std::size_t p = 0; p <= last; ++p) {
    h.load(2, p, row.data());
    for (std::size_t i = 0; i < h.d; ++i) sums[i].add(score[p] * row[i]);
  }
  for (std::size_t i = 0; i < h.d; ++i) out[i] = sums[i].value() / total.value();
}

}  // namespace

concord_status attention(const concord_call& call, concord_error* err) {
  const concord_tensor& q = call.in[0];
  const std::size_t tokens = dim(q, 0), heads = dim(q, 1), d = dim(q, 2), groups = dim(call.in[1], 1);
  const std::int32_t* rows = concord_abi::indices_of(call.in[3]);
  const auto status = concord_abi::check_indices("attention", "rows", rows, tokens, call.in[1].dims[0], err);
  if (status != CONCORD_OK) return status;
  const auto sequence = static_cast<std::size_t>(call.sequence_rows ? call.sequence_rows : call.in[1].dims[0]);
  for_each(tokens * heads, [&](std::size_t i) {
    const auto at = static_cast<std::size_t>(rows[i / heads]);
    std::vector<double> query(d), out(d);
    load_row(q, i, d, query.data());
    const Head head{call, d, groups, i % heads / (heads / groups), at / sequence * sequence};
    attend(head, query, at % sequence, out);
    store_row(call.out[0], i, d, out.data());
  });
  return CONCORD_OK;
}

}  // namespace reference
