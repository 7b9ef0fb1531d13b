// Bounds against honest float32 arithmetic in several orders, which must stay well within the probable bound, and
// against planted faults, which must not. Margins are printed: docs/bounds.md quotes them.
#include "conformance/numerics/bounds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "abi/concord_float.hpp"
#include "base/rng.hpp"
#include "conformance/numerics/families.hpp"
#include "conformance/numerics/testing.hpp"
#include "conformance/numerics/weight_values.hpp"

namespace concord::conformance {
namespace {

using Floats = std::vector<float>;

enum class Order { kSequential, kBackward, kBlocked, kLanes, kTree };
constexpr Order kOrders[] = {Order::kSequential, Order::kBackward, Order::kBlocked, Order::kLanes, Order::kTree};

float tree(const float* v, std::size_t n) { return n == 1 ? v[0] : tree(v, n / 2) + tree(v + n / 2, n - n / 2); }

// sum a[i] b[i] in float32; fma: products are not rounded (not in a tree).
float dot(const float* a, const float* b, std::size_t n, Order order, bool fma) {
  const auto step = [&](float acc, std::size_t i) { return fma ? std::fma(a[i], b[i], acc) : acc + a[i] * b[i]; };
  float sum = 0;
  if (order == Order::kSequential) {
    for (std::size_t i = 0; i < n; ++i) sum = step(sum, i);
  } else if (order == Order::kBackward) {
    for (std::size_t i = n; i-- > 0;) sum = step(sum, i);
  } else if (order == Order::kBlocked) {
    for (std::size_t at = 0; at < n; at += 64) {
      float part = 0;
      for (std::size_t i = at; i < std::min(n, at + 64); ++i) part = step(part, i);
      sum += part;
    }
  } else if (order == Order::kLanes) {
    float lanes[16] = {};
    for (std::size_t i = 0; i < n; ++i) lanes[i % 16] = step(lanes[i % 16], i);
    sum = tree(lanes, 16);
  } else {
    Floats products(n);
    for (std::size_t i = 0; i < n; ++i) products[i] = a[i] * b[i];
    sum = tree(products.data(), n);
  }
  return sum;
}

float tf32_nearest(float v) { return std::bit_cast<float>((std::bit_cast<std::uint32_t>(v) + 0x1000u) & 0xffffe000u); }
float tf32_cut(float v) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) & 0xffffe000u); }
float bf16(float v) { return concord_abi::bf16_to_f32(concord_abi::f32_to_bf16(v)); }
void apply(Floats& v, float (*f)(float)) {
  for (float& e : v) e = f(e);
}

struct Case {
  explicit Case(const std::string& id, const MathMode& mode = {})
      : p(testing::problem_of(id)), in(testing::inputs_of(p)), e(*expect(p, in, mode)) {}
  std::size_t axis(const char* key) const { return static_cast<std::size_t>(p.spec.axis(key)); }
  Floats get(const char* name) const {
    const Operand& o = p.input(name);
    Floats v(o.bytes / concord_abi::dtype_bytes(o.dtype));
    concord_abi::load_f32(o.dtype, in.data() + o.offset, v.size(), v.data());
    return v;
  }
  Floats weight() const {
    const concord_weight_desc d = weight_desc(*p.weight, in);
    const auto rows = static_cast<std::size_t>(d.rows), cols = static_cast<std::size_t>(d.cols);
    std::vector<double> row(cols);
    Floats all(rows * cols);
    for (std::size_t r = 0; r < rows; ++r) {
      weight_values(d, r, row.data());
      for (std::size_t i = 0; i < cols; ++i) all[r * cols + i] = static_cast<float>(row[i]);
    }
    return all;
  }
  OutputFindings judge(const Floats& y) const {
    std::vector<std::byte> out(p.output_bytes);
    fill_outputs(p, 0, in, out);
    const Operand& o = p.outputs[0];
    concord_abi::store_f32(o.dtype, y.data(), y.size(), out.data() + o.offset);
    return judge_outputs(p, e, in, out)[0];
  }
  Problem p;
  std::vector<std::byte> in;
  Expectation e;
};

Floats matmul(const Case& c, const Floats& x, const Floats& w, Order order = Order::kSequential, bool fma = false) {
  const std::size_t m = c.axis("M"), n = c.axis("N"), k = c.axis("K");
  const Floats bias = c.p.spec.option("bias") == "1" ? c.get("bias") : Floats(n);
  Floats y(m * n);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = dot(&x[i / n * k], &w[i % n * k], k, order, fma) + bias[i % n];
  return y;
}

std::string matmul_id(std::size_t k, const std::string& family, const std::string& w = "f32",
                      const std::string& x = "f32") {
  return "matmul/K=" + std::to_string(k) + ",M=8,N=64,bias=1,fuse=none,in=" + family + ",place=0,w=" + w + ",x=" + x;
}

void expect_honest(const OutputFindings& f, double most, const std::string& what) {
  EXPECT_EQ(f.above_rigorous + f.above_probable + f.nonfinite + f.unwritten, 0u) << what;
  EXPECT_LT(f.margin_probable, most) << what;
}

TEST(Bounds, HonestSumsInEveryOrderStayBelowHalfOfTheProbableBound) {
  for (const char* family : {"uniform", "gaussian", "heavy", "cancel"})
    for (const char* w : {"f32", "i8", "u4g32z"}) {
      double worst = 0;
      for (const std::size_t k : {1u, 7u, 133u, 1024u, 4096u, 14336u}) {
        if (k > 1024 && std::string(w) != "f32") continue;
        const Case c(matmul_id(k, family, w));
        const Floats x = c.get("x"), weight = c.weight();
        for (const Order order : kOrders)
          for (const bool fma : {false, true}) {
            const OutputFindings f = c.judge(matmul(c, x, weight, order, fma));
            // A sum of one or two products has nothing random: single roundings are all of the bound.
            expect_honest(f, k < 8 ? 1.0 : 0.5, c.p.spec.id() + " order " + std::to_string(static_cast<int>(order)));
            if (k >= 133) worst = std::max(worst, f.margin_probable);
          }
      }
      std::printf("honest sums, %s weights %s: at most %.3f of the probable bound\n", family, w, worst);
    }
}

TEST(Bounds, InputsCutToTf32AreFarAboveTheProbableBound) {
  for (const char* family : {"uniform", "gaussian", "heavy"})
    for (const std::size_t k : {133u, 4096u, 14336u})
      for (const auto cut : {tf32_nearest, tf32_cut}) {
        const Case c(matmul_id(k, family));
        Floats x = c.get("x"), w = c.weight();
        apply(x, cut), apply(w, cut);
        const OutputFindings f = c.judge(matmul(c, x, w, Order::kLanes, true));
        EXPECT_GT(f.above_probable + f.above_rigorous, f.elements / 2) << c.p.spec.id();
        EXPECT_GT(f.margin_probable, 5) << c.p.spec.id();
        std::printf(
            "TF32 inputs (%s), %s K=%zu: %.1f times the probable bound, %.3f of the rigorous, %.0f %% of elements "
            "above\n",
            cut == tf32_cut ? "cut" : "nearest", family, k, f.margin_probable, f.margin,
            100.0 * static_cast<double>(f.above_probable + f.above_rigorous) / static_cast<double>(f.elements));
        const Case allowed(c.p.spec.id(), MathMode::from_features("tf32"));
        expect_honest(allowed.judge(matmul(c, x, w, Order::kLanes, true)), 1.0, c.p.spec.id() + " declared");
      }
}

TEST(Bounds, RoundedWeightsNeedTheirFeature) {
  for (const char* family : {"uniform", "gaussian", "heavy"})
    for (const char* x : {"f32", "bf16"}) {
      const std::string id = matmul_id(1024, family, "f32", x);
      const Case plain(id), declared(id, MathMode::from_features("weights-bf16,products-flushed"));
      Floats w = plain.weight();
      apply(w, bf16);
      const Floats y = matmul(plain, plain.get("x"), w);
      const OutputFindings f = plain.judge(y);
      EXPECT_GT(f.above_probable + f.above_rigorous, 0u) << id;
      expect_honest(declared.judge(y), 1.0, id);
    }
}

struct Fault {
  const char* name;
  void (*plant)(const Case& c, const Floats& x, const Floats& w, Floats& y);
};
const Fault kFaults[] = {
    {"last input dropped",
     [](const Case& c, const Floats& x, const Floats& w, Floats& y) {
       const std::size_t n = c.axis("N"), k = c.axis("K");
       for (std::size_t i = 0; i < y.size(); ++i) y[i] -= x[i / n * k + k - 1] * w[i % n * k + k - 1];
     }},
    {"row times 1.002",
     [](const Case& c, const Floats&, const Floats&, Floats& y) {
       for (std::size_t i = 0; i < c.axis("N"); ++i) y[i] *= 1.002f;
     }},
    {"two elements swapped", [](const Case&, const Floats&, const Floats&, Floats& y) { std::swap(y[0], y[1]); }},
    {"one element zero", [](const Case&, const Floats&, const Floats&, Floats& y) { y[37] = 0; }},
    {"results cut to bf16", [](const Case&, const Floats&, const Floats&, Floats& y) { apply(y, bf16); }},
    {"bias forgotten", [](const Case& c, const Floats&, const Floats&, Floats& y) {
       for (std::size_t i = 0; i < y.size(); ++i) y[i] -= c.get("bias")[i % c.axis("N")];
     }}};

TEST(Bounds, FaultsOfAMatmulAreSeen) {
  for (const char* family : {"uniform", "gaussian", "heavy"})
    for (const char* w : {"f32", "i8", "u4g128"})
      for (const Fault& fault : kFaults) {
        const Case c(matmul_id(2048, family, w));
        const Floats x = c.get("x"), weight = c.weight();
        Floats y = matmul(c, x, weight);
        fault.plant(c, x, weight, y);
        const OutputFindings f = c.judge(y);
        EXPECT_GT(f.above_probable + f.above_rigorous, 0u) << fault.name << " " << c.p.spec.id();
        EXPECT_GT(f.margin_probable, 2) << fault.name << " " << c.p.spec.id();
      }
}

// A narrow output hides what is smaller than its rounding, and nothing more.
TEST(Bounds, NarrowOutputsAllowTheirOwnRoundingOnly) {
  for (const char* x : {"f16", "bf16"}) {
    const Case c(matmul_id(8, "gaussian", "bf16", x));
    Floats y = matmul(c, c.get("x"), c.weight());
    expect_honest(c.judge(y), 1.0 + 1e-12, c.p.spec.id());
    const std::uint32_t dtype = c.p.outputs[0].dtype;
    for (float& v : y) v += static_cast<float>(std::copysign(2.2 * half_ulp(dtype, std::fabs(v)), v));
    const OutputFindings f = c.judge(y);  // one unit too far; where a sum cancels, float32 may err by a unit itself
    EXPECT_GT(f.above_rigorous, y.size() * 95 / 100) << c.p.spec.id();
  }
}

TEST(Bounds, HalfAnUlpIsHalfTheDistanceOfNeighbours) {
  const auto next = [](std::uint32_t dtype, std::uint16_t bits) {
    std::byte b[8] = {};
    double v = 0;
    std::memcpy(b, &bits, 2), concord_abi::load_f64(dtype, b, 1, &v);
    return v;
  };
  for (const std::uint32_t dtype : {CONCORD_F16, CONCORD_BF16})
    for (const std::uint16_t bits : {0x0000, 0x0001, 0x0100, 0x0400, 0x1234, 0x3c00, 0x3f80, 0x5678, 0x7000})
      EXPECT_EQ(half_ulp(dtype, next(dtype, bits)),
                (next(dtype, static_cast<std::uint16_t>(bits + 1)) - next(dtype, bits)) / 2);
  EXPECT_EQ(half_ulp(CONCORD_F32, 1), 0x1p-24);
  EXPECT_EQ(half_ulp(CONCORD_F32, 0x1p-140), 0x1p-150);
  EXPECT_EQ(stored(CONCORD_F32, CONCORD_F32, 1, {0.5, 0.25}).worst, 0.5);
}

TEST(Bounds, LambdaIsOfTwoToTheMinusForty) {
  const Case c(matmul_id(133, "gaussian"));
  EXPECT_NEAR(std::log2(2 * 512 * std::exp(-c.e.lambda * c.e.lambda / 2)), -40, 1e-9);
}

// --- operators over rows, in float32
// -----------------------------------------------------------------------------------
Floats rmsnorm(const Case& c, Floats x, Order order) {
  const Floats gain = c.get("gain");
  const std::size_t n = c.axis("N");
  for (std::size_t at = 0; at < x.size(); at += n) {
    const float mean = dot(&x[at], &x[at], n, order, false) / static_cast<float>(n);
    const float scale = 1 / std::sqrt(mean + static_cast<float>(c.p.call.eps));
    for (std::size_t i = 0; i < n; ++i) x[at + i] = x[at + i] * scale * gain[i];
  }
  return x;
}
Floats softmax(const Case& c, Floats x, Order order) {
  const std::size_t n = c.axis("N");
  const Floats ones(n, 1.0f);
  for (std::size_t at = 0; at < x.size(); at += n) {
    const float largest = *std::max_element(&x[at], &x[at] + n);
    for (std::size_t i = 0; i < n; ++i) x[at + i] = std::exp(x[at + i] - largest);
    const float total = dot(&x[at], ones.data(), n, order, false);
    for (std::size_t i = 0; i < n; ++i) x[at + i] /= total;
  }
  return x;
}
Floats attention(const Case& c, const Floats& q, const Floats& keys, const Floats& values, Order order) {
  const std::size_t d = c.axis("D"), g = c.axis("G"), h = c.axis("H"), length = c.axis("L");
  Floats y(q.size());
  for (std::size_t th = 0; th < y.size() / d; ++th) {
    const std::size_t seen = length - c.axis("T") + th / h + 1, head = th % h / (h / g);
    Floats score(seen), column(seen), ones(seen, 1.0f);
    for (std::size_t j = 0; j < seen; ++j)
      score[j] = static_cast<float>(c.p.call.scale) * dot(&q[th * d], &keys[(j * g + head) * d], d, order, true);
    const float largest = *std::max_element(score.begin(), score.end());
    for (float& s : score) s = std::exp(s - largest);
    const float total = dot(score.data(), ones.data(), seen, order, false);
    for (std::size_t i = 0; i < d; ++i) {
      for (std::size_t j = 0; j < seen; ++j) column[j] = values[(j * g + head) * d + i];
      y[th * d + i] = dot(score.data(), column.data(), seen, order, true) / total;
    }
  }
  return y;
}

TEST(Bounds, NormsSoftmaxAndAttentionInFloat32) {
  for (const char* family : {"gaussian", "heavy"}) {
    const std::string in = std::string(",in=") + family;
    const Case norm("rmsnorm/N=4096,R=8,eps=1e-5" + in + ",place=0,x=f32"),
        soft("softmax/N=5000,R=4" + in + ",place=0,x=f32"),
        attend("attention/D=64,G=2,H=4,L=700,P=704,S=1,T=3" + in + ",kv=f32,x=f32");
    double worst[3] = {};
    for (const Order order : kOrders) {
      const OutputFindings f[] = {
          norm.judge(rmsnorm(norm, norm.get("x"), order)), soft.judge(softmax(soft, soft.get("x"), order)),
          attend.judge(attention(attend, attend.get("q"), attend.get("kc"), attend.get("vc"), order))};
      for (int i = 0; i < 3; ++i) expect_honest(f[i], 0.5, in), worst[i] = std::max(worst[i], f[i].margin_probable);
    }
    Floats x = norm.get("x"), logits = soft.get("x"), q = attend.get("q"), k = attend.get("kc");
    apply(x, tf32_nearest), apply(logits, tf32_nearest), apply(q, tf32_nearest), apply(k, tf32_nearest);
    const OutputFindings cut[] = {norm.judge(rmsnorm(norm, x, Order::kLanes)),
                                  soft.judge(softmax(soft, logits, Order::kLanes)),
                                  attend.judge(attention(attend, q, k, attend.get("vc"), Order::kLanes))};
    const char* names[] = {"rmsnorm", "softmax", "attention"};
    for (int i = 0; i < 3; ++i) {
      EXPECT_GT(cut[i].margin_probable, 2) << names[i] << in;
      std::printf("%s%s: honest at most %.3f of the probable bound; TF32 inputs %.1f times\n", names[i], in.c_str(),
                  worst[i], cut[i].margin_probable);
    }
  }
}

TEST(Bounds, AttentionFaultsAreSeen) {
  for (const char* family : {"gaussian", "heavy", "shift", "cancel"}) {
    const Case c(std::string("attention/D=64,G=2,H=4,L=100,P=128,S=1,T=3,in=") + family + ",kv=f32,x=f32");
    const Floats q = c.get("q"), k = c.get("kc"), v = c.get("vc");
    expect_honest(c.judge(attention(c, q, k, v, Order::kLanes)), 0.5, family);
    Floats moved = v;  // value rows one too far
    std::rotate(moved.begin(), moved.begin() + 128, moved.end());
    EXPECT_GT(c.judge(attention(c, q, k, moved, Order::kLanes)).above_rigorous, 0u) << family;
    Floats y = attention(c, q, k, v, Order::kLanes);
    std::swap_ranges(y.begin(), y.begin() + 64, y.begin() + 3 * 64);  // heads of two groups
    EXPECT_GT(c.judge(y).above_rigorous, 0u) << family;
  }
}

TEST(Bounds, TheExactFamilyHasNoToleranceAtAll) {
  const Case c(matmul_id(4096, "exact", "u4g32"));
  Floats y = matmul(c, c.get("x"), c.weight(), Order::kTree);
  OutputFindings f = c.judge(y);
  EXPECT_EQ(f.judged, "exact");
  EXPECT_EQ(f.above_rigorous, 0u);
  y[100] = std::nextafter(y[100], 1e9f);
  f = c.judge(y);
  EXPECT_EQ(f.above_rigorous, 1u);
  EXPECT_EQ(f.first.index, 100u);
}

// e^-gate overflows before the result underflows; the formula then gives 0.
TEST(Bounds, SwigluMayLoseWhatItsExponentialOverflowed) {
  Rules r = rules_of(testing::problem_of("swiglu/N=4,R=1,in=uniform,place=0,x=f32"), {}, 4);
  const double y = -90 / (1 + std::exp(90.0));
  EXPECT_GE(swiglu_error(r, -90, 1, {}).worst, std::fabs(y));
  EXPECT_LT(swiglu_error(r, -80, 1, {}).worst, 1e-5 * 80 / (1 + std::exp(80.0)));
}

// What other honest arithmetic makes of a score: one rounding less, other formulas for the logarithm, more digits.
double fused_score(double x, double scale, double u) { return std::fma(x, scale, -std::log(-std::log(u))); }
double log1p_score(double x, double scale, double u) { return x * scale - std::log(-std::log1p(u - 1)); }
double long_score(double x, double scale, double u) {
  return static_cast<double>(static_cast<long double>(x) * scale - std::log(-std::log(static_cast<long double>(u))));
}

TEST(Bounds, ScoresOfOtherLogarithmsStayWithinHalfOfTheGap) {
  using Score = double (*)(double, double, double);
  double honest = 0, narrow = 1e300;
  for (const char* in : {"gaussian", "heavy", "exact"})
    for (const char* temp : {"0.7", "1.5"}) {
      const Problem p = testing::problem_of(std::string("sample/T=7,V=5000,in=") + in + ",temp=" + temp + ",x=f32");
      const std::vector<std::byte> inputs = testing::inputs_of(p);
      const Expectation e = expect(p, inputs, {}).value();
      const std::byte *x = inputs.data() + p.input("x").offset,
                      *positions = inputs.data() + p.input("positions").offset;
      for (std::size_t t = 0; t < 7; ++t) {
        double in_float = 0;
        for (std::size_t v = 0; v < 5000; ++v) {
          const double key = e.outputs[0].keys[t * 5000 + v], gap = 0x1p-51 * (6 + 7 * 36.8 + 2 * std::fabs(key));
          const double logit = concord_abi::load_as<float>(x, t * 5000 + v);
          const auto position = static_cast<std::uint64_t>(concord_abi::load_as<std::int32_t>(positions, t));
          const double u = uniform_open(p.call.seed, position, v);
          for (const Score score : {fused_score, log1p_score, long_score})
            honest = std::max(honest, std::fabs(score(logit, p.call.scale, u) - key) / gap);
          in_float = std::max(in_float,
                              std::fabs(logit * p.call.scale - std::log(-std::log(static_cast<float>(u))) - key) / gap);
        }
        narrow = std::min(narrow, in_float);
      }
    }
  std::printf("sample: other logarithms %.3f of the gap, noise in float32 %.3g times\n", honest, narrow);
  EXPECT_LE(honest, 0.5);  // the error of the device and the oracle in one candidate; two change places
  EXPECT_GT(narrow, 1e5);
}

}  // namespace
}  // namespace concord::conformance
