// y = x W^T + bias. A row of W is turned into doubles once and used for every token; up to eight tokens are summed side
// by side (independent sums, so the width changes nothing in the result). Products of values of at most 26 significant
// bits are exact.
#include "ops.hpp"

namespace reference {
namespace {

// x as [ceil(T/8)][K][8], the last block padded with zeros.
constexpr std::size_t kLanes = 8;
std::vector<double> side_by_side(const concord_tensor& x, std::size_t tokens, std::size_t k) {
  std::vector<double> out((tokens + kLanes - 1) / kLanes * kLanes * k);
  std::vector<double> row(k);
  for (std::size_t t = 0; t < tokens; ++t) {
    load_row(x, t, k, row.data());
    for (std::size_t i = 0; i < k; ++i) out[(t / kLanes * k + i) * kLanes + t % kLanes] = row[i];
  }
  return out;
}

// Dot products of one weight row with the first L tokens of a block.
template <std::size_t L>
void dots(const double* w, const double* x, std::size_t k, double* out) {
  double high[L] = {}, low[L] = {};
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t l = 0; l < L; ++l) {
      const double p = w[i] * x[i * kLanes + l];
      const double s = high[l] + p, part = s - high[l];
      low[l] += (high[l] - (s - part)) + (p - part);
      high[l] = s;
    }
  }
  for (std::size_t l = 0; l < L; ++l) out[l] = std::isfinite(high[l]) ? high[l] + low[l] : high[l];
}

void dots_of(std::size_t lanes, const double* w, const double* x, std::size_t k, double* out) {
  switch (lanes) {
    case 1:
      return dots<1>(w, x, k, out);
    case 2:
      return dots<2>(w, x, k, out);
    case 3:
    case 4:
      return dots<4>(w, x, k, out);
    default:
      return dots<8>(w, x, k, out);
  }
}

}  // namespace

namespace {
// Element i of y from its sum: alone, or rounded to the activations' type and then combined with z.
void store_element(const concord_call& call, std::size_t i, double sum) {
  const concord_tensor& y = call.out[0];
  std::byte* to = concord_abi::bytes_of(y) + i * concord_abi::dtype_bytes(y.dtype);
  if (call.flags) {
    const concord_tensor& z = call.in[2];
    double other = 0, rounded = 0;
    std::byte narrow[8];
    concord_abi::store_f64(y.dtype, &sum, 1, narrow);
    concord_abi::load_f64(y.dtype, narrow, 1, &rounded);
    concord_abi::load_f64(z.dtype, concord_abi::bytes_of(z) + i * concord_abi::dtype_bytes(z.dtype), 1, &other);
    sum = call.flags == CONCORD_PLUS ? other + rounded : other / (1 + std::exp(-other)) * rounded;
  }
  concord_abi::store_f64(y.dtype, &sum, 1, to);
}
}  // namespace

concord_status matmul(const concord_call& call, concord_error*) {
  const concord_tensor& y = call.out[0];
  const auto& weight = call.weight->stored;
  const std::size_t tokens = dim(y, 0), n = weight.rows, k = weight.cols;
  const bool has_bias = call.n_in > 1 && !concord_abi::absent(call.in[1]);
  const std::vector<double> bias = has_bias ? load_all(call.in[1]) : std::vector<double>(n, 0.0);
  const std::vector<double> x = side_by_side(call.in[0], tokens, k);
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, n, 4), [&](const tbb::blocked_range<std::size_t>& range) {
    std::vector<double> w(k);
    for (std::size_t r = range.begin(); r < range.end(); ++r) {
      concord_abi::weight_row(weight, r, w.data());
      for (std::size_t t = 0; t < tokens; t += kLanes) {
        const std::size_t lanes = std::min(kLanes, tokens - t);
        double out[kLanes];
        dots_of(lanes, w.data(), x.data() + t * k, k, out);
        for (std::size_t l = 0; l < lanes; ++l) {
          store_element(call, (t + l) * n + r, has_bias ? out[l] + bias[r] : out[l]);
        }
      }
    }
  });
  return CONCORD_OK;
}

}  // namespace reference
