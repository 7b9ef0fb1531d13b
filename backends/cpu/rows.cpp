// Operators that treat rows (or elements) independently: widen a row into scratch, compute in float32, round once on
// store.
#include <cmath>

#include "device.hpp"

namespace cpu {
namespace {

// f(row values) in place, for every row of in[0], stored to out[0].
template <class F>
concord_status each_row(Context& c, const F& f) {
  const concord_tensor &x = c.call.in[0], &y = c.call.out[0];
  const std::size_t rows = dim(x, 0), n = dim(x, 1);
  const Kernels& k = c.device.kernels;
  c.device.parallel(rows, n, [&](std::size_t begin, std::size_t end) {
    float* v = scratch(0, n);
    for (std::size_t r = begin; r < end; ++r) {
      k.load(x.dtype, row_of(x, r, n), n, v);
      f(v, n);
      k.store(y.dtype, v, n, row_of(y, r, n));
    }
  });
  return CONCORD_OK;
}

// f(a, b, out, count) over pieces of two tensors of one shape.
template <class F>
concord_status each_piece(Context& c, const concord_tensor& a, const concord_tensor& b, const F& f) {
  constexpr std::size_t kPiece = 2048;
  const concord_tensor& y = c.call.out[0];
  const std::size_t n = concord_abi::element_count(a);
  const Kernels& k = c.device.kernels;
  c.device.parallel((n + kPiece - 1) / kPiece, kPiece, [&](std::size_t begin, std::size_t end) {
    float *p = scratch(0, kPiece), *q = scratch(1, kPiece);
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t count = std::min(kPiece, n - i * kPiece);
      k.load(a.dtype, row_of(a, i, kPiece), count, p);
      k.load(b.dtype, row_of(b, i, kPiece), count, q);
      f(p, q, p, count);
      k.store(y.dtype, p, count, row_of(y, i, kPiece));
    }
  });
  return CONCORD_OK;
}

const float* floats(const concord_tensor& t) { return reinterpret_cast<const float*>(concord_abi::bytes_of(t)); }

void softmax_row(const Kernels& k, float* v, std::size_t n) { k.divide(v, k.exp_sum(v, k.max(v, n), n), n); }

}  // namespace

concord_status embedding(Context& c) {
  const concord_tensor& y = c.call.out[0];
  const std::size_t tokens = dim(y, 0), n = dim(y, 1);
  const std::int32_t* ids = concord_abi::indices_of(c.call.in[0]);
  concord_weight& w = *c.call.weight;
  const auto s = concord_abi::check_indices("embedding", "ids", ids, tokens, static_cast<std::int64_t>(w.packed.rows), c.err);
  if (s != CONCORD_OK) return s;
  float* v = scratch(0, n);
  for (std::size_t t = 0; t < tokens; ++t) {
    weight_row(c.device, w, static_cast<std::size_t>(ids[t]), v);
    c.device.kernels.store(y.dtype, v, n, row_of(y, t, n));
  }
  return CONCORD_OK;
}

concord_status rmsnorm(Context& c) {
  const Kernels& k = c.device.kernels;
  const float* gain = floats(c.call.in[1]);
  const auto eps = static_cast<float>(c.call.eps);
  return each_row(c, [&](float* v, std::size_t n) {
    const float mean = k.sum_squares(v, 0.0f, n) / static_cast<float>(n);
    k.normalise(v, 0.0f, 1.0f / std::sqrt(mean + eps), gain, nullptr, n);
  });
}

concord_status layernorm(Context& c) {
  const Kernels& k = c.device.kernels;
  const float *gain = floats(c.call.in[1]), *shift = floats(c.call.in[2]);
  const auto eps = static_cast<float>(c.call.eps);
  return each_row(c, [&](float* v, std::size_t n) {
    const float mean = k.sum(v, n) / static_cast<float>(n),
                variance = k.sum_squares(v, mean, n) / static_cast<float>(n);
    k.normalise(v, mean, 1.0f / std::sqrt(variance + eps), gain, shift, n);
  });
}

concord_status rope(Context& c) {
  const concord_tensor &x = c.call.in[0], &y = c.call.out[0];
  const std::size_t tokens = dim(x, 0), heads = dim(x, 1), d = dim(x, 2), half = d / 2;
  const std::int32_t* positions = concord_abi::indices_of(c.call.in[3]);
  const auto s = concord_abi::check_indices("rope", "positions", positions, tokens, c.call.in[1].dims[0], c.err);
  if (s != CONCORD_OK) return s;
  const Kernels& k = c.device.kernels;
  c.device.parallel(tokens * heads, d, [&](std::size_t begin, std::size_t end) {
    float* v = scratch(0, d);
    for (std::size_t i = begin; i < end; ++i) {
      const auto p = static_cast<std::size_t>(positions[i / heads]) * half;
      k.load(x.dtype, row_of(x, i, d), d, v);
      k.rotate(v, floats(c.call.in[1]) + p, floats(c.call.in[2]) + p, half);
      k.store(y.dtype, v, d, row_of(y, i, d));
    }
  });
  return CONCORD_OK;
}

concord_status kv_append(Context& c) {
  const concord_tensor& k = c.call.in[0];
  const std::size_t tokens = dim(k, 0), heads = dim(k, 1), d = dim(k, 2), n = heads * d;
  const std::int32_t* rows = concord_abi::indices_of(c.call.in[2]);
  const auto s = concord_abi::check_rows(rows, tokens, c.call.out[0].dims[0], c.err);
  if (s != CONCORD_OK) return s;
  c.device.parallel(tokens, 2 * n, [&](std::size_t begin, std::size_t end) {
    float* v = scratch(0, n);
    for (std::size_t t = begin; t < end; ++t)
      for (int which = 0; which < 2; ++which) {
        const concord_tensor& to = c.call.out[which];
        const auto row = static_cast<std::size_t>(rows[t]);
        c.device.kernels.load(k.dtype, row_of(c.call.in[which], t, n), n, v);
        if (to.dtype != CONCORD_I8) {
          c.device.kernels.store(to.dtype, v, n, row_of(to, row, n));
          continue;
        }
        auto* q = reinterpret_cast<std::int8_t*>(row_of(to, row, n));
        auto* scales = reinterpret_cast<float*>(row_of(c.call.out[2 + which], row, heads));
        for (std::size_t h = 0; h < heads; ++h) scales[h] = c.device.kernels.quantize(v + h * d, d, q + h * d);
      }
  });
  return CONCORD_OK;
}

concord_status swiglu(Context& c) { return each_piece(c, c.call.in[0], c.call.in[1], c.device.kernels.swiglu); }
concord_status add(Context& c) { return each_piece(c, c.call.in[0], c.call.in[1], c.device.kernels.add); }
concord_status gelu(Context& c) {
  const bool tanh_form = c.call.flags & CONCORD_GELU_TANH;
  return each_piece(c, c.call.in[0], c.call.in[0], [&](const float* x, const float*, float* y, std::size_t n) {
    c.device.kernels.gelu(x, y, n, tanh_form);
  });
}

concord_status softmax(Context& c) {
  return each_row(c, [&](float* v, std::size_t n) { softmax_row(c.device.kernels, v, n); });
}

concord_status topk_routing(Context& c) {
  const concord_tensor &x = c.call.in[0], &weight = c.call.out[0], &expert = c.call.out[1];
  const std::size_t rows = dim(x, 0), n = dim(x, 1), k = dim(weight, 1);
  c.device.parallel(rows, n, [&](std::size_t begin, std::size_t end) {
    std::vector<std::int32_t> order(n);
    float *v = scratch(0, n), *chosen = scratch(1, k);
    for (std::size_t r = begin; r < end; ++r) {
      c.device.kernels.load(x.dtype, row_of(x, r, n), n, v);
      for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::int32_t>(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](auto a, auto b) { return concord_abi::before(v[std::size_t(a)], v[std::size_t(b)]); });
      softmax_row(c.device.kernels, v, n);
      for (std::size_t i = 0; i < k; ++i) chosen[i] = v[static_cast<std::size_t>(order[i])];
      if (c.call.flags & CONCORD_NORMALISE) c.device.kernels.divide(chosen, c.device.kernels.sum(chosen, k), k);
      std::memcpy(row_of(weight, r, k), chosen, k * 4);
      std::memcpy(row_of(expert, r, k), order.data(), k * 4);
    }
  });
  return CONCORD_OK;
}

concord_status argmax(Context& c) {
  const concord_tensor& x = c.call.in[0];
  const std::size_t rows = dim(x, 0), n = dim(x, 1);
  c.device.parallel(rows, n, [&](std::size_t begin, std::size_t end) {
    float* v = scratch(0, n);
    for (std::size_t r = begin; r < end; ++r) {
      c.device.kernels.load(x.dtype, row_of(x, r, n), n, v);
      std::size_t best = 0;
      for (std::size_t i = 1; i < n; ++i)
        if (concord_abi::before(v[i], v[best])) best = i;
      concord_abi::store_as(concord_abi::bytes_of(c.call.out[0]), r, static_cast<std::int32_t>(best));
    }
  });
  return CONCORD_OK;
}

}  // namespace cpu
