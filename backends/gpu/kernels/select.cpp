// Softmax, routing to the k largest experts, and the index of the largest value.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

// A NaN in a row is lost to the maximum and makes the sum NaN: all results are NaN then, as they should be.
template <class Threads, class T>
GPU_DEVICE float exp_sum(const T* row, unsigned n, float largest) {
  float sum = 0;
  each_value<Threads>(row, n, [&](float v, unsigned) { sum += expf(v - largest); });
  return Threads::reduce(sum, Plus{});
}

// y may be x: every pass of a thread goes through the same elements, and no other thread reads them.
template <class T, bool kWide>
GPU_KERNEL GPU_BOUNDS(1024) softmax_rows(const T* x, T* y, unsigned rows, unsigned n) {
  using Threads = Team<kWide>;
  constexpr unsigned kCount = kPack<T>;
  for (std::uint64_t r = Threads::first(); r < rows; r += Threads::step()) {
    const T* row = x + r * n;
    float largest = -INFINITY;
    each_value<Threads>(row, n, [&](float v, unsigned) { largest = v > largest ? v : largest; });
    largest = Threads::reduce(largest, Greater{});
    const float total = exp_sum<Threads>(row, n, largest);
    for (std::uint64_t i = std::uint64_t{Threads::rank()} * kCount; i < n;
         i += std::uint64_t{Threads::size()} * kCount) {
      float v[kCount];
      load_values(row + i, n - i, v);
      for (unsigned j = 0; j < kCount; ++j) v[j] = expf(v[j] - largest) / total;
      store_values(v, y + r * n + i, n - i);
    }
  }
}

// An element's place in the order of ARGMAX and TOPK_ROUTING as a number, larger first: the value (NaN below every
// number, both zeros equal), then the lower index.
GPU_DEVICE std::uint64_t place_of(float v, unsigned index) {
  const std::uint32_t bits = v == 0 ? 0u : float_to_bits(v), rising = bits >> 31 ? ~bits : bits | 0x80000000u;
  return std::uint64_t{v != v ? 0u : rising} << 32 | static_cast<std::uint32_t>(~index);
}
GPU_DEVICE unsigned index_of(std::uint64_t place) { return ~static_cast<std::uint32_t>(place); }

struct Larger {
  GPU_DEVICE std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a > b ? a : b; }
};

// The first element of the row's order behind the one at place `last`.
template <class Threads, class T>
GPU_DEVICE std::uint64_t next(const T* row, unsigned n, std::uint64_t last) {
  std::uint64_t best = 0;
  each_value<Threads>(row, n, [&](float v, unsigned i) {
    const std::uint64_t place = place_of(v, i);
    if (place < last && place > best) best = place;
  });
  return Threads::reduce(best, Larger{});
}

template <class T, bool kWide>
GPU_KERNEL GPU_BOUNDS(1024) argmax_rows(const T* x, std::int32_t* index, unsigned rows, unsigned n) {
  using Threads = Team<kWide>;
  for (std::uint64_t r = Threads::first(); r < rows; r += Threads::step()) {
    const std::uint64_t best = next<Threads>(x + r * n, n, ~std::uint64_t{0});
    if (Threads::rank() == 0) index[r] = static_cast<std::int32_t>(index_of(best));
  }
}

// Finds the k experts one after another, by their logits: softmax keeps the order, but its rounding may tie.
template <class T, bool kWide>
GPU_KERNEL GPU_BOUNDS(1024)
    topk_rows(const T* x, float* weight, std::int32_t* expert, unsigned rows, unsigned n, unsigned k, bool normalised) {
  using Threads = Team<kWide>;
  for (std::uint64_t r = Threads::first(); r < rows; r += Threads::step()) {
    const T* row = x + r * n;
    float* weights = weight + r * k;
    std::uint64_t place = next<Threads>(row, n, ~std::uint64_t{0});
    const float largest = to_float(row[index_of(place)]), total = exp_sum<Threads>(row, n, largest);
    float chosen = 0;
    for (unsigned i = 0; i < k; ++i) {
      if (i > 0) place = next<Threads>(row, n, place);
      const float share = expf(to_float(row[index_of(place)]) - largest) / total;
      chosen += share;
      if (i % Threads::size() == Threads::rank())
        weights[i] = share, expert[r * k + i] = static_cast<std::int32_t>(index_of(place));
    }
    if (!normalised) continue;
    for (unsigned i = Threads::rank(); i < k; i += Threads::size())
      weights[i] = weights[i] / chosen;  // each thread its own
  }
}

}  // namespace

concord_status softmax(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return launch_rows<T>(c, softmax_rows<T, false>, softmax_rows<T, true>, rows, n, data<const T>(x),
                          data<T>(c.call.out[0]), rows, n);
  });
}

concord_status argmax(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return launch_rows<T>(c, argmax_rows<T, false>, argmax_rows<T, true>, rows, n, data<const T>(x),
                          data<std::int32_t>(c.call.out[0]), rows, n);
  });
}

concord_status topk_routing(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1), k = dim(c.call.out[0], 1);
  const bool normalised = (c.call.flags & CONCORD_NORMALISE) != 0;
  auto* weight = data<float>(c.call.out[0]);
  auto* expert = data<std::int32_t>(c.call.out[1]);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return launch_rows<T>(c, topk_rows<T, false>, topk_rows<T, true>, rows, n, data<const T>(x), weight, expert, rows,
                          n, k, normalised);
  });
}

}  // namespace CONCORD_GPU
