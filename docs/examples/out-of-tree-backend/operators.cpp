#include "operators.hpp"

#include <cmath>

namespace example {
namespace {

using Row = std::vector<float>;

std::size_t dim(const concord_tensor& t, int axis) { return static_cast<std::size_t>(t.dims[axis]); }
std::size_t last(const concord_tensor& t) { return dim(t, static_cast<int>(t.rank) - 1); }
std::byte* row_at(const concord_tensor& t, std::size_t r, std::size_t n) {
  return sdk::bytes_of(t) + r * n * sdk::dtype_bytes(t.dtype);
}
// Row r of a tensor seen as rows of n elements: read exactly, and written with one rounding.
Row load(const concord_tensor& t, std::size_t r, std::size_t n) {
  Row row(n);
  sdk::load_f32(t.dtype, row_at(t, r, n), n, row.data());
  return row;
}
void store(const concord_tensor& t, std::size_t r, const Row& row) {
  sdk::store_f32(t.dtype, row.data(), row.size(), row_at(t, r, row.size()));
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

void embedding(const concord_call& c) {
  Row row(last(c.out[0]));
  for (std::size_t t = 0; t < dim(c.in[0], 0); ++t) {
    sdk::weight_row(c.weight->stored, static_cast<std::size_t>(sdk::indices_of(c.in[0])[t]), row.data());
    store(c.out[0], t, row);
  }
}

void rmsnorm(const concord_call& c) {
  const std::size_t n = last(c.in[0]);
  const Row gain = load(c.in[1], 0, n);
  for (std::size_t r = 0; r < dim(c.in[0], 0); ++r) {
    Row x = load(c.in[0], r, n);
    float squares = 0;
    for (const float v : x) squares += v * v;
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + static_cast<float>(c.eps));
    for (std::size_t i = 0; i < n; ++i) x[i] = x[i] * scale * gain[i];
    store(c.out[0], r, x);
  }
}

// With z: the bits of the two operators one by one, so that x W^T + bias is rounded to the output's type before z comes
// in.
Row combine(const concord_call& c, std::size_t t, const Row& y) {
  const concord_tensor& out = c.out[0];
  std::vector<std::byte> stored(y.size() * sdk::dtype_bytes(out.dtype));
  Row rounded(y.size()), z = load(c.in[2], t, y.size());
  sdk::store_f32(out.dtype, y.data(), y.size(), stored.data());
  sdk::load_f32(out.dtype, stored.data(), y.size(), rounded.data());
  for (std::size_t n = 0; n < y.size(); ++n)
    z[n] = c.flags == CONCORD_PLUS ? z[n] + rounded[n] : silu(z[n]) * rounded[n];
  return z;
}

void matmul(const concord_call& c) {
  const sdk::StoredWeight& w = c.weight->stored;
  const std::size_t tokens = dim(c.in[0], 0);
  std::vector<Row> y(tokens, Row(w.rows)), x;
  for (std::size_t t = 0; t < tokens; ++t) x.push_back(load(c.in[0], t, w.cols));
  const bool has_bias = c.n_in > 1 && !sdk::absent(c.in[1]);
  const Row bias = has_bias ? load(c.in[1], 0, w.rows) : Row(w.rows);
  Row weights(w.cols);
  for (std::size_t n = 0; n < w.rows; ++n) {
    sdk::weight_row(w, n, weights.data());
    for (std::size_t t = 0; t < tokens; ++t) {
      float sum = 0;
      for (std::size_t k = 0; k < w.cols; ++k) sum += x[t][k] * weights[k];
      y[t][n] = has_bias ? sum + bias[n] : sum;
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) store(c.out[0], t, c.flags ? combine(c, t, y[t]) : y[t]);
}

void rope(const concord_call& c) {
  const std::size_t heads = dim(c.in[0], 1), half = dim(c.in[0], 2) / 2;
  for (std::size_t t = 0; t < dim(c.in[0], 0); ++t) {
    const auto position = static_cast<std::size_t>(sdk::indices_of(c.in[3])[t]);
    const Row cos = load(c.in[1], position, half), sin = load(c.in[2], position, half);
    for (std::size_t h = 0; h < heads; ++h) {
      Row x = load(c.in[0], t * heads + h, 2 * half);
      for (std::size_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i], x[i + half] = b * cos[i] + a * sin[i];
      }
      store(c.out[0], t * heads + h, x);
    }
  }
}

void kv_append(const concord_call& c) {
  const std::size_t width = dim(c.in[0], 1) * dim(c.in[0], 2);
  for (std::size_t t = 0; t < dim(c.in[0], 0); ++t)
    for (int i = 0; i < 2; ++i)
      store(c.out[i], static_cast<std::size_t>(sdk::indices_of(c.in[2])[t]), load(c.in[i], t, width));
}

void softmax_row(Row& x) {
  float largest = -INFINITY, sum = 0;
  for (const float v : x) largest = v > largest || std::isnan(v) ? v : largest;
  for (float& v : x) v = std::exp(v - largest), sum += v;
  for (float& v : x) v /= sum;
}

void attention(const concord_call& c) {
  const std::size_t heads = dim(c.in[0], 1), d = dim(c.in[0], 2), groups = dim(c.in[1], 1);
  for (std::size_t t = 0; t < dim(c.in[0], 0); ++t) {
    const auto row = static_cast<std::size_t>(sdk::indices_of(c.in[3])[t]),
               sequence = static_cast<std::size_t>(c.sequence_rows);
    const std::size_t first = sequence ? row / sequence * sequence : 0;
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t g = h / (heads / groups);
      const Row q = load(c.in[0], t * heads + h, d);
      Row p(row + 1 - first), y(d);
      for (std::size_t r = 0; r < p.size(); ++r) {
        const Row k = load(c.in[1], (first + r) * groups + g, d);
        float sum = 0;
        for (std::size_t i = 0; i < d; ++i) sum += q[i] * k[i];
        p[r] = sum * static_cast<float>(c.scale);
      }
      softmax_row(p);
      for (std::size_t r = 0; r < p.size(); ++r) {
        const Row v = load(c.in[2], (first + r) * groups + g, d);
        for (std::size_t i = 0; i < d; ++i) y[i] += p[r] * v[i];
      }
      store(c.out[0], t * heads + h, y);
    }
  }
}

template <class F>
void each_row(const concord_call& c, const F& f) {
  const std::size_t n = last(c.out[0]), rows = sdk::element_count(c.out[0]) / n;
  for (std::size_t r = 0; r < rows; ++r) {
    Row a = load(c.in[0], r, n);
    f(a, r, n);
    store(c.out[0], r, a);
  }
}
void swiglu(const concord_call& c) {
  each_row(c, [&](Row& a, std::size_t r, std::size_t n) {
    const Row up = load(c.in[1], r, n);
    for (std::size_t i = 0; i < n; ++i) a[i] = silu(a[i]) * up[i];
  });
}
void add(const concord_call& c) {
  each_row(c, [&](Row& a, std::size_t r, std::size_t n) {
    const Row b = load(c.in[1], r, n);
    for (std::size_t i = 0; i < n; ++i) a[i] += b[i];
  });
}
void softmax(const concord_call& c) {
  each_row(c, [](Row& a, std::size_t, std::size_t) { softmax_row(a); });
}

}  // namespace

const Run kOperators[CONCORD_OP_COUNT] = {embedding, rmsnorm, nullptr, matmul,  rope,    kv_append, attention,
                                          swiglu,    nullptr, add,     softmax, nullptr, nullptr};
}  // namespace example
