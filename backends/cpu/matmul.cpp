// Matmul: strict tiles or oneDNN. F16 activations (and BF16 ones outside cpu:bf16) are widened exactly to float32,
// multiplied in float32, and the sum with the bias is rounded once on store.
#include "device.hpp"

namespace cpu {
namespace {

std::size_t blocks_of(std::size_t n) { return (n + kStrictWidth - 1) / kStrictWidth; }

void pack_tiles(concord_device& device, const concord_abi::StoredWeight& s, concord_weight& w) {
  w.tiles.assign(blocks_of(s.rows) * s.cols * kStrictWidth, 0.0f);
  device.parallel(s.rows, s.cols, [&](std::size_t begin, std::size_t end) {
    float* row = scratch(0, s.cols);
    for (std::size_t r = begin; r < end; ++r) {
      concord_abi::weight_row(s, r, row);
      float* tile = w.tiles.data() + r / kStrictWidth * s.cols * kStrictWidth + r % kStrictWidth;
      for (std::size_t k = 0; k < s.cols; ++k) tile[k * kStrictWidth] = row[k];
    }
  });
}

void pack_onednn(concord_device& device, const concord_abi::StoredWeight& s, concord_weight& w) {
  const std::uint32_t type = device.variant.bf16_matmul ? CONCORD_BF16 : CONCORD_F32;
  const std::size_t row_bytes = s.cols * concord_abi::dtype_bytes(type);
  std::vector<std::byte> plain(s.rows * row_bytes);
  device.parallel(s.rows, s.cols, [&](std::size_t begin, std::size_t end) {
    float* row = scratch(0, s.cols);
    for (std::size_t r = begin; r < end; ++r) {
      concord_abi::weight_row(s, r, row);
      device.kernels.store(type, row, s.cols, plain.data() + r * row_bytes);
    }
  });
  w.packed = device.onednn->pack(plain.data(), s.rows, s.cols);
}

// The activations in the type that is multiplied: the caller's own memory, or float32 scratch.
const void* operand(concord_device& d, const concord_tensor& x) {
  if (x.dtype == CONCORD_F32 || d.variant.bf16_matmul) return concord_abi::bytes_of(x);
  const std::size_t rows = dim(x, 0), k = dim(x, 1);
  if (d.x_wide.size() < rows * k) d.x_wide.resize(rows * k);
  d.parallel(rows, k, [&](std::size_t begin, std::size_t end) {
    d.kernels.load(x.dtype, row_of(x, begin, k), (end - begin) * k, d.x_wide.data() + begin * k);
  });
  return d.x_wide.data();
}

void strict_matmul(concord_device& d, const float* x, const concord_weight& w, const float* bias, std::size_t tokens,
                   float* y) {
  const std::size_t n = w.rows, k = w.cols, groups = (tokens + kStrictTokens - 1) / kStrictTokens;
  d.parallel(blocks_of(n), k * kStrictWidth * groups, [&](std::size_t begin, std::size_t end) {
    float tile[kStrictTokens * kStrictWidth];
    for (std::size_t b = begin; b < end; ++b) {
      const std::size_t width = std::min(kStrictWidth, n - b * kStrictWidth);
      for (std::size_t t = 0; t < tokens; t += kStrictTokens) {
        const std::size_t count = std::min(kStrictTokens, tokens - t);
        strict_tile(x + t * k, w.tiles.data() + b * k * kStrictWidth, count, k, tile, kStrictWidth);
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t l = 0; l < width; ++l) {
            const float sum = tile[i * kStrictWidth + l];
            y[(t + i) * n + b * kStrictWidth + l] = bias ? sum + bias[b * kStrictWidth + l] : sum;
          }
      }
    }
  });
}

void onednn_matmul(Context& c, const void* x, const float* bias, std::size_t tokens, float* y) {
  concord_device& d = c.device;
  const concord_weight& w = *c.call.weight;
  const std::string& impl = d.onednn->run(x, w.packed, bias, y, tokens, w.rows, w.cols);
  if (!impl.starts_with(d.variant.own_impl)) ++d.fallbacks;
  static const std::string version = onednn_version();
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "matmul: onednn %s %s %s isa=%s", version.c_str(),
                impl.c_str(), d.variant.bf16_matmul ? "bf16xbf16 f32 sums" : "f32", d.variant.isa_name);
  // gemm:jit splits K over threads for many shapes. The brgemm kernels were not seen to (1 to 48 threads), but the
  // library promises nothing.
  c.witness.determinism = CONCORD_IDENTICAL_PER_CONFIGURATION;
}

}  // namespace

std::unique_ptr<concord_weight> pack_weight(concord_device& device, const concord_abi::StoredWeight& stored) {
  auto w = std::make_unique<concord_weight>();
  w->rows = stored.rows, w->cols = stored.cols;
  if (device.onednn)
    pack_onednn(device, stored, *w);
  else
    pack_tiles(device, stored, *w);
  return w;
}

void weight_row(concord_device& device, concord_weight& w, std::size_t r, float* out) {
  if (!device.onednn) {
    const float* tile = w.tiles.data() + r / kStrictWidth * w.cols * kStrictWidth + r % kStrictWidth;
    for (std::size_t k = 0; k < w.cols; ++k) out[k] = tile[k * kStrictWidth];
    return;
  }
  const std::uint32_t type = device.variant.bf16_matmul ? CONCORD_BF16 : CONCORD_F32;
  const std::size_t row_bytes = w.cols * concord_abi::dtype_bytes(type);
  if (w.plain.empty()) {
    std::vector<std::byte> plain(w.rows * row_bytes);
    device.onednn->unpack(w.packed, w.rows, w.cols, plain.data());
    w.plain = std::move(plain);
  }
  device.kernels.load(type, w.plain.data() + r * row_bytes, w.cols, out);
}

concord_status matmul(Context& c) {
  concord_device& d = c.device;
  const concord_tensor &x = c.call.in[0], &y = c.call.out[0];
  const std::size_t tokens = dim(y, 0), n = dim(y, 1);
  const bool has_bias = c.call.n_in > 1 && !concord_abi::absent(c.call.in[1]);
  const float* bias = has_bias ? reinterpret_cast<const float*>(concord_abi::bytes_of(c.call.in[1])) : nullptr;
  const bool direct = y.dtype == CONCORD_F32;
  if (!direct && d.y_wide.size() < tokens * n) d.y_wide.resize(tokens * n);
  float* sums = direct ? reinterpret_cast<float*>(concord_abi::bytes_of(y)) : d.y_wide.data();
  const void* in = operand(d, x);
  if (d.onednn)
    onednn_matmul(c, in, bias, tokens, sums);
  else
    strict_matmul(d, static_cast<const float*>(in), *c.call.weight, bias, tokens, sums);
  if (!direct)
    d.parallel(tokens, n, [&](std::size_t begin, std::size_t end) {
      d.kernels.store(y.dtype, sums + begin * n, (end - begin) * n, row_of(y, begin, n));
    });
  return CONCORD_OK;
}

}  // namespace cpu
