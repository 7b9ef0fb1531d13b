// The reference device itself, against formulations written differently: long double (64 mantissa bits), other orders,
// other formulas, known values, and properties that hold exactly. Nothing here shares code with the device.
#include <fmt/format.h>

#include <numbers>

#include "abi/testing/bench.hpp"

namespace concord::testing {
namespace {

using Long = long double;
constexpr double kU64 = 0x1p-53;

Values run_f64(concord_op op, const std::vector<std::pair<Dims, Values>>& in, const Dims& out,
               const std::function<void(concord_call&)>& set = {}) {
  Bench b(reference());
  concord_call c = make_call(op);
  for (const auto& [dims, values] : in) {
    const bool gain = c.n_in > 0 && (op == CONCORD_OP_RMSNORM || op == CONCORD_OP_LAYERNORM || op == CONCORD_OP_MATMUL);
    c.in[c.n_in++] = b.put(gain ? DType::kF32 : DType::kF64, dims, values);
  }
  c.out[c.n_out++] = b.room(DType::kF64, out);
  if (set) set(c);
  const Status s = b.run(c);
  EXPECT_TRUE(s.has_value()) << (s ? "" : s.error().to_string());
  return b.get(c.out[0]);
}

void expect_relative(const Values& got, const std::vector<Long>& want, double units, const std::string& what) {
  Values w, bound;
  for (const Long v : want)
    w.push_back(static_cast<double>(v)), bound.push_back(units * kU64 * std::fabs(w.back()) + 1e-320);
  expect_within(got, w, bound, what);
}

Values matmul(const Values& x, std::int64_t t, const HostWeight& w, DType dtype = DType::kF64) {
  Bench b(reference());
  concord_call c = make_call(CONCORD_OP_MATMUL);
  c.n_in = c.n_out = 1;
  c.in[0] = b.put(dtype, {t, w.desc.cols}, x), c.out[0] = b.room(dtype, {t, w.desc.rows}), c.weight = b.weight(w.desc);
  EXPECT_TRUE(b.run(c).has_value());
  return b.get(c.out[0]);
}

// Cause of the bound: float32 factors give exact products in double; the compensated sum is right to 2u plus n^2 u^2
// sum|p|.
TEST(Reference, MatmulAgainstLongDoubleBackwards) {
  for (const WeightForm& form : kWeightForms)
    for (const std::int64_t t : {1, 2, 3, 5, 8, 11, 17}) {
      const std::int64_t n = 7, k = 333;
      const HostWeight w = make_weight(form, n, k, DType::kF64, static_cast<std::uint64_t>(t));
      const Values x = rounded(DType::kF32, noise(9, Bench::count({t, k})));
      Values want, bound;
      for (std::int64_t i = 0; i < t * n; ++i) {
        Long sum = 0, size = 0;
        for (std::int64_t c = k; c-- > 0;) {
          const Long p = static_cast<Long>(x[static_cast<std::size_t>(i / n * k + c)]) *
                         w.values[static_cast<std::size_t>(i % n * k + c)];
          sum += p, size += std::fabs(p);
        }
        want.push_back(static_cast<double>(sum));
        bound.push_back(static_cast<double>(3 * kU64 * std::fabs(sum) + size * (k * 0x1p-64 + k * k * kU64 * kU64)));
      }
      expect_within(matmul(x, t, w), want, bound, fmt::format("{} t={}", form.name, t));
    }
}

TEST(Reference, MatmulSurvivesCancellation) {
  HostWeight w = make_weight(kWeightForms[0], 1, 4, DType::kF64, 1);
  const float ones[4] = {1, 1, 1, 1};
  w.desc.data = ones;
  expect_equal(matmul({1e16, 1, -1e16, 1}, 1, w), {2}, "a plain double sum gives 1 or 0");
  expect_equal(matmul({1, 1e100, 1, -1e100}, 1, w), {2}, "Neumaier's example");
  EXPECT_TRUE(std::isinf(matmul({INFINITY, 1, 1, 1}, 1, w)[0]));
  EXPECT_TRUE(std::isnan(matmul({INFINITY, -INFINITY, 1, 1}, 1, w)[0]));
}

TEST(Reference, QuantisedWeightsAreWhatTheHeaderSays) {
  const std::int8_t q[2] = {-127, 5};
  const float scale = 0.1f;
  concord_weight_desc d{};
  d.struct_size = sizeof d, d.dtype = CONCORD_I8, d.rows = 1, d.cols = 2, d.data = q, d.scales = &scale,
  d.activation_dtype = CONCORD_F64;
  HostWeight w;
  w.desc = d;
  expect_equal(matmul({1, 0}, 1, w), {-127 * static_cast<double>(0.1f)}, "I8");
  const std::uint8_t nibbles[2] = {0xe3, 0x0f}, zeros[2] = {2, 9};  // columns 3, 14, 15; groups of 2
  const std::uint16_t scales[2] = {0x3c00, 0x3800};                 // 1 and 0.5
  d.dtype = CONCORD_U4, d.cols = 3, d.data = nibbles, d.scales = scales, d.group = 2;
  w.desc = d;
  expect_equal(matmul({1, 100, 10000}, 1, w), {-5 + 600 + 35000}, "U4 without zeros means 8");
  w.desc.zeros = zeros;
  expect_equal(matmul({1, 100, 10000}, 1, w), {1 + 1200 + 30000}, "U4 with zeros");
}

TEST(Reference, Norms) {
  const std::int64_t n = 301;
  Values x = noise(3, 301, 5);
  for (double& v : x) v += 2;
  const Values gain = rounded(DType::kF32, noise(4, 301, 2)), shift = rounded(DType::kF32, noise(5, 301));
  Long square = 0, sum = 0;
  for (std::size_t i = x.size(); i-- > 0;) square += static_cast<Long>(x[i]) * x[i], sum += x[i];
  const auto eps = [](concord_call& c) { c.eps = 1e-6; };
  std::vector<Long> rms, layer;
  const Long e = 1e-6, mean = sum / n, variance = square / n - mean * mean;  // the other formula for the variance
  for (std::size_t i = 0; i < x.size(); ++i) {
    rms.push_back(static_cast<Long>(x[i]) * gain[i] / std::sqrt(square / n + e));
    layer.push_back((static_cast<Long>(x[i]) - mean) / std::sqrt(variance + e) * gain[i] + shift[i]);
  }
  expect_relative(run_f64(CONCORD_OP_RMSNORM, {{{1, n}, x}, {{n}, gain}}, {1, n}, eps), rms, 8, "rmsnorm");
  Values want, bound;
  for (const Long v : layer)
    want.push_back(static_cast<double>(v)), bound.push_back(64 * kU64);  // values of size 1, subtraction of the mean
  expect_within(run_f64(CONCORD_OP_LAYERNORM, {{{1, n}, x}, {{n}, gain}, {{n}, shift}}, {1, n}, eps), want, bound,
                "layernorm");
}

TEST(Reference, RopeKeepsNormsAndComposes) {
  const std::int64_t d = 8, p = 6;
  Values cos, sin, x = noise(6, 3 * 8);
  for (int i = 0; i < p * d / 2; ++i) {
    const double angle = i / 4 * std::pow(100.0, -(i % 4) / 4.0);
    cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
  }
  const auto turn = [&](const Values& v, std::vector<std::int32_t> at) {
    Bench b(reference());
    concord_call c = make_call(CONCORD_OP_ROPE);
    c.n_in = 4, c.n_out = 1, c.in[0] = b.put(DType::kF64, {3, 1, d}, v), c.in[1] = b.put(DType::kF64, {p, d / 2}, cos);
    c.in[2] = b.put(DType::kF64, {p, d / 2}, sin), c.in[3] = b.put_i32({3}, at),
    c.out[0] = b.room(DType::kF64, {3, 1, d});
    EXPECT_TRUE(b.run(c).has_value());
    return b.get(c.out[0]);
  };
  expect_equal(turn(x, {0, 0, 0}), x, "position 0 turns nothing");
  const Values y = turn(x, {5, 3, 1});
  for (std::size_t t = 0; t < 3; ++t)
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t a = t * 8 + i, b = a + 4;
      EXPECT_NEAR(y[a] * y[a] + y[b] * y[b], x[a] * x[a] + x[b] * x[b], 16 * kU64 * (x[a] * x[a] + x[b] * x[b]));
    }
  const Values twice = turn(turn(x, {2, 1, 0}), {3, 2, 1}), once = turn(x, {5, 3, 1});  // angles add
  expect_within(twice, once, Values(24, 32 * kU64), "composition");
  EXPECT_NEAR(y[8 + 0], x[8] * std::cos(3.0) - x[8 + 4] * std::sin(3.0), 8 * kU64) << "pairs are (i, i + D/2)";
}

Values attend(const Values& q, const Values& k, const Values& v, std::vector<std::int32_t> at, std::int64_t h,
              std::int64_t g, std::int64_t d, double scale) {
  Bench b(reference());
  const auto t = static_cast<std::int64_t>(at.size()), p = static_cast<std::int64_t>(k.size()) / (g * d);
  concord_call c = make_call(CONCORD_OP_ATTENTION);
  c.scale = scale, c.n_in = 4, c.n_out = 1, c.in[0] = b.put(DType::kF64, {t, h, d}, q),
  c.in[1] = b.put(DType::kF64, {p, g, d}, k);
  c.in[2] = b.put(DType::kF64, {p, g, d}, v), c.in[3] = b.put_i32({t}, at), c.out[0] = b.room(DType::kF64, {t, h, d});
  EXPECT_TRUE(b.run(c).has_value());
  return b.get(c.out[0]);
}

TEST(Reference, AttentionProperties) {
  const Values q = noise(1, 2 * 4 * 3), k = noise(2, 5 * 2 * 3), v = noise(3, 5 * 2 * 3);
  const Values first = attend(q, k, v, {0, 0}, 4, 2, 3, 0.7);
  for (std::size_t i = 0; i < first.size(); ++i)  // one visible row: the answer is that row, exactly
    EXPECT_EQ(first[i], v[i / 3 % 4 / 2 * 3 + i % 3]) << i;
  Values masked = k, other = v;
  for (std::size_t i = 18; i < 30; ++i) masked[i] = 1e3, other[i] = NAN;
  expect_equal(attend(q, masked, other, {1, 2}, 4, 2, 3, 0.7), attend(q, k, v, {1, 2}, 4, 2, 3, 0.7),
               "rows behind the position do not matter");
  const Values flat =
      attend(Values(24, 0.0), k, v, {4, 3}, 4, 2, 3, 0.7);  // equal scores: the mean of the visible values
  for (std::size_t i = 0; i < flat.size(); ++i) {
    const std::size_t rows = i < 12 ? 5 : 4, group = i / 3 % 4 / 2;
    Long mean = 0;
    for (std::size_t p = 0; p < rows; ++p) mean += v[(p * 2 + group) * 3 + i % 3];
    EXPECT_NEAR(flat[i], static_cast<double>(mean / rows), 4 * kU64);
  }
}

// Another formulation: the online softmax (Milakov and Gimelshein 2018) in long double.
TEST(Reference, AttentionAgainstOnlineSoftmax) {
  const std::size_t d = 16, h = 6, g = 3, p = 50;
  const Values q = noise(11, h * d, 3), k = noise(12, p * g * d, 2), v = noise(13, p * g * d);
  Values want;
  for (std::size_t head = 0; head < h; ++head) {
    Long top = -INFINITY, total = 0;
    std::vector<Long> acc(d);
    for (std::size_t r = 0; r < p; ++r) {
      Long s = 0;
      for (std::size_t i = 0; i < d; ++i) s += static_cast<Long>(q[head * d + i]) * k[(r * g + head / 2) * d + i];
      s *= 0.25;
      const Long next = std::max(top, s), keep = std::exp(top - next), w = std::exp(s - next);
      total = total * keep + w;
      for (std::size_t i = 0; i < d; ++i) acc[i] = acc[i] * keep + w * v[(r * g + head / 2) * d + i];
      top = next;
    }
    for (std::size_t i = 0; i < d; ++i) want.push_back(static_cast<double>(acc[i] / total));
  }
  // exp amplifies the argument's error (size up to 30, a few u64) and |v| <= 1 carries it: 128 u64 absolute
  expect_within(attend(q, k, v, {49}, 6, 3, 16, 0.25), want, Values(want.size(), 128 * kU64), "attention");
}

TEST(Reference, SoftmaxSumsToOneAndIgnoresShifts) {
  const Values x = integers(5, 3 * 200, 30);
  Values moved = x;
  for (double& v : moved) v += 512;
  const Values y = run_f64(CONCORD_OP_SOFTMAX, {{{3, 200}, x}}, {3, 200});
  expect_equal(run_f64(CONCORD_OP_SOFTMAX, {{{3, 200}, moved}}, {3, 200}), y, "shift");
  for (int r = 0; r < 3; ++r) {
    Long sum = 0;
    for (int i = 0; i < 200; ++i) sum += y[static_cast<std::size_t>(r * 200 + i)];
    EXPECT_NEAR(static_cast<double>(sum), 1.0, 200 * kU64);
  }
  expect_equal(run_f64(CONCORD_OP_SOFTMAX, {{{1, 4}, {7, 7, 7, 7}}}, {1, 4}), Values(4, 0.25), "equal values");
}

TEST(Reference, ElementwiseAgainstOtherFormulas) {
  const Values g = noise(21, 500, 20), u = noise(22, 500, 3);
  std::vector<Long> silu, exact, tanh_form;
  for (std::size_t i = 0; i < 500; ++i) {
    const Long x = g[i];
    silu.push_back(x * u[i] * (x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x))));
    exact.push_back(
        x * (x < 0 ? std::erfc(-x / std::numbers::sqrt2_v<Long>) : 1 + std::erf(x / std::numbers::sqrt2_v<Long>)) / 2);
    const Long p = std::sqrt(2 / std::numbers::pi_v<Long>) * (x + 0.044715L * x * x * x);
    tanh_form.push_back(x * (1 / (1 + std::exp(-2 * p))));  // (1 + tanh p)/2 is the logistic function of 2p
  }
  expect_relative(run_f64(CONCORD_OP_SWIGLU, {{{1, 500}, g}, {{1, 500}, u}}, {1, 500}), silu, 8, "swiglu");
  Values want, bound, got = run_f64(CONCORD_OP_GELU, {{{1, 500}, g}}, {1, 500});
  for (std::size_t i = 0; i < 500; ++i)  // erfc's argument z is rounded twice; its condition number is below 2 z^2 + 2
    want.push_back(static_cast<double>(exact[i])),
        bound.push_back(kU64 * std::fabs(want[i]) * (2 * (g[i] * g[i] + 2) + 16) + 1e-320);
  expect_within(got, want, bound, "gelu");
  got = run_f64(CONCORD_OP_GELU, {{{1, 500}, g}}, {1, 500}, [](concord_call& c) { c.flags = CONCORD_GELU_TANH; });
  want.clear(), bound.clear();
  for (std::size_t i = 0; i < 500; ++i)  // 1 + tanh cancels for negative x: absolute error of a few u64 times |x|
    want.push_back(static_cast<double>(tanh_form[i])),
        bound.push_back(16 * kU64 * (std::fabs(g[i]) + std::fabs(want[i])));
  expect_within(got, want, bound, "gelu tanh");
  EXPECT_NEAR(run_f64(CONCORD_OP_GELU, {{{1, 1}, {1.0}}}, {1, 1})[0], 0.84134474606854293,
              1e-15);  // the normal distribution function at 1
}

TEST(Reference, RoutingAndArgmax) {
  Bench b(reference());
  concord_call c = make_call(CONCORD_OP_TOPK_ROUTING);
  c.n_in = 1, c.n_out = 2,
  c.in[0] = b.put(DType::kF64, {1, 4}, {std::log(1.0), std::log(4.0), std::log(2.0), std::log(4.0)});
  c.out[0] = b.room(DType::kF32, {1, 3}), c.out[1] = b.put_i32({1, 3}, {0, 0, 0});
  ASSERT_TRUE(b.run(c).has_value());
  expect_equal(b.get(c.out[1]), {1, 3, 2}, "lower index first among equals");
  expect_within(b.get(c.out[0]), {4 / 11.0, 4 / 11.0, 2 / 11.0}, Values(3, 0x1p-25), "weights");
  c.flags = CONCORD_NORMALISE;
  ASSERT_TRUE(b.run(c).has_value());
  expect_within(b.get(c.out[0]), {0.4, 0.4, 0.2}, Values(3, 0x1p-25), "normalised");
}

// A result in a narrow dtype is the F64 result rounded once: nothing in between is rounded.
TEST(Reference, NarrowResultsAreRoundedOnce) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const HostWeight w = make_weight(kWeightForms[0], 50, 200, DType::kF64, 2);
    const Values x = rounded(dtype, noise(1, 600));
    expect_equal(matmul(x, 3, w, dtype), rounded(dtype, matmul(x, 3, w)), "matmul");
    for (const concord_op op : {CONCORD_OP_SWIGLU, CONCORD_OP_ADD}) {
      Bench b(reference());
      concord_call c = make_call(op);
      const Values y = rounded(dtype, noise(2, 600, 4));
      c.n_in = 2, c.n_out = 1, c.in[0] = b.put(dtype, {3, 200}, x), c.in[1] = b.put(dtype, {3, 200}, y),
      c.out[0] = b.room(dtype, {3, 200});
      ASSERT_TRUE(b.run(c).has_value());
      expect_equal(b.get(c.out[0]), rounded(dtype, run_f64(op, {{{3, 200}, x}, {{3, 200}, y}}, {3, 200})), op_name(op));
    }
  }
}

TEST(Reference, BitsDependNeitherOnThreadsNorOnTheRun) {
  const HostWeight w = make_weight(kWeightForms[0], 100, 300, DType::kF32, 2);
  std::vector<std::byte> first;
  for (const unsigned threads : {1u, 2u, 1u, 0u}) {
    auto device = backends().open("reference", threads);
    ASSERT_TRUE(device.has_value());
    Bench b(*device);
    concord_call c = make_call(CONCORD_OP_MATMUL);
    c.n_in = c.n_out = 1, c.in[0] = b.put(DType::kF32, {20, 300}, noise(7, 6000)),
    c.out[0] = b.room(DType::kF32, {20, 100}), c.weight = b.weight(w.desc);
    ASSERT_TRUE(b.run(c).has_value());
    if (first.empty()) first = b.bits(c.out[0]);
    EXPECT_EQ(first, b.bits(c.out[0])) << threads;
    EXPECT_EQ(device->kernels().begin()->first, "matmul: reference f64 compensated");
    EXPECT_EQ(device->determinism(), CONCORD_ALWAYS_IDENTICAL);
    EXPECT_EQ(device->fallbacks(), 0u);
  }
}

}  // namespace
}  // namespace concord::testing
