// RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba, Kiros and Hinton 2016), each over the last axis.
#include "ops.hpp"

namespace reference {

concord_status rmsnorm(const concord_call& call, concord_error*) {
  const concord_tensor& x = call.in[0];
  const std::size_t rows = dim(x, 0), n = dim(x, 1);
  const std::vector<double> gain = load_all(call.in[1]);
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(x, r, n, v.data());
    Sum squares;
    for (double e : v) squares.add(e * e);
    const double scale = 1 / std::sqrt(squares.value() / static_cast<double>(n) + call.eps);
    for (std::size_t i = 0; i < n; ++i) v[i] = v[i] * scale * gain[i];
    store_row(call.out[0], r, n, v.data());
  });
  return CONCORD_OK;
}

concord_status layernorm(const concord_call& call, concord_error*) {
  const concord_tensor& x = call.in[0];
  const std::size_t rows = dim(x, 0), n = dim(x, 1);
  const std::vector<double> gain = load_all(call.in[1]), shift = load_all(call.in[2]);
  for_each(rows, [&](std::size_t r) {
    std::vector<double> v(n);
    load_row(x, r, n, v.data());
    Sum sum, squares;
    for (double e : v) sum.add(e);
    const double mean = sum.value() / static_cast<double>(n);
    for (double e : v) squares.add((e - mean) * (e - mean));
    const double scale = 1 / std::sqrt(squares.value() / static_cast<double>(n) + call.eps);
    for (std::size_t i = 0; i < n; ++i) v[i] = (v[i] - mean) * scale * gain[i] + shift[i];
    store_row(call.out[0], r, n, v.data());
  });
  return CONCORD_OK;
}

}  // namespace reference
