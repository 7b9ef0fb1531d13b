// Every operator of the device under test against the float64 reference, for every dtype it takes. The reference gets
// the very same numbers as F64, so that its results are unrounded. Bounds are derived per element from shape and dtype;
// each names its causes.
#include <fmt/format.h>

#include <numeric>

#include "bench.hpp"

namespace concord::testing {
namespace {

class Operators : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  Bench device_{subject()}, truth_{reference()};
};
INSTANTIATE_TEST_SUITE_P(Dtypes, Operators, ::testing::ValuesIn(activation_dtypes()),
                         [](const auto& p) { return std::string(dtype_name(p.param)); });

// x as input `i` of both calls: in the storage dtype here, as F64 there.
void both(Bench& device, Bench& truth, concord_call& a, concord_call& b, int i, DType dtype, const Dims& dims,
          const Values& x) {
  a.in[i] = device.put(dtype, dims, x), b.in[i] = truth.put(DType::kF64, dims, x);
  a.n_in = b.n_in = std::max(a.n_in, static_cast<std::uint32_t>(i + 1));
}
void outputs(Bench& device, Bench& truth, concord_call& a, concord_call& b, DType dtype, const Dims& dims) {
  a.out[0] = device.room(dtype, dims), b.out[0] = truth.room(DType::kF64, dims);
  a.n_out = b.n_out = 1;
}
void run_both(Bench& device, Bench& truth, const concord_call& a, const concord_call& b) {
  const Status s = device.run(a), r = truth.run(b);
  ASSERT_TRUE(s.has_value()) << s.error().to_string();
  ASSERT_TRUE(r.has_value()) << r.error().to_string();
}

struct MatmulShape {
  std::int64_t t, n, k;
  bool bias;
};
const std::vector<MatmulShape> kMatmulShapes = {
    {1, 16, 32, false},  {1, 1, 1, false},     {1, 576, 576, true},   {2, 17, 33, true},   {3, 5, 4096, false},
    {31, 64, 64, false}, {33, 192, 576, true}, {64, 100, 129, false}, {7, 1000, 96, true}, {129, 48, 256, false}};

// Relative error of one weight as it is multiplied: I8 * scale is rounded to float32 once (or the sum is, when it is
// scaled); cpu:bf16 rounds F32 and F16 weights to BF16 and multiplies the others as they are. Results below the smallest
// normal number may be flushed by the bf16 dot product (its definition).
double weight_rounding(std::uint32_t form) {
  const bool rounds = device_id() == "cpu:bf16" && (form == CONCORD_F32 || form == CONCORD_F16);
  return rounds ? 0x1p-8 * (1 + kU) : form == CONCORD_I8 ? kU : 0;
}

// Products and sums in any order, fused or not, and the bias: gamma(K + 2) of sum |x||w| + |bias|; then the weights'
// own rounding.
Values matmul_bound(DType dtype, const MatmulShape& s, std::uint32_t form, const Values& x, const HostWeight& w,
                    const Values& bias, const Values& y) {
  Values bound(y.size());
  const double flush = device_id() == "cpu:bf16" ? 0x1p-126 * static_cast<double>(2 * s.k) : 0;
  for (std::int64_t t = 0; t < s.t; ++t)
    for (std::int64_t n = 0; n < s.n; ++n) {
      double size = 0;
      for (std::int64_t k = 0; k < s.k; ++k)
        size += std::fabs(x[static_cast<std::size_t>(t * s.k + k)] * w.values[static_cast<std::size_t>(n * s.k + k)]);
      const auto i = static_cast<std::size_t>(t * s.n + n);
      const double e = weight_rounding(form), g = gamma(static_cast<double>(s.k) + 2);
      const double b = s.bias ? std::fabs(bias[static_cast<std::size_t>(n)]) : 0;
      bound[i] = stored(dtype, y[i], size * (e + g * (1 + e)) + b * g + flush);
    }
  return bound;
}

TEST_P(Operators, Matmul) {
  for (const MatmulShape& s : kMatmulShapes)
    for (const WeightForm& form : kWeightForms) {
      Bench device(subject()), truth(reference());
      const auto seed = static_cast<std::uint64_t>(s.t * 7919 + s.n * 31 + s.k);
      const Values x = rounded(dtype(), noise(seed, Bench::count({s.t, s.k})));
      const Values bias = rounded(DType::kF32, noise(seed + 5, static_cast<std::size_t>(s.n)));
      HostWeight w = make_weight(form, s.n, s.k, dtype(), seed + 9);
      concord_call a = make_call(CONCORD_OP_MATMUL), b = a;
      both(device, truth, a, b, 0, dtype(), {s.t, s.k}, x);
      if (s.bias)
        a.in[1] = device.put(DType::kF32, {s.n}, bias), b.in[1] = truth.put(DType::kF32, {s.n}, bias),
        a.n_in = b.n_in = 2;
      outputs(device, truth, a, b, dtype(), {s.t, s.n});
      a.weight = device.weight(w.desc);
      w.desc.activation_dtype = CONCORD_F64;
      b.weight = truth.weight(w.desc);
      run_both(device, truth, a, b);
      const Values want = truth.get(b.out[0]);
      expect_within(device.get(a.out[0]), want, matmul_bound(dtype(), s, form.dtype, x, w, bias, want),
                    fmt::format("matmul [{},{}]x[{},{}] {}", s.t, s.k, s.n, s.k, form.name));
    }
}

// Small integers: every product and partial sum is exact in float32 (and in bf16 x bf16 -> float32), so the result is
// one rounding.
TEST_P(Operators, MatmulOfIntegersIsExact) {
  for (const MatmulShape& s : kMatmulShapes)
    for (const WeightForm& form : kWeightForms) {
      Bench device(subject());
      const Values x = integers(3, Bench::count({s.t, s.k}), 4), bias = integers(5, static_cast<std::size_t>(s.n), 100);
      HostWeight w = make_weight(form, s.n, s.k, dtype(), 11, true);
      concord_call a = make_call(CONCORD_OP_MATMUL);
      a.n_in = s.bias ? 2 : 1, a.n_out = 1;
      a.in[0] = device.put(dtype(), {s.t, s.k}, x);
      if (s.bias) a.in[1] = device.put(DType::kF32, {s.n}, bias);
      a.out[0] = device.room(dtype(), {s.t, s.n}), a.weight = device.weight(w.desc);
      const Status status = device.run(a);
      ASSERT_TRUE(status.has_value()) << status.error().to_string();
      Values want(Bench::count({s.t, s.n}));
      for (std::size_t i = 0; i < want.size(); ++i) {
        const std::size_t t = i / static_cast<std::size_t>(s.n), n = i % static_cast<std::size_t>(s.n),
                          k = static_cast<std::size_t>(s.k);
        for (std::size_t c = 0; c < k; ++c) want[i] += x[t * k + c] * w.values[n * k + c];
        if (s.bias) want[i] += bias[n];
      }
      expect_equal(device.get(a.out[0]), rounded(dtype(), want),
                   fmt::format("integers [{},{}]x[{},{}] {}", s.t, s.k, s.n, s.k, form.name));
    }
}

TEST_P(Operators, Embedding) {
  for (const WeightForm& form : kWeightForms) {
    Bench device(subject());
    HostWeight w = make_weight(form, 37, 130, dtype(), 21);
    const std::vector<std::int32_t> ids = {0, 36, 5, 5, 17};
    concord_call a = make_call(CONCORD_OP_EMBEDDING);
    a.n_in = a.n_out = 1, a.in[0] = device.put_i32({5}, ids), a.out[0] = device.room(dtype(), {5, 130}),
    a.weight = device.weight(w.desc);
    ASSERT_TRUE(device.run(a).has_value());
    Values want, bound;
    for (std::int32_t id : ids)
      for (std::size_t c = 0; c < 130; ++c) want.push_back(w.values[static_cast<std::size_t>(id) * 130 + c]);
    if (form.dtype != CONCORD_I8) {  // the value is exact in float32: one rounding to the storage dtype
      expect_equal(device.get(a.out[0]), rounded(dtype(), want), form.name);
      continue;
    }
    for (double v : want) bound.push_back(stored(dtype(), v, kU * std::fabs(v)));  // the float32 product, then storage
    expect_within(device.get(a.out[0]), want, bound, form.name);
  }
}

// The same weight serves a matmul and then an embedding (tied embeddings).
TEST_P(Operators, TiedWeightServesMatmulAndEmbedding) {
  HostWeight w = make_weight(kWeightForms[2], 40, 64, dtype(), 8);
  concord_call m = make_call(CONCORD_OP_MATMUL), e = make_call(CONCORD_OP_EMBEDDING);
  m.n_in = m.n_out = e.n_in = e.n_out = 1;
  m.weight = e.weight = device_.weight(w.desc);
  m.in[0] = device_.put(dtype(), {1, 64}, Values(64, 1.0)), m.out[0] = device_.room(dtype(), {1, 40});
  e.in[0] = device_.put_i32({1}, {39}), e.out[0] = device_.room(dtype(), {1, 64});
  ASSERT_TRUE(device_.run(m).has_value());
  ASSERT_TRUE(device_.run(e).has_value());
  expect_equal(device_.get(e.out[0]), rounded(dtype(), Values(w.values.end() - 64, w.values.end())), "row 39");
}

TEST_P(Operators, RmsNorm) {
  for (const std::int64_t n : {1, 7, 16, 64, 576, 1000})
    for (const double scale : {1.0, 1e-4, 100.0}) {
      Bench device(subject()), truth(reference());
      const Values x = rounded(dtype(), noise(static_cast<std::uint64_t>(n), static_cast<std::size_t>(3 * n), scale));
      const Values gain = rounded(DType::kF32, noise(77, static_cast<std::size_t>(n), 2));
      concord_call a = make_call(CONCORD_OP_RMSNORM);
      a.eps = 1e-5;
      concord_call b = a;
      both(device, truth, a, b, 0, dtype(), {3, n}, x);
      a.in[1] = device.put(DType::kF32, {n}, gain), b.in[1] = truth.put(DType::kF32, {n}, gain), a.n_in = b.n_in = 2;
      outputs(device, truth, a, b, dtype(), {3, n});
      if (scale == 1.0) a.out[0] = a.in[0];  // in place, as the norms of queries and keys are
      run_both(device, truth, a, b);
      const Values want = truth.get(b.out[0]);
      Values bound;
      // n + 3 roundings under the root (squares, sum, mean, sum with eps) count half; eps itself, root, reciprocal and
      // two products count once each, 1 spare.
      for (double y : want)
        bound.push_back(stored(dtype(), y, std::fabs(y) * gamma((static_cast<double>(n) + 3) / 2 + 6)));
      expect_within(device.get(a.out[0]), want, bound, fmt::format("rmsnorm n={} scale={}", n, scale));
    }
}

TEST_P(Operators, LayerNorm) {
  for (const std::int64_t n : {2, 7, 64, 576}) {
    Bench device(subject()), truth(reference());
    Values x = noise(static_cast<std::uint64_t>(n) + 3, static_cast<std::size_t>(2 * n));
    for (double& v : x) v += 0.5;
    x = rounded(dtype(), x);
    const Values gain = rounded(DType::kF32, noise(7, static_cast<std::size_t>(n), 2)),
                 shift = rounded(DType::kF32, noise(8, static_cast<std::size_t>(n)));
    concord_call a = make_call(CONCORD_OP_LAYERNORM);
    a.eps = 1e-5;
    concord_call b = a;
    both(device, truth, a, b, 0, dtype(), {2, n}, x);
    for (int i : {1, 2}) {
      a.in[i] = device.put(DType::kF32, {n}, i == 1 ? gain : shift),
      b.in[i] = truth.put(DType::kF32, {n}, i == 1 ? gain : shift);
    }
    a.n_in = b.n_in = 3;
    outputs(device, truth, a, b, dtype(), {2, n});
    run_both(device, truth, a, b);
    const Values want = truth.get(b.out[0]);
    Values bound(want.size());
    for (std::size_t r = 0; r < 2; ++r) {
      const auto row = std::span(x).subspan(r * static_cast<std::size_t>(n), static_cast<std::size_t>(n));
      double mean = 0, size = 0, var = 0;
      for (double v : row) mean += v / static_cast<double>(n), size += std::fabs(v) / static_cast<double>(n);
      for (double v : row) var += (v - mean) * (v - mean) / static_cast<double>(n);
      // The mean's error dm moves every element, and the variance by dm^2 (the cross term vanishes); the rest as in
      // RMSNorm.
      const double dm = size * gamma(static_cast<double>(n) + 1), s = 1 / std::sqrt(var + 1e-5);
      const double rel = gamma((static_cast<double>(n) + 4) / 2 + 8) + dm * dm / (var + 1e-5);
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::size_t at = r * row.size() + i;
        const double scaled = std::fabs((row[i] - mean) * s * gain[i]);
        bound[at] = stored(dtype(), want[at],
                           scaled * rel + dm * s * std::fabs(gain[i]) * 1.001 + kU * (std::fabs(want[at]) + scaled));
      }
    }
    expect_within(device.get(a.out[0]), want, bound, fmt::format("layernorm n={}", n));
  }
}

TEST_P(Operators, Rope) {
  const std::int64_t t = 5, h = 3, p = 40;
  for (const std::int64_t d : {2, 16, 64, 96}) {
    Bench device(subject()), truth(reference());
    const Values x = rounded(dtype(), noise(4, Bench::count({t, h, d})));
    Values cos, sin;
    for (std::int64_t i = 0; i < p * d / 2; ++i) {
      const double angle = static_cast<double>(i / (d / 2)) *
                           std::pow(10000.0, -2.0 * static_cast<double>(i % (d / 2)) / static_cast<double>(d));
      cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
    }
    cos = rounded(DType::kF32, cos), sin = rounded(DType::kF32, sin);
    const std::vector<std::int32_t> positions = {0, 39, 7, 7, 12};
    concord_call a = make_call(CONCORD_OP_ROPE), b = a;
    both(device, truth, a, b, 0, dtype(), {t, h, d}, x);
    a.in[1] = device.put(DType::kF32, {p, d / 2}, cos), b.in[1] = truth.put(DType::kF64, {p, d / 2}, cos);
    a.in[2] = device.put(DType::kF32, {p, d / 2}, sin), b.in[2] = truth.put(DType::kF64, {p, d / 2}, sin);
    a.in[3] = device.put_i32({t}, positions), b.in[3] = truth.put_i32({t}, positions);
    a.n_in = b.n_in = 4, a.n_out = 1;
    outputs(device, truth, a, b, dtype(), {t, h, d});
    a.out[0] = a.in[0];  // in place, as decoders use it
    run_both(device, truth, a, b);
    const Values want = truth.get(b.out[0]);
    Values bound(want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t half = static_cast<std::size_t>(d) / 2, j = i % static_cast<std::size_t>(d) % half;
      const std::size_t first = i - i % static_cast<std::size_t>(d) + j;
      bound[i] = stored(dtype(), want[i],
                        gamma(2) * (std::fabs(x[first]) + std::fabs(x[first + half])));  // two products, one sum
    }
    expect_within(device.get(a.out[0]), want, bound, fmt::format("rope d={}", d));
  }
}

TEST_P(Operators, KvAppendIsExact) {
  for (const DType cache : {DType::kF32, DType::kF16, DType::kBF16}) {
    Bench device(subject());
    const Values k = rounded(dtype(), noise(1, 3 * 2 * 20, 3)), v = rounded(dtype(), noise(2, 3 * 2 * 20));
    concord_call a = make_call(CONCORD_OP_KV_APPEND);
    a.n_in = 3, a.n_out = 2;
    a.in[0] = device.put(dtype(), {3, 2, 20}, k), a.in[1] = device.put(dtype(), {3, 2, 20}, v),
    a.in[2] = device.put_i32({3}, {6, 0, 4});
    a.out[0] = device.room(cache, {8, 2, 20}), a.out[1] = device.room(cache, {8, 2, 20});
    ASSERT_TRUE(device.run(a).has_value());
    for (int which : {0, 1}) {
      Values want(8 * 40, 0.0);
      const Values from = rounded(cache, which ? v : k);
      for (std::size_t t = 0; t < 3; ++t)
        std::copy_n(from.begin() + static_cast<long>(t) * 40, 40, want.begin() + std::vector<long>{6, 0, 4}[t] * 40);
      expect_equal(device.get(a.out[which]), want, "cache");
    }
  }
}

struct AttentionShape {
  std::int64_t t, h, g, d, p;
};

// Errors: scores by gamma(D + 2) of scale sum |q||k| (the scale itself is rounded to float32); the exponent's argument
// by u|s - max|, exp itself by 1 ulp; these change each weight by at most expm1(2 max); then the sums over P rows in
// numerator and denominator and the division.
Values attention_bound(DType dtype, const AttentionShape& s, double scale, const Values& q, const Values& kc,
                       const Values& vc, const std::vector<std::int32_t>& positions, const Values& want) {
  Values bound(want.size());
  const auto d = static_cast<std::size_t>(s.d), g = static_cast<std::size_t>(s.g);
  for (std::size_t th = 0; th < static_cast<std::size_t>(s.t * s.h); ++th) {
    const std::size_t rows = static_cast<std::size_t>(positions[th / static_cast<std::size_t>(s.h)]) + 1;
    const std::size_t group = th % static_cast<std::size_t>(s.h) / static_cast<std::size_t>(s.h / s.g);
    Values score(rows), delta(rows);
    for (std::size_t p = 0; p < rows; ++p)
      for (std::size_t i = 0; i < d; ++i) {
        const double product = scale * q[th * d + i] * kc[(p * g + group) * d + i];
        score[p] += product, delta[p] += std::fabs(product) * gamma(static_cast<double>(d) + 2);
      }
    const double largest = *std::max_element(score.begin(), score.end());
    double total = 0, worst = 0;
    for (std::size_t p = 0; p < rows; ++p) {
      total += std::exp(score[p] - largest);
      worst = std::max(worst, 2 * delta[p] + kU * std::fabs(score[p] - largest) + 2 * kU);
    }
    const double rel = std::expm1(2 * worst) + 2 * gamma(static_cast<double>(rows) + 2) + 2 * kU;
    for (std::size_t i = 0; i < d; ++i) {
      double size = 0;
      for (std::size_t p = 0; p < rows; ++p)
        size += std::exp(score[p] - largest) / total * std::fabs(vc[(p * g + group) * d + i]);
      bound[th * d + i] = stored(dtype, want[th * d + i], size * rel);
    }
  }
  return bound;
}

TEST_P(Operators, Attention) {
  const std::vector<AttentionShape> shapes = {
      {1, 4, 4, 16, 8}, {5, 6, 2, 64, 70}, {1, 9, 3, 64, 300}, {33, 2, 1, 20, 64}, {3, 2, 2, 1, 5}};
  for (const AttentionShape& s : shapes)
    for (const DType cache : {DType::kF32, DType::kF16, DType::kBF16}) {
      Bench device(subject()), truth(reference());
      const Values q = rounded(dtype(), noise(31, Bench::count({s.t, s.h, s.d}), 2));
      const Values kc = rounded(cache, noise(32, Bench::count({s.p, s.g, s.d}), 2)),
                   vc = rounded(cache, noise(33, Bench::count({s.p, s.g, s.d})));
      std::vector<std::int32_t> positions;
      for (std::int64_t t = 0; t < s.t; ++t) positions.push_back(static_cast<std::int32_t>(s.p - s.t + t));
      concord_call a = make_call(CONCORD_OP_ATTENTION);
      a.scale = 1 / std::sqrt(static_cast<double>(s.d));
      concord_call b = a;
      both(device, truth, a, b, 0, dtype(), {s.t, s.h, s.d}, q);
      a.in[1] = device.put(cache, {s.p, s.g, s.d}, kc), b.in[1] = truth.put(cache, {s.p, s.g, s.d}, kc);
      a.in[2] = device.put(cache, {s.p, s.g, s.d}, vc), b.in[2] = truth.put(cache, {s.p, s.g, s.d}, vc);
      a.in[3] = device.put_i32({s.t}, positions), b.in[3] = truth.put_i32({s.t}, positions);
      a.n_in = b.n_in = 4;
      outputs(device, truth, a, b, dtype(), {s.t, s.h, s.d});
      run_both(device, truth, a, b);
      const Values want = truth.get(b.out[0]);
      expect_within(
          device.get(a.out[0]), want, attention_bound(dtype(), s, a.scale, q, kc, vc, positions, want),
          fmt::format("attention t={} h={} g={} d={} p={} cache {}", s.t, s.h, s.g, s.d, s.p, dtype_name(cache)));
    }
}

TEST_P(Operators, SwiGlu) {
  Bench& device = device_;
  Values gate = noise(41, 2 * 3000, 12), up = noise(42, 2 * 3000, 3);
  gate[0] = 0, gate[1] = -80, gate[2] = 80;
  gate = rounded(dtype(), gate), up = rounded(dtype(), up);
  concord_call a = make_call(CONCORD_OP_SWIGLU), b = a;
  both(device, truth_, a, b, 0, dtype(), {2, 3000}, gate);
  both(device, truth_, a, b, 1, dtype(), {2, 3000}, up);
  outputs(device, truth_, a, b, dtype(), {2, 3000});
  run_both(device, truth_, a, b);
  const Values want = truth_.get(b.out[0]);
  Values bound;
  for (double y : want)
    bound.push_back(stored(dtype(), y, std::fabs(y) * gamma(6)));  // exp 1 ulp (2u), sum, quotient, product
  expect_within(device.get(a.out[0]), want, bound, "swiglu");
}

TEST_P(Operators, Gelu) {
  for (const bool tanh_form : {false, true}) {
    Bench device(subject()), truth(reference());
    const Values x = rounded(dtype(), noise(51, 5000, 5));
    concord_call a = make_call(CONCORD_OP_GELU);
    a.flags = tanh_form ? CONCORD_GELU_TANH : 0;
    concord_call b = a;
    both(device, truth, a, b, 0, dtype(), {5, 1000}, x);
    outputs(device, truth, a, b, dtype(), {5, 1000});
    run_both(device, truth, a, b);
    const Values want = truth.get(b.out[0]);
    Values bound;
    for (std::size_t i = 0; i < x.size(); ++i) {
      double err;
      if (tanh_form) {  // argument: six roundings; tanhf 2 ulp (glibc manual); then 1 + t, cancelling for negative x,
                        // and two products
        const double p = 0.7978845608028654 * (x[i] + 0.044715 * x[i] * x[i] * x[i]), t = std::tanh(p);
        err = 0.5 * std::fabs(x[i]) * (std::fabs(p) * (1 - t * t) * gamma(8) + 4 * kU * std::fabs(t) + kU * (1 + t)) +
              2 * kU * std::fabs(want[i]);
      } else {  // argument: two roundings, times the condition number of erfc; erfcf 3 ulp (glibc manual); two products
        const double z = -x[i] * 0.70710678118654752;
        const double condition = std::fabs(z) * 2 / std::sqrt(M_PI) * std::exp(-z * z) / std::erfc(z);
        err = std::fabs(want[i]) * (gamma(2) * condition * 1.01 + gamma(8));
      }
      bound.push_back(stored(dtype(), want[i], err));
    }
    expect_within(device.get(a.out[0]), want, bound, tanh_form ? "gelu tanh" : "gelu erf");
  }
}

TEST_P(Operators, Add) {
  const Values p = rounded(dtype(), noise(61, 2 * 3 * 1000)), q = rounded(dtype(), noise(62, 2 * 3 * 1000));
  concord_call a = make_call(CONCORD_OP_ADD);
  a.n_in = 2, a.n_out = 1;
  a.in[0] = device_.put(dtype(), {2, 3, 1000}, p), a.in[1] = device_.put(dtype(), {2, 3, 1000}, q);
  a.out[0] = a.in[0];
  ASSERT_TRUE(device_.run(a).has_value());
  Values want(p.size()), bound(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    want[i] = p[i] + q[i];  // exact in double: both have at most 24 bits and comparable size
    bound[i] = stored(dtype(), want[i], kU * std::fabs(want[i]));
  }
  expect_within(device_.get(a.out[0]), want, bound, "add");
  Bench exact(subject());
  const Values m = integers(63, 500, 100), n = integers(64, 500, 27);  // sums of at most 127 are exact in every dtype
  concord_call e = make_call(CONCORD_OP_ADD);
  e.n_in = 2, e.n_out = 1, e.in[0] = exact.put(dtype(), {500}, m), e.in[1] = exact.put(dtype(), {500}, n),
  e.out[0] = exact.room(dtype(), {500});
  ASSERT_TRUE(exact.run(e).has_value());
  Values sum(500);
  for (std::size_t i = 0; i < 500; ++i) sum[i] = m[i] + n[i];
  expect_equal(exact.get(e.out[0]), sum, "integers");
}

// Relative error of a softmax row: the argument's rounding u|x - max| here and, weighted, in the denominator; exp; the
// sum; the division.
Values softmax_relative(std::span<const double> x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double total = 0, weighted = 0;
  for (double v : x) total += std::exp(v - largest), weighted += std::exp(v - largest) * (largest - v);
  Values rel;
  for (double v : x)
    rel.push_back(kU * (largest - v) + kU * weighted / total + gamma(static_cast<double>(x.size()) + 6));
  return rel;
}

TEST_P(Operators, Softmax) {
  for (const std::int64_t n : {1, 3, 16, 100, 5000}) {
    Bench device(subject()), truth(reference());
    const Values x = rounded(dtype(), noise(71, static_cast<std::size_t>(4 * n), 20));
    concord_call a = make_call(CONCORD_OP_SOFTMAX), b = a;
    both(device, truth, a, b, 0, dtype(), {4, n}, x);
    outputs(device, truth, a, b, dtype(), {4, n});
    run_both(device, truth, a, b);
    const Values want = truth.get(b.out[0]);
    Values bound;
    for (std::size_t r = 0; r < 4; ++r)
      for (double rel :
           softmax_relative(std::span(x).subspan(r * static_cast<std::size_t>(n), static_cast<std::size_t>(n))))
        bound.push_back(stored(dtype(), want[bound.size()], want[bound.size()] * rel));
    expect_within(device.get(a.out[0]), want, bound, fmt::format("softmax n={}", n));
  }
}

TEST_P(Operators, TopkRouting) {
  for (const bool normalise : {false, true}) {
    Bench device(subject()), truth(reference());
    Values x;  // quarters, far apart for every dtype, with one tie per row
    for (std::size_t i = 0; i < 3 * 60; ++i) x.push_back(static_cast<double>((i % 60 * 7 + i / 60 * 11) % 59) / 4);
    concord_call a = make_call(CONCORD_OP_TOPK_ROUTING);
    a.flags = normalise ? CONCORD_NORMALISE : 0, a.n_out = 2;
    concord_call b = a;
    both(device, truth, a, b, 0, dtype(), {3, 60}, x);
    a.out[0] = device.room(DType::kF32, {3, 8}), b.out[0] = truth.room(DType::kF32, {3, 8});
    a.out[1] = device.put_i32({3, 8}, std::vector<std::int32_t>(24)),
    b.out[1] = truth.put_i32({3, 8}, std::vector<std::int32_t>(24));
    run_both(device, truth, a, b);
    expect_equal(device.get(a.out[1]), truth.get(b.out[1]), "experts");
    const Values want = truth.get(b.out[0]), experts = truth.get(b.out[1]);
    Values bound;
    for (std::size_t r = 0; r < 3; ++r) {
      const Values rel = softmax_relative(std::span(x).subspan(r * 60, 60));
      const double worst = *std::max_element(rel.begin(), rel.end());
      for (std::size_t i = 0; i < 8; ++i) {
        const double one = normalise ? 2 * worst + gamma(9) : rel[static_cast<std::size_t>(experts[r * 8 + i])];
        bound.push_back(want[r * 8 + i] * (one + kU) +
                        0x1p-149);  // the reference's own weight is F32: one more rounding
      }
    }
    expect_within(device.get(a.out[0]), want, bound, "weights");
  }
}

}  // namespace
}  // namespace concord::testing
