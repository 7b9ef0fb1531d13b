// Matmul over packed weights: which tile multiplies what, and when. Activations that the tiles do not take as they are
// (F16, and BF16 where sums are of float32 numbers) are widened to float32 first; the sum with the bias is rounded once
// on store. Nothing here changes a bit: every output is summed in the order that tiles.hpp describes.
#include <algorithm>

#include "device.hpp"

namespace cpu {
namespace {

// y [tokens, rows of the weight] = x * weight + bias, finished one run of a panel's outputs at a time.
struct Product {
  concord_device& device;
  const TileSet& tiles;
  const PackedWeight& w;
  const std::byte* x;  // [tokens][cols] in the tiles' type
  std::size_t tokens;
  const float* bias;         // or NULL
  const concord_tensor& y;
  const concord_tensor* z;  // or NULL
  bool gated;               // how z is combined

  std::size_t operand_bytes() const { return tiles.bf16 ? 2 : 4; }
  std::size_t block() const {  // inputs that are summed before they are added to the total
    if (w.group) return w.group;
    return tiles.block ? tiles.block : w.cols;
  }
};

// The sums of n neighbouring elements, rounded to the type of z and combined with its elements from `at` on.
void combine(const Kernels& k, const concord_tensor& z, bool gated, std::size_t at, std::size_t n, float* values) {
  float other[4 * 16];
  k.load(z.dtype, concord_abi::bytes_of(z) + at * concord_abi::dtype_bytes(z.dtype), n, other);
  if (z.dtype != CONCORD_F32) {
    std::uint16_t rounded[4 * 16];
    k.store(z.dtype, values, n, rounded);
    k.load(z.dtype, rounded, n, values);
  }
  (gated ? k.swiglu : k.add)(other, values, values, n);
}

// Sums of one token and panel -> y.
void finish(const Product& m, std::size_t panel, std::size_t token, const float* sums) {
  const std::size_t first = panel * m.w.width, n = std::min(m.w.width, m.w.rows - first);
  const float* scales = m.w.row_scales.empty() ? nullptr : m.w.row_scales.data() + first;
  const float* bias = m.bias ? m.bias + first : nullptr;
  std::byte* to = concord_abi::bytes_of(m.y) + (token * m.w.rows + first) * concord_abi::dtype_bytes(m.y.dtype);
  const Kernels& k = m.device.kernels;
  if (m.y.dtype == CONCORD_F32 && !m.z) return k.finish(sums, scales, bias, n, reinterpret_cast<float*>(to));
  float values[4 * 16];
  k.finish(sums, scales, bias, n, values);
  if (m.z) combine(k, *m.z, m.gated, token * m.w.rows + first, n, values);
  k.store(m.y.dtype, values, n, to);
}

// Few tokens: every panel is read once, in the width it is stored in.
void thin(const Product& m) {
  const std::size_t stored = panel_bytes(m.w.form, m.w.width, m.w.cols);
  m.device.spread(m.w.panel_count(), stored, [&](std::size_t begin, std::size_t end) {
    float sums[kMaxTileRows * 4 * 16];
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t width = m.w.panel_width(p);
      TileCall c;
      c.x = m.x, c.x_stride = m.w.cols, c.panel = m.w.panel(p), c.scales = m.w.panel_scales(p), c.zeros = m.w.panel_zeros(p);
      c.k = m.w.cols, c.segment = m.block(), c.sums = sums, c.stride = width;
      m.tiles.tile[m.w.form][m.tokens - 1][width == m.w.width ? 0 : 1](c);
      for (std::size_t t = 0; t < m.tokens; ++t) finish(m, p, t, sums + t * width);
    }
  });
}

// Inputs of a panel that are brought into the form that is multiplied, to be used for many tokens: small enough for the
// second-level cache, a whole number of blocks.
std::size_t expanded_inputs(const Product& m) {
  if (m.w.form == m.tiles.wide) return m.w.cols;
  const std::size_t block = m.block(), step = m.w.group ? m.w.group * std::max<std::size_t>(1, 512 / m.w.group) : block;
  return std::min(m.w.cols, step);
}

void prefetch(const std::byte* from, std::size_t bytes) {  // into the second-level cache; any address is allowed
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// Brings what comes next into the cache while a tile is computed: a slice of the next block of weights (panels and their
// blocks lie one behind the other), the activations of the next tile and, with the last block, what z and y need.
struct Ahead {
  const Product& m;
  std::size_t panel, width;
  const std::byte* weights = nullptr;
  std::size_t slice = 0;
  bool last_block = false;

  void next_block(const std::byte* end_of_block, std::size_t bytes, std::size_t tiles, bool last) {
    weights = end_of_block, slice = (bytes / tiles + 63) / 64 * 64, last_block = last;
  }
  void tile(std::size_t token, std::size_t count, std::size_t k0, std::size_t k, std::size_t last_token) {
    prefetch(weights, slice);
    weights += slice;
    const std::size_t next = token + count, after = std::min(next + m.tiles.rows, last_token);
    for (std::size_t t = next; t < after; ++t)
      prefetch(m.x + (t * m.w.cols + k0) * m.operand_bytes(), k * m.operand_bytes());
    if (!last_block) return;
    const std::size_t element = concord_abi::dtype_bytes(m.y.dtype);
    for (std::size_t t = token; t < token + count; ++t) {
      const std::size_t at = (t * m.w.rows + panel * m.w.width) * element;
      prefetch(concord_abi::bytes_of(m.z ? *m.z : m.y) + at, width * element);
    }
  }
};

// Tokens [first, last) of panel p.
void wide_task(const Product& m, std::size_t p, std::size_t first, std::size_t last) {
  const std::size_t width = m.w.panel_width(p), inputs = expanded_inputs(m), step = m.block();
  float* sums = scratch(2, (last - first) * width);
  const bool expands = m.w.form != m.tiles.wide;
  auto* buffer = expands ? reinterpret_cast<std::byte*>(scratch(3, inputs * width + 8 * width)) : nullptr;
  // Blocks in the outer loop, so that one block of the panel and of the activations stays in the cache.
  const std::size_t jump = std::min(inputs, std::max<std::size_t>(step, 512 / step * step));
  Ahead ahead{m, p, width};
  for (std::size_t k0 = 0; k0 < m.w.cols; k0 += jump) {
    TileCall c;
    c.k = std::min(jump, m.w.cols - k0), c.segment = step, c.add = k0 > 0;
    c.panel = m.w.panel(p) + panel_bytes(m.w.form, width, k0);
    if (m.w.group) c.scales = m.w.panel_scales(p) + k0 / m.w.group * width;
    if (expands) {
      const std::uint8_t* zeros = m.w.has_zeros ? m.w.panel_zeros(p) + k0 / m.w.group * width : nullptr;
      m.tiles.expand({m.w.form, c.panel, zeros, c.k, step, width, buffer});
      c.panel = buffer;
    }
    c.x_stride = m.w.cols, c.stride = width;
    const std::size_t stored = panel_bytes(m.w.form, width, c.k);
    ahead.next_block(m.w.panel(p) + panel_bytes(m.w.form, width, k0) + stored, stored, (last - first + m.tiles.rows - 1) / m.tiles.rows,
                     k0 + jump >= m.w.cols);
    for (std::size_t t = first; t < last; t += m.tiles.rows) {
      const std::size_t count = std::min(m.tiles.rows, last - t);
      ahead.tile(t, count, k0, c.k, last);
      c.x = m.x + (t * m.w.cols + k0) * m.operand_bytes(), c.sums = sums + (t - first) * width;
      m.tiles.tile[m.tiles.wide][count - 1][width == m.w.width ? 0 : 1](c);
    }
  }
  for (std::size_t t = first; t < last; ++t) finish(m, p, t, sums + (t - first) * width);
}

// Many tokens: tasks of one panel and a run of tokens, of even size, whose activations stay in the second-level cache.
void wide(const Product& m) {
  constexpr std::size_t kTokens = 252;
  const std::size_t panels = m.w.panel_count();
  std::size_t runs = (m.tokens + kTokens - 1) / kTokens;
  while (runs * panels < 4 * static_cast<std::size_t>(m.device.threads) && m.tokens / (runs * 2) >= 4 * m.tiles.rows) runs *= 2;
  const std::size_t per_run = ((m.tokens + runs - 1) / runs + m.tiles.rows - 1) / m.tiles.rows * m.tiles.rows;
  runs = (m.tokens + per_run - 1) / per_run;
  m.device.spread(runs * panels, per_run * m.w.cols * m.w.width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t first = i / panels * per_run;
      wide_task(m, i % panels, first, std::min(m.tokens, first + per_run));
    }
  });
}

// The activations in the type that is multiplied: the caller's own memory, or float32 scratch.
const std::byte* operand(concord_device& d, const concord_tensor& x) {
  if (x.dtype == CONCORD_F32 || d.variant.bf16_matmul) return concord_abi::bytes_of(x);
  const std::size_t rows = dim(x, 0), k = dim(x, 1);
  if (d.x_wide.size() < rows * k) d.x_wide.resize(rows * k);
  d.parallel(rows, k, [&](std::size_t begin, std::size_t end) {
    d.kernels.load(x.dtype, row_of(x, begin, k), (end - begin) * k, d.x_wide.data() + begin * k);
  });
  return reinterpret_cast<const std::byte*>(d.x_wide.data());
}

const char* form_name(Form f) {
  constexpr const char* kNames[kForms] = {"f32", "f16", "bf16", "int8", "int4", "bf16", "int8"};
  return kNames[f];
}

void onednn_matmul(Context& c, const float* bias) {
  concord_device& d = c.device;
  const concord_weight& w = *c.call.weight;
  const concord_tensor& y = c.call.out[0];
  const std::size_t tokens = dim(y, 0), n = dim(y, 1);
  const bool direct = y.dtype == CONCORD_F32 && !c.call.flags;
  constexpr std::size_t kPiece = 64;  // what combine() takes at once
  if (!direct && d.y_wide.size() < tokens * n) d.y_wide.resize(tokens * n);
  float* sums = direct ? reinterpret_cast<float*>(concord_abi::bytes_of(y)) : d.y_wide.data();
  const std::string& impl = d.onednn->run(operand(d, c.call.in[0]), w.onednn, bias, sums, tokens, n, w.packed.cols);
  if (impl.find("ref") != std::string::npos) ++d.fallbacks;  // the library's plain loops, not a kernel for this processor
  static const std::string version = onednn_version();
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "matmul: onednn %s %s f32", version.c_str(), impl.c_str());
  // gemm:jit splits K over threads for many shapes. The brgemm kernels were not seen to (1 to 48 threads), but the
  // library promises nothing.
  c.witness.determinism = CONCORD_IDENTICAL_PER_CONFIGURATION;
  if (!direct)
    d.parallel(tokens, n, [&](std::size_t begin, std::size_t end) {
      for (std::size_t at = begin * n; at < end * n; at += kPiece) {
        const std::size_t count = std::min(kPiece, end * n - at);
        if (c.call.flags) combine(d.kernels, c.call.in[2], c.call.flags == CONCORD_GATED, at, count, sums + at);
        d.kernels.store(y.dtype, sums + at, count, concord_abi::bytes_of(y) + at * concord_abi::dtype_bytes(y.dtype));
      }
    });
}

}  // namespace

concord_status matmul(Context& c) {
  concord_device& d = c.device;
  const bool has_bias = c.call.n_in > 1 && !concord_abi::absent(c.call.in[1]);
  const float* bias = has_bias ? reinterpret_cast<const float*>(concord_abi::bytes_of(c.call.in[1])) : nullptr;
  if (d.onednn) {
    onednn_matmul(c, bias);
    return CONCORD_OK;
  }
  const Product m{d, *d.variant.tiles, c.call.weight->packed, operand(d, c.call.in[0]), dim(c.call.in[0], 0), bias,
                  c.call.out[0], c.call.flags ? &c.call.in[2] : nullptr, c.call.flags == CONCORD_GATED};
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "matmul: cpu %s, %s weights", m.tiles.name, form_name(m.w.form));
  if (m.tokens <= m.tiles.rows)
    thin(m);
  else
    wide(m);
  return CONCORD_OK;
}

}  // namespace cpu
