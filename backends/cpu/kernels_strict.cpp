// One lane, no FMA: every sum sequential in index order, every product rounded before it is added. The bits are fully defined.
#define CONCORD_LANES 1
#define CONCORD_FMA 0
#define CONCORD_KERNELS kStrictKernels
#define CONCORD_KERNELS_NAME "strict sequential f32, no fma"
#include "kernels_impl.hpp"

namespace cpu {
namespace {

// The 16 lanes are independent outputs, so that vector instructions change nothing in any of them.
template <std::size_t T>
void tile(const float* x, const float* w, std::size_t k, float* y, std::size_t y_stride) {
  float acc[T][kStrictWidth] = {};
  for (std::size_t i = 0; i < k; ++i)
    for (std::size_t t = 0; t < T; ++t)
      for (std::size_t l = 0; l < kStrictWidth; ++l) acc[t][l] += x[t * k + i] * w[i * kStrictWidth + l];
  for (std::size_t t = 0; t < T; ++t)
    for (std::size_t l = 0; l < kStrictWidth; ++l) y[t * y_stride + l] = acc[t][l];
}

}  // namespace

void strict_tile(const float* x, const float* w, std::size_t tokens, std::size_t k, float* y, std::size_t y_stride) {
  switch (tokens) {
    case 1: return tile<1>(x, w, k, y, y_stride);
    case 2: return tile<2>(x, w, k, y, y_stride);
    case 3: return tile<3>(x, w, k, y, y_stride);
    default: return tile<4>(x, w, k, y, y_stride);
  }
}

}  // namespace cpu
