// Rotary positions: pairs (i, i + D/2) of each head, with the angles of the token's position.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

struct Rotation {
  unsigned tokens, heads, half;
  std::int64_t positions;  // that there are angles for
  const float *cos, *sin;
  const std::int32_t* position;
  Fault* fault;
};

// One block per token. y may be x: both elements of a pair belong to one thread.
template <class T>
GPU_KERNEL GPU_BOUNDS(256) rotate(Rotation r, const T* x, T* y) {
  constexpr unsigned kCount = kPack<T>;
  const unsigned packs = (r.half + kCount - 1) / kCount;
  for (std::uint64_t t = block(); t < r.tokens; t += blocks()) {
    const std::int32_t p = r.position[t];
    if (p < 0 || p >= r.positions) {
      if (thread() == 0) report(r.fault, CONCORD_OP_ROPE, 3, t, p, r.positions);
      continue;
    }
    const float *cos = r.cos + static_cast<std::uint64_t>(p) * r.half,
                *sin = r.sin + static_cast<std::uint64_t>(p) * r.half;
    for (std::uint64_t i = thread(); i < std::uint64_t{r.heads} * packs; i += threads()) {
      const std::uint64_t at = (t * r.heads + i / packs) * 2 * r.half, from = i % packs * kCount, left = r.half - from;
      float a[kCount], b[kCount], c[kCount], s[kCount];
      load_values(x + at + from, left, a), load_values(x + at + r.half + from, left, b);
      load_values(cos + from, left, c), load_values(sin + from, left, s);
      for (unsigned j = 0; j < kCount; ++j) {
        const float first = a[j];
        a[j] = fused(first, c[j], -(b[j] * s[j]));
        b[j] = fused(b[j], c[j], first * s[j]);
      }
      store_values(a, y + at + from, left), store_values(b, y + at + r.half + from, left);
    }
  }
}

}  // namespace

concord_status rope(Context& c) {
  const concord_tensor &x = c.call.in[0], &cos = c.call.in[1];
  const Rotation r{dim(x, 0),
                   dim(x, 1),
                   dim(x, 2) / 2,
                   cos.dims[0],
                   data<const float>(cos),
                   data<const float>(c.call.in[2]),
                   data<const std::int32_t>(c.call.in[3]),
                   c.device.fault};
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const unsigned threads = block_size(c, std::uint64_t{r.heads} * ceil_div(r.half, kPack<T>), 256);
    return c.done(GPU_LAUNCH(rotate<T>, grid_size(r.tokens), 1, threads, 0, c.stream, r, data<const T>(x),
                             data<T>(c.call.out[0])));
  });
}

}  // namespace CONCORD_GPU
