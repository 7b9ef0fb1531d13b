// SwiGLU (Shazeer 2020), GELU (Hendrycks and Gimpel 2016, exact and the tanh form), addition.
#include "ops.hpp"

namespace reference {
namespace {

constexpr std::size_t kChunk = 4096;  // elements per task

// out[i] = f(a[i], b[i]); b is a for functions of one argument.
template <class F>
void map(const concord_tensor& a, const concord_tensor& b, const concord_tensor& out, const F& f) {
  const std::size_t n = concord_abi::element_count(a), bytes = concord_abi::dtype_bytes(a.dtype);
  for_each((n + kChunk - 1) / kChunk, [&](std::size_t c) {
    const std::size_t begin = c * kChunk, count = std::min(kChunk, n - begin);
    std::vector<double> x(count), y(count);
    concord_abi::load_f64(a.dtype, concord_abi::bytes_of(a) + begin * bytes, count, x.data());
    concord_abi::load_f64(b.dtype, concord_abi::bytes_of(b) + begin * bytes, count, y.data());
    for (std::size_t i = 0; i < count; ++i) x[i] = f(x[i], y[i]);
    concord_abi::store_f64(out.dtype, x.data(), count, concord_abi::bytes_of(out) + begin * bytes);
  });
}

}  // namespace

concord_status swiglu(const concord_call& call, concord_error*) {
  map(call.in[0], call.in[1], call.out[0], [](double gate, double up) { return gate / (1 + std::exp(-gate)) * up; });
  return CONCORD_OK;
}

concord_status gelu(const concord_call& call, concord_error*) {
  constexpr double kRootHalf = 0.70710678118654752440, kRootTwoOverPi = 0.79788456080286535588;
  if (call.flags & CONCORD_GELU_TANH)
    map(call.in[0], call.in[0], call.out[0],
        [](double x, double) { return 0.5 * x * (1 + std::tanh(kRootTwoOverPi * (x + 0.044715 * x * x * x))); });
  else
    map(call.in[0], call.in[0], call.out[0], [](double x, double) { return 0.5 * x * std::erfc(-x * kRootHalf); });
  return CONCORD_OK;
}

concord_status add(const concord_call& call, concord_error*) {
  map(call.in[0], call.in[1], call.out[0], [](double a, double b) { return a + b; });
  return CONCORD_OK;
}

}  // namespace reference
