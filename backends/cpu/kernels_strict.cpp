// One lane, no FMA: every sum sequential in index order, every product rounded before it is added. The bits are fully
// defined.
#define CONCORD_LANES 1
#define CONCORD_FMA 0
#define CONCORD_KERNELS kStrictKernels
#define CONCORD_KERNELS_NAME "strict sequential f32, no fma"
#include "kernels_impl.hpp"

namespace cpu {
namespace {

// The 16 lanes are independent outputs, so that vector instructions change nothing in any of them. Vectors are named
// because compilers keep an array of lanes on the stack.
using Vec [[gnu::vector_size(16), gnu::aligned(4), gnu::may_alias]] = float;
constexpr std::size_t kVecs = kStrictWidth / 4;

template <std::size_t T>
void tile(const float* x, const float* w, std::size_t k, float* y, std::size_t y_stride) {
  Vec acc[T][kVecs] = {};
  for (std::size_t i = 0; i < k; ++i) {
    const auto* row = reinterpret_cast<const Vec*>(w + i * kStrictWidth);
    for (std::size_t t = 0; t < T; ++t)
      for (std::size_t v = 0; v < kVecs; ++v) acc[t][v] += x[t * k + i] * row[v];
  }
  for (std::size_t t = 0; t < T; ++t)
    for (std::size_t v = 0; v < kVecs; ++v) reinterpret_cast<Vec*>(y + t * y_stride)[v] = acc[t][v];
}

}  // namespace

void strict_tile(const float* x, const float* w, std::size_t tokens, std::size_t k, float* y, std::size_t y_stride) {
  static_assert(kStrictTokens == 2);
  return tokens == 1 ? tile<1>(x, w, k, y, y_stride) : tile<2>(x, w, k, y, y_stride);
}

}  // namespace cpu
