// Faults of the matrix product and of the forms in which weights are stored (EMBEDDING reads the same forms).
#include "mutant.hpp"

namespace mutant {
namespace {

using concord_abi::StoredWeight;

// The weight with its rows as float32 numbers, for faults that change single values.
StoredWeight& as_f32(Changed& c) {
  StoredWeight& w = c.copy_weight();
  std::vector<std::byte> data(w.rows * w.cols * 4);
  std::vector<double> row(w.cols);
  for (std::size_t r = 0; r < w.rows; ++r) {
    concord_abi::weight_row(w, r, row.data());
    concord_abi::store_f64(CONCORD_F32, row.data(), w.cols, data.data() + r * w.cols * 4);
  }
  w.data = std::move(data), w.dtype = CONCORD_F32, w.group = 0, w.groups = 0;
  w.scales.clear(), w.zeros.clear();
  return w;
}

void drop_columns(Changed& c, std::size_t first) {
  const concord_tensor& x = c.copy_in(0);
  std::vector<double> v = values_of(x);
  const std::size_t k = last_axis(x);
  for (std::size_t i = 0; i < v.size(); ++i)
    if (i % k >= first) v[i] = 0;
  put_values(x, v);
}
void drop_last_column(Changed& c) { drop_columns(c, last_axis(c.call.in[0]) - 1); }
void drop_remainder(Changed& c) {
  if (const std::size_t k = last_axis(c.call.in[0]); k >= 32) drop_columns(c, k / 32 * 32);
}
void drop_behind_1024(Changed& c) { drop_columns(c, 1024); }
// The first column is added once more: an index off by one that reads a neighbour instead of the last.
void repeat_column(Changed& c) {
  const concord_tensor& x = c.copy_in(0);
  std::vector<double> v = values_of(x);
  const std::size_t k = last_axis(x);
  if (k > 1)
    for (std::size_t i = k - 1; i < v.size(); i += k) v[i] = v[i - 1];
  put_values(x, v);
}

// TF32: 10 bits of mantissa behind the leading one; cut, or rounded to nearest (away from zero at ties, as tensor
// cores' conversion does).
void to_tf32(std::span<std::byte> f32, bool round) {
  for (std::size_t i = 0; i < f32.size() / 4; ++i) {
    auto u = concord_abi::load_as<std::uint32_t>(f32.data(), i);
    if ((u & 0x7f800000u) == 0x7f800000u) continue;
    if (round && ((u + 0x1000u) & 0x7f800000u) != 0x7f800000u) u += 0x1000u;
    concord_abi::store_as(f32.data(), i, u & 0xffffe000u);
  }
}
template <bool Round>
void tf32_matmul(Changed& c) {
  if (c.call.in[0].dtype == CONCORD_F32) to_tf32(memory_of(c.copy_in(0)), Round);
  if (c.call.weight->stored.dtype == CONCORD_F32) to_tf32(c.copy_weight().data, Round);
}
template <bool Round>
void tf32_attention(Changed& c) {
  for (const std::uint32_t i : {0u, 1u, 2u})
    if (c.call.in[i].dtype == CONCORD_F32) to_tf32(memory_of(c.copy_in(i)), Round);
}
template <bool Round>
concord_status tf32(Job& job) {
  return job.call.op == CONCORD_OP_MATMUL ? with<tf32_matmul<Round>>(job) : with<tf32_attention<Round>>(job);
}
void activations_bf16(Changed& c) {
  const concord_tensor& x = c.copy_in(0);
  std::vector<double> v = values_of(x);
  for (double& e : v) e = concord_abi::bf16_to_f32(concord_abi::f64_to_bf16(e));
  put_values(x, v);
}
void weights_bf16(Changed& c) {
  StoredWeight& w = as_f32(c);
  for (std::size_t i = 0; i < w.rows * w.cols; ++i)
    concord_abi::store_as(
        w.data.data(), i,
        concord_abi::bf16_to_f32(concord_abi::f32_to_bf16(concord_abi::load_as<float>(w.data.data(), i))));
}

// Products in float32, sums rounded after every step to float16 or bfloat16; bias and z as they should be.
template <float (*Round)(float)>
concord_status narrow_sum(Job& job) {
  Changed c(job.call);
  const concord_tensor& x = job.call.in[0];
  const StoredWeight& w = job.call.weight->stored;
  const std::size_t rows = reference::dim(x, 0), k = w.cols;
  const std::vector<double> a = values_of(x);
  std::vector<float> row(k), sums(rows * w.rows);
  for (std::size_t n = 0; n < w.rows; ++n) {
    concord_abi::weight_row(w, n, row.data());
    for (std::size_t m = 0; m < rows; ++m) {
      float sum = 0;
      for (std::size_t i = 0; i < k; ++i) sum = Round(sum + static_cast<float>(a[m * k + i]) * row[i]);
      sums[m * w.rows + n] = sum;
    }
  }
  const bool has_bias = job.call.n_in > 1 && !concord_abi::absent(job.call.in[1]);
  std::vector<double> y(sums.begin(), sums.end());
  if (has_bias) {
    const std::vector<double> bias = values_of(job.call.in[1]);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += bias[i % bias.size()];
  }
  if (job.call.flags != 0) {
    const std::vector<double> z = values_of(job.call.in[2]);
    for (std::size_t i = 0; i < y.size(); ++i)
      y[i] = job.call.flags == CONCORD_PLUS ? z[i] + y[i] : z[i] / (1 + std::exp(-z[i])) * y[i];
  }
  put_values(job.out(), y);
  return CONCORD_OK;
}
float to_f16(float v) { return concord_abi::f16_to_f32(concord_abi::f32_to_f16(v)); }
float to_bf16(float v) { return concord_abi::bf16_to_f32(concord_abi::f32_to_bf16(v)); }

void forget(Changed& c, std::uint32_t which) {
  if (which >= c.call.n_in) return;
  c.call.in[which] = concord_tensor{};
  if (which == 2) c.call.flags = 0;
}
void no_bias(Changed& c) { forget(c, 1); }
void no_z(Changed& c) { forget(c, 2); }
void bias_of_neighbour(Changed& c) {
  if (c.call.n_in < 2 || concord_abi::absent(c.call.in[1])) return;
  const concord_tensor& bias = c.copy_in(1);
  std::vector<double> v = values_of(bias);
  std::rotate(v.begin(), v.begin() + 1, v.end());
  put_values(bias, v);
}
void plus_for_gated(Changed& c) {
  if (c.call.flags == CONCORD_GATED) c.call.flags = CONCORD_PLUS;
}

void zeros_ignored(Changed& c) {
  if (!c.call.weight->stored.zeros.empty()) c.copy_weight().zeros.clear();
}
void nibbles_swapped(Changed& c) {
  if (c.call.weight->stored.dtype != CONCORD_U4) return;
  for (std::byte& b : c.copy_weight().data) b = (b << 4) | (b >> 4);
}
// Each scale is the next one of its row (U4) or of the next row (I8).
void neighbours_scale(Changed& c, std::uint32_t dtype) {
  if (c.call.weight->stored.dtype != dtype) return;
  StoredWeight& w = c.copy_weight();
  const std::size_t width = dtype == CONCORD_U4 ? 2 : 4, row = width * (dtype == CONCORD_U4 ? w.groups : w.rows);
  for (auto it = w.scales.begin(); it != w.scales.end(); it += static_cast<std::ptrdiff_t>(row))
    std::rotate(it, it + static_cast<std::ptrdiff_t>(width), it + static_cast<std::ptrdiff_t>(row));
}
void u4_neighbours_scale(Changed& c) { neighbours_scale(c, CONCORD_U4); }
void i8_neighbours_scale(Changed& c) { neighbours_scale(c, CONCORD_I8); }
void i8_unsigned(Changed& c) {
  if (c.call.weight->stored.dtype != CONCORD_I8) return;
  for (std::byte& b : c.copy_weight().data)
    if (b == std::byte{0x80} || b == std::byte{0x81}) b = std::byte{0x7f};
}
// The group size of 32 that most models have, whatever the weight says.
void group_of_32(Changed& c) {
  const StoredWeight& given = c.call.weight->stored;
  if (given.dtype != CONCORD_U4 || given.group <= 32 || given.groups < 2) return;
  StoredWeight& w = c.copy_weight();
  const std::size_t groups = (w.cols + 31) / 32;
  std::vector<std::byte> scales(w.rows * groups * 2);
  std::vector<std::uint8_t> zeros(w.zeros.empty() ? 0 : w.rows * groups);
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t from = r * w.groups + std::min(g, w.groups - 1);
      concord_abi::store_as(scales.data(), r * groups + g, concord_abi::load_as<std::uint16_t>(w.scales.data(), from));
      if (!zeros.empty()) zeros[r * groups + g] = w.zeros[from];
    }
  w.scales = std::move(scales), w.zeros = std::move(zeros), w.group = 32, w.groups = groups;
}
// A row of the table or matrix that is not the one meant: all rows move up by one.
void rows_off_by_one(Changed& c) {
  StoredWeight& w = as_f32(c);
  std::rotate(w.data.begin(), w.data.begin() + static_cast<std::ptrdiff_t>(w.cols * 4), w.data.end());
}

constexpr std::uint32_t kMatmul = bits({CONCORD_OP_MATMUL}), kWeights = bits({CONCORD_OP_MATMUL, CONCORD_OP_EMBEDDING});
constexpr std::uint32_t kTf32 = bits({CONCORD_OP_MATMUL, CONCORD_OP_ATTENTION});

constexpr Fault kFaults[] = {
    {"last-column-dropped", "the last of the K columns is left out", kMatmul, with<drop_last_column>},
    {"k-remainder-dropped", "columns behind the last multiple of 32 are left out", kMatmul, with<drop_remainder>},
    {"long-sums-cut", "columns from the 1025th on are left out", kMatmul, with<drop_behind_1024>},
    {"k-off-by-one", "the last column reads its neighbour's activation", kMatmul, with<repeat_column>},
    {"tf32", "F32 inputs are cut to TF32's width", kTf32, tf32<false>},
    {"tf32-rounded", "F32 inputs are rounded to TF32's width", kTf32, tf32<true>},
    {"activations-bf16", "activations are rounded to bfloat16 before the product", kMatmul, with<activations_bf16>},
    {"weights-bf16", "weights are rounded to bfloat16 before the product, which is not declared", kMatmul,
     with<weights_bf16>},
    {"f16-accumulate", "sums are kept in float16", kMatmul, narrow_sum<to_f16>},
    {"bf16-accumulate", "sums are kept in bfloat16", kMatmul, narrow_sum<to_bf16>},
    {"bias-forgotten", "the bias is not added", kMatmul, with<no_bias>},
    {"bias-neighbour", "the bias of the neighbouring column is added", kMatmul, with<bias_of_neighbour>},
    {"z-forgotten", "the residual or gate z is ignored", kMatmul, with<no_z>},
    {"gate-added", "GATED is computed as PLUS", kMatmul, with<plus_for_gated>},
    {"u4-zeros-ignored", "the zero points of U4 weights are taken as 8", kWeights, with<zeros_ignored>},
    {"u4-nibbles-swapped", "the two nibbles of a byte are swapped", kWeights, with<nibbles_swapped>},
    {"u4-scale-neighbour", "each group has the scale of the next", kWeights, with<u4_neighbours_scale>},
    {"u4-group-of-32", "every U4 weight is read with groups of 32", kWeights, with<group_of_32>},
    {"i8-scale-neighbour", "each row of an I8 weight has the scale of the next", kWeights, with<i8_neighbours_scale>},
    {"i8-extreme-clipped", "-127 and -128 of an I8 weight are read as +127", kWeights, with<i8_unsigned>},
    {"weight-row-off", "weight rows are off by one", kWeights, with<rows_off_by_one>},
    {.name = "weight-cached",
     .what = "a weight of a known shape and dtype gets the first one's contents",
     .ops = kWeights,
     .weights_cached = true},
};

}  // namespace

std::span<const Fault> matmul_faults() { return kFaults; }

}  // namespace mutant
