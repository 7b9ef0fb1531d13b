// Matmul: sums of |x||w| and (x w)^2 in plain double loops over rows of the weight that are expanded once.
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>

#include "conformance/numerics/bounds.hpp"
#include "conformance/numerics/weight_values.hpp"

namespace concord::conformance {
namespace {

struct Magnitudes {
  double size = 0, squares = 0;
};
constexpr std::size_t kLanes = 8;

// sum |x||w| and its squares; n is a multiple of kLanes.
Magnitudes magnitudes(const double* x, const double* w, std::size_t n) {
  double size[kLanes] = {}, squares[kLanes] = {};
  for (std::size_t k = 0; k < n; k += kLanes)
    for (std::size_t l = 0; l < kLanes; ++l) {
      const double a = x[k + l] * w[k + l];
      size[l] += a, squares[l] += a * a;
    }
  Magnitudes m;
  for (std::size_t l = 0; l < kLanes; ++l) m.size += size[l], m.squares += squares[l];
  return m;
}

struct Matmul {
  const BoundInput& in;
  ExpectedOutput& out;
  std::size_t m = in.axis("M"), n = in.axis("N"), k = in.axis("K"), padded = (k + kLanes - 1) / kLanes * kLanes;
  std::vector<double> x, x_sums, bias, z;
  const concord_weight_desc desc = weight_desc(*in.problem.weight, in.arena);
  bool narrowed = in.rules.mode.weights_bf16 && (desc.dtype == CONCORD_F32 || desc.dtype == CONCORD_F16);
  bool quantised = desc.dtype == CONCORD_I8 || desc.dtype == CONCORD_U4;

  void load() {
    const std::vector<double> values = in.values("x");
    x.assign(m * padded, 0), x_sums.assign(m, 0);
    for (std::size_t t = 0; t < m; ++t)
      for (std::size_t i = 0; i < k; ++i) {
        x[t * padded + i] = std::fabs(values[t * k + i]);
        x_sums[t] += x[t * padded + i];
      }
    bias = in.has("bias") ? in.values("bias") : std::vector<double>(n, 0.0);
    if (in.has("z")) z = in.values("z");
  }

  // Error of one sum, before it is stored. `sum` is x W^T + bias; w_sum is sum |w|.
  Err error(std::size_t t, std::size_t row, double sum, const Magnitudes& a, double w_sum) const {
    const Rules& r = in.rules;
    const double b = bias[row], exact = std::fabs(sum - b);
    const Terms terms{static_cast<double>(k), a.size, a.squares * (quantised ? 3 : 1), exact};
    Err e = r.sum(terms, 3) + Err{r.gamma(2) * (std::fabs(b) + a.size), r.u * (std::fabs(sum) + std::fabs(b))};
    const double root = std::sqrt(a.squares);
    if (narrowed) e = e + Err{0x1p-8 * (1 + r.u) * a.size, std::min(0x1p-8 * a.size, r.lambda * 0x1p-8 * root)};
    if (r.mode.tf32) e = e + Err{0x1.01p-9 * a.size, 0x1p-9 * exact + r.lambda * 0x1p-10 * 1.5 * root};
    if (r.mode.products_flushed) {
      const double lost = 0x1p-126 * (2 * static_cast<double>(k) * std::max(1.0, w_sum) + w_sum + x_sums[t]);
      e = e + Err{lost, lost};
    }
    e.likely = std::min(e.likely, e.worst);
    return e;
  }

  // The sum is stored in the activations' dtype before z comes in; then one more operator.
  void put(std::size_t i, double sum, Err e) const {
    if (z.empty()) return in.put(out, i, e);
    Err narrow = stored(out.dtype, in.problem.call.accumulate, sum, e);
    const Rules& r = in.rules;
    if (in.problem.call.flags == CONCORD_GATED) return in.put(out, i, swiglu_error(r, z[i], sum, narrow));
    const double y = std::fabs(z[i] + sum);
    in.put(out, i, narrow + Err{r.u * (y + narrow.worst), r.u * (y + narrow.likely)});
  }

  void row(std::size_t r, std::vector<double>& w) const {
    weight_values(desc, r, w.data());
    double w_sum = 0;
    for (std::size_t i = 0; i < k; ++i) w[i] = std::fabs(w[i]), w_sum += w[i];
    for (std::size_t t = 0; t < m; ++t) {
      const std::size_t i = t * n + r;
      const double sum = z.empty() ? out.want[i] : in.sums[i];
      put(i, sum, error(t, r, sum, magnitudes(x.data() + t * padded, w.data(), padded), w_sum));
    }
  }
};

}  // namespace

void bound_matmul(const BoundInput& in, Expectation& e) {
  Matmul m{in, e.outputs[0]};
  m.load();
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, m.n, 4), [&](const tbb::blocked_range<std::size_t>& range) {
    std::vector<double> w(m.padded);
    for (std::size_t r = range.begin(); r < range.end(); ++r) m.row(r, w);
  });
}

}  // namespace concord::conformance
