// Any types, by multiply-adds alone. A block computes 64 x 64 outputs from slabs of 16 inputs that lie in shared memory
// as float32; a thread has 4 x 4 of them. Every output is one chain of fused multiply-adds over its inputs from first
// to last, so its bits depend neither on the GPU nor on the number of tokens or the place in a tile.
#include <cstdio>

#include "gpu/kernels/matmul.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kThreads = 256, kSide = 64, kDepth = 16, kOwn = 4,
                   kTogether = 16;  // kTogether: token tiles that share a weight tile while it is in the cache
constexpr unsigned kStride = kSide + 4;

struct alignas(16) Four {
  float v[kOwn];
};
// [input][token or output]
struct Slabs {
  alignas(16) float x[kDepth][kStride];
  alignas(16) float w[kDepth][kStride];
};

GPU_DEVICE void load_tokens(const Matmul& p, unsigned token, unsigned k, float (&out)[kOwn]) {
  if (token >= p.tokens)
    for (float& v : out) v = 0.0f;
  else if (p.dtype == CONCORD_F32)
    load_x<float>(p, token, k, out);
  else if (p.dtype == CONCORD_F16)
    load_x<F16>(p, token, k, out);
  else
    load_x<BF16>(p, token, k, out);
}

template <class T>
GPU_DEVICE void load_halves(const std::byte* from, float (&out)[kOwn]) {
  struct alignas(8) Pack {
    T v[kOwn];
  };
  const Pack pack = *reinterpret_cast<const Pack*>(from);
  for (unsigned i = 0; i < kOwn; ++i) out[i] = to_float(pack.v[i]);
}

GPU_DEVICE void load_int4(const Matmul& p, unsigned output, unsigned k, const std::byte* row, float (&out)[kOwn]) {
  const std::uint32_t word = *reinterpret_cast<const std::uint16_t*>(row + k / 2);
  unsigned group = k / p.group, left = (group + 1) * p.group - k;
  for (unsigned i = 0; i < kOwn && k + i < p.inputs; ++i, --left) {
    if (left == 0) ++group, left = p.group;
    out[i] =
        int4_of(word, i, zero_at(p, output, group)) * scale_at(p, output, group);  // exact: 9 significant bits times 11
  }
}

// Four numbers of a row of the weight; k is a multiple of 4, and what lies behind the end of the row counts as 0. int8
// without its scale.
GPU_DEVICE void load_outputs(const Matmul& p, unsigned output, unsigned k, float (&out)[kOwn]) {
  for (float& v : out) v = 0.0f;
  if (output >= p.outputs || k >= p.inputs) return;
  const std::byte* row = p.weight + output * p.pitch;
  if (p.weight_dtype == CONCORD_U4) return load_int4(p, output, k, row, out);
  if (p.weight_dtype == CONCORD_F32) {
    const Four four = *reinterpret_cast<const Four*>(row + std::uint64_t{k} * 4);
    for (unsigned i = 0; i < kOwn; ++i) out[i] = four.v[i];
  } else if (p.weight_dtype == CONCORD_F16) {
    load_halves<F16>(row + std::uint64_t{k} * 2, out);
  } else if (p.weight_dtype == CONCORD_BF16) {
    load_halves<BF16>(row + std::uint64_t{k} * 2, out);
  } else {
    const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(row + k);
    for (unsigned i = 0; i < kOwn; ++i) out[i] = int8_of(word, i);
  }
  for (unsigned i = 0; i < kOwn; ++i)
    if (k + i >= p.inputs) out[i] = 0.0f;
}

GPU_DEVICE void multiply(const Slabs& s, float (&sum)[kOwn][kOwn]) {
  for (unsigned k = 0; k < kDepth; ++k) {
    const Four x = *reinterpret_cast<const Four*>(&s.x[k][thread() / 16 * kOwn]),
               w = *reinterpret_cast<const Four*>(&s.w[k][thread() % 16 * kOwn]);
    for (unsigned i = 0; i < kOwn; ++i)
      for (unsigned j = 0; j < kOwn; ++j) sum[i][j] = fused(x.v[i], w.v[j], sum[i][j]);
  }
}

GPU_KERNEL GPU_BOUNDS(kThreads) portable(Matmul p) {
  GPU_SHARED(Slabs, slabs);
  const TilePlace at = tile_place(p, kSide, kSide, kTogether, block());
  const unsigned row = thread() / 4, column = thread() % 4 * kOwn;  // of the slab, that this thread fills
  float sum[kOwn][kOwn] = {}, x[kOwn], w[kOwn];
  load_tokens(p, at.token + row, column, x);
  load_outputs(p, at.output + row, column, w);
  for (unsigned k = 0; k < p.inputs; k += kDepth) {
    for (unsigned i = 0; i < kOwn; ++i) slabs.x[column + i][row] = x[i], slabs.w[column + i][row] = w[i];
    sync();
    if (k + kDepth < p.inputs) {  // the next slab is on its way while this one is multiplied
      load_tokens(p, at.token + row, k + kDepth + column, x);
      load_outputs(p, at.output + row, k + kDepth + column, w);
    }
    multiply(slabs, sum);
    sync();
  }
  for (unsigned i = 0; i < kOwn; ++i)
    for (unsigned j = 0; j < kOwn; ++j) {
      const unsigned token = at.token + thread() / 16 * kOwn + i, output = at.output + thread() % 16 * kOwn + j;
      if (token < p.tokens && output < p.outputs) finish_any(p, token, output, sum[i][j]);
    }
}

}  // namespace

concord_status matmul_portable(Context& c, const Matmul& p) {
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "matmul: %s portable f32 %ux%ux%u, %s weights wave%u",
                kTarget, kSide, kSide, kDepth, form_name(p.weight_dtype), c.device.properties.warp);
  return c.done(
      GPU_LAUNCH(portable, ceil_div(p.tokens, kSide) * ceil_div(p.outputs, kSide), 1, kThreads, 0, c.stream, p));
}

}  // namespace CONCORD_GPU
