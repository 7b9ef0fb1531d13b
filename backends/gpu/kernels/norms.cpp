// RMSNorm and LayerNorm. A row is read again for every pass: it lies in the caches by then.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

// y = (x - mean) * scale * gain (+ shift), for the elements of this thread; y may be x: no other thread reads them.
template <class Threads, bool kShift, class T>
GPU_DEVICE void normalise(const T* x, T* y, unsigned n, float mean, float scale, const float* gain,
                          const float* shift) {
  constexpr unsigned kCount = kPack<T>;
  for (std::uint64_t i = std::uint64_t{Threads::rank()} * kCount; i < n; i += std::uint64_t{Threads::size()} * kCount) {
    float v[kCount], g[kCount], s[kCount];
    load_values(x + i, n - i, v);
    load_values(gain + i, n - i, g);
    if constexpr (kShift) load_values(shift + i, n - i, s);
    for (unsigned j = 0; j < kCount; ++j) {
      if constexpr (kShift)
        v[j] = fused((v[j] - mean) * scale, g[j], s[j]);
      else
        v[j] = v[j] * scale * g[j];
    }
    store_values(v, y + i, n - i);
  }
}

template <class T, bool kWide>
GPU_KERNEL GPU_BOUNDS(1024) rmsnorm_rows(const T* x, const float* gain, T* y, unsigned rows, unsigned n, float eps) {
  using Threads = Team<kWide>;
  for (std::uint64_t r = Threads::first(); r < rows; r += Threads::step()) {
    const T* row = x + r * n;
    float squares = 0;
    each_value<Threads>(row, n, [&](float v, unsigned) { squares = fused(v, v, squares); });
    squares = Threads::reduce(squares, Plus{});
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
    normalise<Threads, false>(row, y + r * n, n, 0.0f, scale, gain, nullptr);
  }
}

// The mean first and then the squares of differences: the difference of two large sums would lose a variance that is
// small beside the mean.
template <class T, bool kWide>
GPU_KERNEL GPU_BOUNDS(1024)
    layernorm_rows(const T* x, const float* gain, const float* shift, T* y, unsigned rows, unsigned n, float eps) {
  using Threads = Team<kWide>;
  for (std::uint64_t r = Threads::first(); r < rows; r += Threads::step()) {
    const T* row = x + r * n;
    float sum = 0, squares = 0;
    each_value<Threads>(row, n, [&](float v, unsigned) { sum += v; });
    const float mean = Threads::reduce(sum, Plus{}) / static_cast<float>(n);
    each_value<Threads>(row, n, [&](float v, unsigned) { squares = fused(v - mean, v - mean, squares); });
    squares = Threads::reduce(squares, Plus{});
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
    normalise<Threads, true>(row, y + r * n, n, mean, scale, gain, shift);
  }
}

}  // namespace

concord_status rmsnorm(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1);
  const auto* gain = data<const float>(c.call.in[1]);
  const auto eps = static_cast<float>(c.call.eps);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return launch_rows<T>(c, rmsnorm_rows<T, false>, rmsnorm_rows<T, true>, rows, n, data<const T>(x), gain,
                          data<T>(c.call.out[0]), rows, n, eps);
  });
}

concord_status layernorm(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1);
  const auto *gain = data<const float>(c.call.in[1]), *shift = data<const float>(c.call.in[2]);
  const auto eps = static_cast<float>(c.call.eps);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return launch_rows<T>(c, layernorm_rows<T, false>, layernorm_rows<T, true>, rows, n, data<const T>(x), gain, shift,
                          data<T>(c.call.out[0]), rows, n, eps);
  });
}

}  // namespace CONCORD_GPU
