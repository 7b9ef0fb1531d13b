// The oracle against a second formulation in long double, written in another way for every operator: other orders of
// summation, other formulas, ranks by counting. Over every family and form on small shapes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "abi/concord_float.hpp"
#include "base/dtype.hpp"
#include "base/rng.hpp"
#include "conformance/numerics/expectation.hpp"
#include "conformance/numerics/testing.hpp"
#include "conformance/numerics/weight_values.hpp"

namespace concord::conformance {
namespace {

using Long = long double;
using Row = std::vector<Long>;

struct Case {
  Problem p;
  std::vector<std::byte> in;
  std::size_t axis(const char* key) const { return static_cast<std::size_t>(p.spec.axis(key)); }
  bool has(const char* name) const {
    return std::any_of(p.inputs.begin(), p.inputs.end(), [&](const Operand& o) { return o.name == name; });
  }
  Row get(const char* name) const {
    const Operand& o = p.input(name);
    Row v(o.bytes / concord_abi::dtype_bytes(o.dtype));
    for (std::size_t i = 0; i < v.size(); ++i) {
      const std::byte* at = in.data() + o.offset;
      if (o.dtype == CONCORD_I32)
        v[i] = concord_abi::load_as<std::int32_t>(at, i);
      else if (o.dtype == CONCORD_I8)
        v[i] = concord_abi::load_as<std::int8_t>(at, i);
      else  // the harness's own conversions, not those that the reference uses
        v[i] = load_as_f64(o.dtype == CONCORD_F32    ? DType::kF32
                           : o.dtype == CONCORD_F16  ? DType::kF16
                           : o.dtype == CONCORD_BF16 ? DType::kBF16
                                                     : DType::kF64,
                           at, i);
    }
    return v;
  }
  Row weight() const {
    const concord_weight_desc d = weight_desc(*p.weight, in);
    std::vector<double> row(static_cast<std::size_t>(d.cols));
    Row all;
    for (std::size_t r = 0; r < static_cast<std::size_t>(d.rows); ++r)
      weight_values(d, r, row.data()), all.insert(all.end(), row.begin(), row.end());
    return all;
  }
};

Long logistic(Long x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

Row embedding(const Case& c) {
  const Row w = c.weight();
  Row y;
  for (const Long id : c.get("ids")) {
    const auto from = w.begin() + static_cast<std::ptrdiff_t>(id) * static_cast<std::ptrdiff_t>(c.axis("K"));
    y.insert(y.end(), from, from + static_cast<std::ptrdiff_t>(c.axis("K")));
  }
  return y;
}

Row rmsnorm(const Case& c) {
  const Row x = c.get("x"), gain = c.get("gain");
  const std::size_t n = c.axis("N");
  Row y(x.size());
  for (std::size_t at = 0; at < x.size(); at += n) {
    Long squares = 0;
    for (std::size_t i = n; i-- > 0;) squares += x[at + i] * x[at + i];
    for (std::size_t i = 0; i < n; ++i)
      y[at + i] = gain[i] * (x[at + i] / std::sqrt(squares / n + static_cast<Long>(c.p.call.eps)));
  }
  return y;
}

// The variance as mean of squares less square of mean, relative to the first element.
Row layernorm(const Case& c) {
  const Row x = c.get("x"), gain = c.get("gain"), shift = c.get("shift");
  const std::size_t n = c.axis("N");
  Row y(x.size());
  for (std::size_t at = 0; at < x.size(); at += n) {
    Long sum = 0, squares = 0;
    for (std::size_t i = n; i-- > 0;) sum += x[at + i] - x[at], squares += (x[at + i] - x[at]) * (x[at + i] - x[at]);
    const Long mean = sum / n, root = std::sqrt(squares / n - mean * mean + static_cast<Long>(c.p.call.eps));
    for (std::size_t i = 0; i < n; ++i) y[at + i] = (x[at + i] - x[at] - mean) / root * gain[i] + shift[i];
  }
  return y;
}

Long narrowed(const Case& c, Long v) {
  std::byte bytes[8];
  const DType d = c.p.spec.option("x") == "f16"    ? DType::kF16
                  : c.p.spec.option("x") == "bf16" ? DType::kBF16
                                                   : DType::kF32;
  store_from_f64(d, bytes, 0, static_cast<double>(v));
  return load_as_f64(d, bytes, 0);
}

Row matmul(const Case& c) {
  const Row x = c.get("x"), w = c.weight(), bias = c.has("bias") ? c.get("bias") : Row(c.axis("N"));
  const Row z = c.has("z") ? c.get("z") : Row();
  const std::size_t n = c.axis("N"), k = c.axis("K");
  Row y(c.axis("M") * n);
  for (std::size_t i = 0; i < y.size(); ++i) {
    Long sum = bias[i % n];
    for (std::size_t j = k; j-- > 0;) sum += w[i % n * k + j] * x[i / n * k + j];
    if (!z.empty() && c.p.spec.option("in") == "exact") sum = narrowed(c, sum);
    y[i] = z.empty() ? sum : c.p.spec.option("fuse") == "plus" ? sum + z[i] : sum * z[i] * logistic(z[i]);
  }
  return y;
}

Row rope(const Case& c) {
  const Row x = c.get("x"), cos = c.get("cos"), sin = c.get("sin"), at = c.get("positions");
  const std::size_t d = c.axis("D"), h = d / 2;
  Row y(x.size());
  for (std::size_t i = 0; i < x.size(); i += d)
    for (std::size_t j = 0; j < h; ++j) {
      const std::size_t a = static_cast<std::size_t>(at[i / d / c.axis("H")]) * h + j;
      const Long turned = std::fma(-x[i + j + h], sin[a], x[i + j] * cos[a]);
      y[i + j] = turned, y[i + j + h] = x[i + j] * sin[a] + x[i + j + h] * cos[a];
    }
  return y;
}

// No maximum is taken off: long double has room for e^11000.
Row attention(const Case& c) {
  const Row q = c.get("q"), rows = c.get("rows");
  Row keys = c.get("kc"), values = c.get("vc");
  const std::size_t d = c.axis("D"), g = c.axis("G"), h = c.axis("H"), p = c.axis("P");
  if (c.has("ks")) {
    const Row ks = c.get("ks"), vs = c.get("vs");
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] *= ks[i / d], values[i] *= vs[i / d];
  }
  Row y(q.size());
  for (std::size_t th = 0; th < c.axis("T") * h; ++th) {
    const auto last = static_cast<std::size_t>(rows[th / h]), first = last / p * p;
    Long total = 0;
    for (std::size_t r = last + 1; r-- > first;) {
      const std::size_t at = (r * g + th % h * g / h) * d;
      Long score = 0;
      for (std::size_t i = 0; i < d; ++i) score += q[th * d + i] * keys[at + i];
      const Long weight = std::exp(score / std::sqrt(static_cast<Long>(d)));
      total += weight;
      for (std::size_t i = 0; i < d; ++i) y[th * d + i] += weight * values[at + i];
    }
    for (std::size_t i = 0; i < d; ++i) y[th * d + i] /= total;
  }
  return y;
}

Row swiglu(const Case& c) {
  Row y = c.get("gate");
  const Row up = c.get("up");
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = y[i] == -HUGE_VAL ? std::nanl("") : up[i] * (y[i] * logistic(y[i]));
  return y;
}

Row gelu(const Case& c) {
  Row y = c.get("x");
  for (Long& x : y) {
    const Long p = std::sqrt(2 / std::numbers::pi_v<Long>) * (x + 0.044715L * x * x * x);
    const Long normal =
        x < 0 ? std::erfc(-x / std::numbers::sqrt2_v<Long>) / 2 : (1 + std::erf(x / std::numbers::sqrt2_v<Long>)) / 2;
    x *= c.p.spec.option("form") == "tanh" ? logistic(2 * p) : normal;
  }
  return y;
}

Row add(const Case& c) {
  Row y = c.get("a");
  const Row b = c.get("b");
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += b[i];
  return y;
}

Long softmax_at(const Row& x, std::size_t begin, std::size_t n, std::size_t i) {
  if (x[begin + i] == -HUGE_VAL) return 0;
  Long inverse = 0;
  for (std::size_t j = n; j-- > 0;) inverse += std::exp(x[begin + j] - x[begin + i]);
  return 1 / inverse;
}

Row softmax(const Case& c) {
  const Row x = c.get("x");
  const std::size_t n = c.axis("N");
  Row y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    bool nan = false;
    for (std::size_t j = i / n * n; j < i / n * n + n; ++j) nan |= std::isnan(x[j]);
    y[i] = nan ? std::nanl("") : softmax_at(x, i / n * n, n, i % n);
  }
  return y;
}

// How many stand before element i: larger, or equal and earlier; NaN after every number.
std::size_t rank(const Row& x, std::size_t begin, std::size_t n, std::size_t i) {
  std::size_t before = 0;
  const Long own = x[begin + i];
  for (std::size_t j = 0; j < n; ++j) {
    const Long other = x[begin + j];
    const bool same = other == own || (std::isnan(other) && std::isnan(own));
    before += same ? j < i : !std::isnan(other) && (std::isnan(own) || other > own);
  }
  return before;
}

Row argmax(const Case& c) {
  const Row x = c.get("x");
  const std::size_t n = c.axis("V");
  Row y(c.axis("T"));
  for (std::size_t i = 0; i < x.size(); ++i)
    if (rank(x, i / n * n, n, i % n) == 0) y[i / n] = i % n;
  return y;
}

// With a uniform number from the bits of the four words, logarithms in long double, and one rounding to double: beside
// that of float64 nothing else may be lost.
Row sample(const Case& c) {
  Row score = c.get("x");
  const Row positions = c.get("positions");
  const std::size_t n = c.axis("V");
  for (std::size_t i = 0; i < score.size(); ++i) {
    const auto position = static_cast<std::uint32_t>(positions[i / n]);
    const std::uint64_t seed = c.p.call.seed;
    const auto words = philox4x32({static_cast<std::uint32_t>(i % n), 0, position, 0},
                                  {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
    const Long u = (std::ldexp(Long{1} * words[1], 20) + (words[0] >> 12) + Long{0.5}) * std::ldexp(Long{1}, -52);
    score[i] = static_cast<double>(score[i] * c.p.call.scale - std::log(-std::log(u)));
  }
  Row y(c.axis("T"));
  for (std::size_t i = 0; i < score.size(); ++i)
    if (rank(score, i / n * n, n, i % n) == 0) y[i / n] = i % n;
  return y;
}

Row topk(const Case& c, bool experts) {
  const Row x = c.get("logits");
  const std::size_t n = c.axis("E"), k = c.axis("K");
  Row weight(c.axis("T") * k), expert(weight.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    if (const std::size_t r = rank(x, i / n * n, n, i % n); r < k)
      expert[i / n * k + r] = i % n, weight[i / n * k + r] = softmax_at(x, i / n * n, n, i % n);
  if (c.p.spec.option("norm") == "1")
    for (std::size_t t = 0; t < weight.size(); t += k) {
      Long sum = 0;
      for (std::size_t i = 0; i < k; ++i) sum += weight[t + i];
      for (std::size_t i = 0; i < k; ++i) weight[t + i] /= sum;
    }
  return experts ? expert : weight;
}

using Second = Row (*)(const Case&);
const std::pair<const char*, Second> kSecond[] = {
    {"embedding", embedding}, {"rmsnorm", rmsnorm}, {"layernorm", layernorm}, {"matmul", matmul}, {"rope", rope},
    {"attention", attention}, {"swiglu", swiglu},   {"gelu", gelu},           {"add", add},       {"softmax", softmax},
    {"argmax", argmax},       {"sample", sample}};

Row second_of(const Case& c, const std::string& output) {
  if (c.p.spec.op == "topk_routing") return topk(c, output == "expert");
  for (const auto& [op, f] : kSecond)
    if (c.p.spec.op == op) return f(c);
  ADD_FAILURE() << c.p.spec.op;
  return {};
}

// Finite values: the oracle errs by at most 1/4096 of the bound, so that nothing of the bound is for the oracle. Exact
// ones: equal after rounding.
void expect_agreement(const Case& c, const ExpectedOutput& e) {
  const Row second = second_of(c, e.name);
  ASSERT_EQ(second.size(), e.want.size()) << c.p.spec.id();
  for (std::size_t i = 0; i < second.size(); ++i) {
    const auto other = static_cast<double>(second[i]);
    const std::string where = c.p.spec.id() + " " + e.name + "[" + std::to_string(i) + "]";
    if (std::isnan(e.want[i]) || std::isinf(e.want[i])) {
      ASSERT_TRUE(std::isnan(e.want[i]) ? std::isnan(other) : other == e.want[i])
          << where << " " << e.want[i] << " " << other;
    } else if (e.judged == Judged::kBound) {
      const double room =
          e.name == "weight" ? e.rigorous[i] : e.rigorous[i] / 4096;  // a routing weight is F32 in the oracle
      ASSERT_LE(std::fabs(other - e.want[i]), room) << where << " " << e.want[i] << " " << other;
      ASSERT_LE(e.probable[i], e.rigorous[i]) << where;
    } else {
      ASSERT_EQ(narrowed(c, other), narrowed(c, e.want[i])) << where;
    }
  }
}

TEST(Oracle, AgreesWithASecondFormulationOfEveryOperator) {
  std::size_t outputs = 0;
  for (const std::string& id : testing::small_cases()) {
    Case c{testing::problem_of(id), {}};
    const std::string& x = c.p.spec.option("x");
    if (x == "f64" || c.p.spec.op == "kv_append" || (x == "bf16" && c.p.spec.op == "matmul")) continue;
    c.in = testing::inputs_of(c.p);
    const auto e = expect(c.p, c.in, {});
    ASSERT_TRUE(e.has_value()) << id << ": " << e.error().message;
    for (const ExpectedOutput& o : e->outputs) {
      if (o.judged == Judged::kBits) continue;
      ASSERT_NO_FATAL_FAILURE(expect_agreement(c, o));
      ++outputs;
    }
  }
  EXPECT_GT(outputs, 400u);
}

// Copies and caches bit by bit, with the harness's own conversions.
TEST(Oracle, CopiesAreTheRoundedNumbers) {
  for (const char* id :
       {"embedding/K=130,T=5,V=37,in=special,w=f32,x=bf16", "embedding/K=130,T=5,V=37,in=subnormal,w=f32,x=f16",
        "embedding/K=130,T=5,V=37,in=uniform,w=bf16,x=f16"}) {
    Case c{testing::problem_of(id), {}};
    c.in = testing::inputs_of(c.p);
    const auto e = expect(c.p, c.in, {});
    ASSERT_TRUE(e.has_value());
    const Row want = embedding(c);
    const DType d = c.p.spec.option("x") == "f16" ? DType::kF16 : DType::kBF16;
    ASSERT_EQ(e->outputs[0].judged, Judged::kBits);
    for (std::size_t i = 0; i < want.size(); ++i) {
      std::byte bytes[2];
      store_from_f64(d, bytes, 0, static_cast<double>(want[i]));
      if (std::isnan(want[i])) continue;
      ASSERT_EQ(std::memcmp(bytes, e->outputs[0].bits.data() + 2 * i, 2), 0) << id << " " << i;
    }
  }
}

TEST(Oracle, CacheRowsAreQuantisedByTheirDefinition) {
  Case c{testing::problem_of("kv_append/D=18,G=2,P=23,T=9,in=heavy,kv=i8,x=f16"), {}};
  c.in = testing::inputs_of(c.p);
  const auto e = expect(c.p, c.in, {});
  ASSERT_TRUE(e.has_value());
  const Row k = c.get("k"), rows = c.get("rows");
  const ExpectedOutput &cache = e->outputs[0], &scales = e->outputs[2];
  std::vector<bool> written(23);
  for (std::size_t t = 0; t < 9; ++t)
    for (std::size_t g = 0; g < 2; ++g) {
      const auto at = static_cast<std::size_t>(rows[t]) * 2 + g;
      written[at / 2] = true;
      Long largest = 0;
      for (std::size_t i = 0; i < 18; ++i) largest = std::max(largest, std::fabs(k[(t * 2 + g) * 18 + i]));
      const auto scale = static_cast<float>(largest / 127);
      ASSERT_EQ(concord_abi::load_as<float>(scales.bits.data(), at), scale);
      for (std::size_t i = 0; i < 18; ++i)
        ASSERT_EQ(concord_abi::load_as<std::int8_t>(cache.bits.data(), at * 18 + i),
                  std::lrint(static_cast<float>(k[(t * 2 + g) * 18 + i] / scale)));
    }
  const std::byte* before = c.in.data() + *c.p.outputs[0].initial;
  for (std::size_t row = 0; row < 23; ++row)
    if (!written[row]) {
      EXPECT_EQ(std::memcmp(cache.bits.data() + row * 36, before + row * 36, 36), 0) << row;
    }
}

TEST(Oracle, KnowsMathModesByTheirFeatureNames) {
  const MathMode mode = MathMode::from_features("x86-64,avx512_bf16,weights-bf16, tf32");
  EXPECT_TRUE(mode.weights_bf16 && mode.tf32 && !mode.products_flushed);
  EXPECT_EQ(mode.name(), "weights-bf16+tf32");
  EXPECT_EQ(MathMode::from_features("tf32x,no-tf32").name(), "f32");
}

}  // namespace
}  // namespace concord::conformance
