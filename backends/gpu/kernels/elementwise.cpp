// SwiGLU, GELU and addition: element by element, bound by the memory's bandwidth.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

struct Swiglu {
  static constexpr bool kTwo = true;
  GPU_DEVICE float operator()(float gate, float up) const { return swiglu_of(gate, up); }
};
struct Gelu {
  static constexpr bool kTwo = false;
  GPU_DEVICE float operator()(float x, float) const { return 0.5f * x * erfcf(x * -0.7071067812f); }
};
struct GeluTanh {
  static constexpr bool kTwo = false;
  GPU_DEVICE float operator()(float x, float) const {
    return 0.5f * x * (1.0f + tanhf(0.7978845608f * fused(0.044715f * x * x, x, x)));
  }
};
struct Sum {
  static constexpr bool kTwo = true;
  GPU_DEVICE float operator()(float a, float b) const { return a + b; }
};

// y may be a: a thread reads its elements before it writes them, and no other reads them.
template <class T, class F>
GPU_KERNEL GPU_BOUNDS(256) map(const T* a, const T* b, T* y, std::uint64_t count, F f) {
  const std::uint64_t first = (std::uint64_t{block()} * threads() + thread()) * kPack<T>,
                      step = std::uint64_t{blocks()} * threads() * kPack<T>;
  for (std::uint64_t i = first; i < count; i += step) {
    float p[kPack<T>], q[kPack<T>] = {};
    load_values(a + i, count - i, p);
    if constexpr (F::kTwo) load_values(b + i, count - i, q);
    for (unsigned j = 0; j < kPack<T>; ++j) p[j] = f(p[j], q[j]);
    store_values(p, y + i, count - i);
  }
}

template <class F>
concord_status run(Context& c, F f) {
  const concord_tensor &a = c.call.in[0], &b = F::kTwo ? c.call.in[1] : a;
  const std::uint64_t count = concord_abi::element_count(a);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr unsigned kThreads = 256;
    const unsigned grid = grid_size((count + kPack<T> * kThreads - 1) / (kPack<T> * kThreads));
    return c.done(GPU_LAUNCH((map<T, F>), grid, 1, kThreads, 0, c.stream, data<const T>(a), data<const T>(b),
                             data<T>(c.call.out[0]), count, f));
  });
}

}  // namespace

concord_status swiglu(Context& c) { return run(c, Swiglu{}); }
concord_status add(Context& c) { return run(c, Sum{}); }
concord_status gelu(Context& c) { return c.call.flags & CONCORD_GELU_TANH ? run(c, GeluTanh{}) : run(c, Gelu{}); }

}  // namespace CONCORD_GPU
