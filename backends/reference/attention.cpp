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

concord_status kv_append(const concord_call& call, concord_error* err) {
  const std::size_t tokens = dim(call.in[0], 0), width = dim(call.in[0], 1) * dim(call.in[0], 2);
  const std::int32_t* rows = concord_abi::indices_of(call.in[2]);
  const auto status = concord_abi::check_rows(rows, tokens, call.out[0].dims[0], err);
  if (status != CONCORD_OK) return status;
  std::vector<double> row(width);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (int which = 0; which < 2; ++which) {
      load_row(call.in[which], t, width, row.data());
      store_row(call.out[which], static_cast<std::size_t>(rows[t]), width, row.data());
    }
  }
  return CONCORD_OK;
}

namespace {

struct Head {
  const concord_call& call;
  std::size_t d, groups, group;  // head size; key/value heads, and the one that this head reads
  std::size_t row(std::size_t p) const { return p * groups + group; }
};

// Softmax in two passes over rows 0..last, then the weighted sum of values.
void attend(const Head& h, const std::vector<double>& q, std::size_t last, std::vector<double>& out) {
  std::vector<double> score(last + 1), row(h.d);
  double largest = -INFINITY;
  for (std::size_t p = 0; p <= last; ++p) {
    load_row(h.call.in[1], h.row(p), h.d, row.data());
    Sum dot;
    for (std::size_t i = 0; i < h.d; ++i) dot.add(q[i] * row[i]);
    score[p] = dot.value() * h.call.scale;
    largest = std::max(largest, score[p]);
  }
  Sum total;
  for (double& s : score) total.add(s = std::exp(s - largest));
  std::vector<Sum> sums(h.d);
  for (std::size_t p = 0; p <= last; ++p) {
    load_row(h.call.in[2], h.row(p), h.d, row.data());
    for (std::size_t i = 0; i < h.d; ++i) sums[i].add(score[p] * row[i]);
  }
  for (std::size_t i = 0; i < h.d; ++i) out[i] = sums[i].value() / total.value();
}

}  // namespace

concord_status attention(const concord_call& call, concord_error* err) {
  const concord_tensor& q = call.in[0];
  const std::size_t tokens = dim(q, 0), heads = dim(q, 1), d = dim(q, 2), groups = dim(call.in[1], 1);
  const std::int32_t* positions = concord_abi::indices_of(call.in[3]);
  const auto status = concord_abi::check_indices("attention", "positions", positions, tokens, call.in[1].dims[0], err);
  if (status != CONCORD_OK) return status;
  for_each(tokens * heads, [&](std::size_t i) {
    std::vector<double> query(d), out(d);
    load_row(q, i, d, query.data());
    const Head head{call, d, groups, i % heads / (heads / groups)};
    attend(head, query, static_cast<std::size_t>(positions[i / heads]), out);
    store_row(call.out[0], i, d, out.data());
  });
  return CONCORD_OK;
}

}  // namespace reference
