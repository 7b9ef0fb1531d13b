// Which way a product is computed: by a rule on types, the group size and the number of tokens alone, so that it is a
// way and no fallback.
#include "gpu/kernels/matmul.hpp"

#include "gpu/library.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kFinishThreads = 256;

GPU_DEVICE float sum_of(const Matmul& p, const void* from, unsigned from_dtype, std::uint64_t at) {
  if (from_dtype == CONCORD_F16) return to_float(static_cast<const F16*>(from)[at]);
  if (from_dtype == CONCORD_BF16) return to_float(static_cast<const BF16*>(from)[at]);
  const float* sums = static_cast<const float*>(from);
  float sum = sums[at];
  for (unsigned s = 1; s < p.splits; ++s) sum = sum + sums[std::uint64_t{s} * p.tokens * p.outputs + at];
  return sum;
}

GPU_KERNEL GPU_BOUNDS(kFinishThreads) finish_kernel(Matmul p, const void* from, unsigned from_dtype, unsigned parts) {
  const unsigned token = block() / parts, output = block() % parts * kFinishThreads + thread();
  if (output < p.outputs)
    finish_any(p, token, output, sum_of(p, from, from_dtype, std::uint64_t{token} * p.outputs + output));
}

Matmul operands(const Context& c) {
  const concord_call& call = c.call;
  const concord_weight& w = *call.weight;
  const bool has_bias = call.n_in > 1 && !concord_abi::absent(call.in[1]);
  Matmul p{};
  p.x = data<const std::byte>(call.in[0]), p.y = data<std::byte>(call.out[0]);
  p.z = call.flags ? data<const std::byte>(call.in[2]) : nullptr;
  p.bias = has_bias ? data<const float>(call.in[1]) : nullptr;
  p.weight = w.data, p.pitch = w.pitch;
  p.row_scales = w.dtype == CONCORD_I8 ? reinterpret_cast<const float*>(w.scales) : nullptr;
  if (w.dtype == CONCORD_U4) {
    p.scales = reinterpret_cast<const std::uint16_t*>(w.scales), p.zeros = w.zeros;
    p.group = w.group, p.groups = static_cast<unsigned>(w.groups);
  }
  p.tokens = dim(call.in[0], 0), p.inputs = dim(call.in[0], 1), p.outputs = dim(call.out[0], 1);
  p.dtype = call.in[0].dtype, p.weight_dtype = w.dtype, p.flags = call.flags;
  const std::uint64_t row_bytes = p.inputs * concord_abi::dtype_bytes(p.dtype);
  p.aligned = reinterpret_cast<std::uintptr_t>(p.x) % 16 == 0 && row_bytes % 16 == 0;
  p.splits = 1, p.split_inputs = p.inputs;
  return p;
}

// The vendor's product; what it does not know (bias, z) by one kernel behind it.
concord_status matmul_library(Context& c, const Matmul& p) {
  const bool direct = !p.bias && !p.flags;
  const unsigned sum_dtype = p.bias ? static_cast<unsigned>(CONCORD_F32) : p.dtype;
  void* sums = p.y;
  if (!direct) {
    const std::uint64_t bytes = std::uint64_t{p.tokens} * p.outputs * concord_abi::dtype_bytes(sum_dtype);
    if (const auto s = scratch(c.device, kSlotY, bytes, c.stream, &sums, c.err); s != CONCORD_OK) return s;
  }
  const auto w_pitch = static_cast<std::int64_t>(p.pitch / concord_abi::dtype_bytes(p.weight_dtype));
  const Gemm gemm{p.x, p.weight, sums, p.tokens, p.outputs, p.inputs, w_pitch, p.dtype, sum_dtype, c.stream};
  const auto s = c.device.library->multiply(gemm, c.witness.kernel, sizeof c.witness.kernel, c.err);
  return s != CONCORD_OK || direct ? s : c.done(finish_sums(p, sums, sum_dtype, c.stream));
}

}  // namespace

Error finish_sums(const Matmul& p, const void* from, unsigned from_dtype, Stream stream) {
  const unsigned parts = ceil_div(p.outputs, kFinishThreads);
  return GPU_LAUNCH(finish_kernel, p.tokens * parts, 1, kFinishThreads, 0, stream, p, from, from_dtype, parts);
}

const char* form_name(unsigned weight_dtype) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "f64", "i32", "int8", "int4"};
  return kNames[weight_dtype];
}

concord_status matmul(Context& c) {
  const Matmul p = operands(c);
  const concord_device& d = c.device;
  if (d.library && p.weight_dtype == p.dtype && d.library->takes(p.dtype)) return matmul_library(c, p);
  if (skinny_takes(p)) return matmul_skinny(c, p);
  return d.variant.tiles && d.properties.matrix && tiles_take(p) ? matmul_tiles(c, p) : matmul_portable(c, p);
}

}  // namespace CONCORD_GPU
