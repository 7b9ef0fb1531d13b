// Inputs: the same bits on every host and for every number of threads, no two tensors alike, and families that are what
// they are said to be.
#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

#include "abi/concord_float.hpp"
#include "base/rng.hpp"
#include "conformance/numerics/families.hpp"
#include "conformance/numerics/testing.hpp"
#include "conformance/numerics/weight_values.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

using testing::inputs_of;
using testing::problem_of;

std::vector<double> values(const Problem& p, const std::vector<std::byte>& in, const std::string& name) {
  const Operand& o = p.input(name);
  std::vector<double> v(o.bytes / concord_abi::dtype_bytes(o.dtype));
  concord_abi::load_f64(o.dtype, in.data() + o.offset, v.size(), v.data());
  return v;
}
std::vector<double> weight_rows(const Problem& p, const std::vector<std::byte>& in) {
  const concord_weight_desc d = weight_desc(*p.weight, in);
  std::vector<double> w(static_cast<std::size_t>(d.rows * d.cols));
  for (std::size_t r = 0; r < static_cast<std::size_t>(d.rows); ++r)
    weight_values(d, r, w.data() + r * static_cast<std::size_t>(d.cols));
  return w;
}

struct Moments {
  double mean = 0, variance = 0, kurtosis = 0, largest = 0;
};
Moments moments(const std::vector<double>& v) {
  Moments m;
  const auto n = static_cast<double>(v.size());
  for (const double e : v) m.mean += e / n, m.largest = std::max(m.largest, std::fabs(e));
  for (const double e : v) m.variance += (e - m.mean) * (e - m.mean) / n;
  for (const double e : v) m.kurtosis += std::pow(e - m.mean, 4) / (n * m.variance * m.variance);
  return m;
}

TEST(Random, IsPhiloxInTheOrderOfBlocks) {
  // Known answer of Philox4x32-10 (Random123's kat_vectors): counter and key all ones.
  constexpr std::uint32_t kOnes = 0xffffffffu;
  const auto known = philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes});
  EXPECT_EQ(known, (std::array<std::uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  const Stream s(77, "x");
  std::vector<double> v(300), tail(100);
  s.uniform(0, v), s.uniform(200, tail);
  for (std::size_t i = 0; i < v.size(); ++i)
    ASSERT_EQ(v[i], (static_cast<double>(static_cast<std::int32_t>(s.bits(i))) + 0.5) * 0x1p-31) << i;
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), v.begin() + 200));
  s.gaussian(0, v), s.gaussian(200, tail);
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), v.begin() + 200));
}

TEST(Random, NormalNumbersAreNormal) {
  std::vector<double> v(1 << 20);
  Stream(5, "normal").gaussian(0, v);
  const Moments m = moments(v);  // standard errors: 0.001, 0.0014, 0.0048
  EXPECT_NEAR(m.mean, 0, 0.005);
  EXPECT_NEAR(m.variance, 1, 0.007);
  EXPECT_NEAR(m.kurtosis, 3, 0.024);
  const auto inside = std::count_if(v.begin(), v.end(), [](double e) { return std::fabs(e) < 1.959964; });
  EXPECT_NEAR(static_cast<double>(inside) / static_cast<double>(v.size()), 0.95, 0.001);
  for (const std::uint32_t k : {0u, 1u << 29, 1u << 30, 3u << 29, 1u << 31, 0xffffffffu, 123456789u}) {
    const double angle = (k + 0.5) * 0x1p-32 * 2 * M_PI;
    EXPECT_NEAR(on_circle(k).cos, std::cos(angle), 3e-8) << k;
    EXPECT_NEAR(on_circle(k).sin, std::sin(angle), 3e-8) << k;
  }
}

// Digests of whole input arenas: a change of generator, recipe or layout must be meant, because required-case lists and
// records refer to these inputs.
struct Golden {
  const char *id, *digest;
};
constexpr Golden kGolden[] = {
    {"add/N=111,R=3,in=uniform,place=0,x=f32", "fa92d4e7a248b50757f72c6bd06be6a9b8b642788cda5e6ddf4a7f693e4c2059"},
    {"matmul/K=133,M=9,N=18,bias=1,fuse=plus,in=gaussian,place=0,w=u4g32z,x=bf16",
     "c90d149ea9bab3cb4c5ae929c9f5a11e9f157296f1eadf882523290840f27e38"},
    {"attention/D=18,G=2,H=4,L=37,P=45,S=2,T=6,in=heavy,kv=i8,x=f16",
     "16ea55d752f90734db65d85855469438056f4fcf937fbce7cd0e87f3c15768ca"},
    {"rope/D=16,H=3,P=20,T=9,in=gaussian,place=0,x=f32",
     "836c91076d3a0ab4af3d29bfe32cf7f801ad3525f50483b271af92fe0fbf2efd"},
};

TEST(Inputs, AreTheSameBitsForEveryNumberOfThreads) {
  for (const Golden& g : kGolden) {
    const Problem p = problem_of(g.id);
    std::vector<std::byte> first;
    for (const std::size_t threads : {1, 2, 5}) {
      const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      const std::vector<std::byte> in = inputs_of(p);
      if (first.empty()) first = in;
      EXPECT_EQ(in, first) << g.id << ", " << threads << " threads";
    }
    EXPECT_EQ(hex(sha256(first)), g.digest) << g.id;
  }
}

TEST(Inputs, TensorsCasesAndSeedsHaveTheirOwnNumbers) {
  const Problem p = problem_of("add/N=111,R=3,in=uniform,place=0,x=f32");
  const std::vector<std::byte> in = inputs_of(p);
  EXPECT_NE(values(p, in, "a"), values(p, in, "b"));
  EXPECT_NE(in, inputs_of(p, 1));
  const Problem other = problem_of("add/N=111,R=3,in=uniform,place=1,x=f32");
  EXPECT_NE(values(p, in, "a"), values(other, inputs_of(other), "a"));
  std::set<std::uint64_t> seeds;
  for (const std::string& id : testing::small_cases())
    for (const std::uint64_t seed : {0, 1}) seeds.insert(case_seed(*CaseSpec::parse(id), seed));
  EXPECT_EQ(seeds.size(), 2 * testing::small_cases().size());
}

TEST(Inputs, FamiliesHaveTheirShape) {
  const auto of = [](const char* family) {
    const Problem p = problem_of(std::string("rmsnorm/N=4096,R=64,eps=1e-5,in=") + family + ",place=0,x=f32");
    return moments(values(p, inputs_of(p), "x"));
  };
  const Moments uniform = of("uniform"), gaussian = of("gaussian"), heavy = of("heavy");
  EXPECT_NEAR(uniform.kurtosis, 1.8, 0.02);
  EXPECT_LE(uniform.largest, 2);
  EXPECT_NEAR(gaussian.kurtosis, 3, 0.06);
  EXPECT_NEAR(gaussian.variance, 1, 0.02);
  EXPECT_GT(heavy.kurtosis, 100) << "outlier columns";
  EXPECT_GT(heavy.largest, 300);
  const Problem p = problem_of("layernorm/N=512,R=4,eps=1e-5,in=cancel,place=0,x=f32");
  const std::vector<double> x = values(p, inputs_of(p), "x");
  EXPECT_GT(std::fabs(moments({x.begin(), x.begin() + 512}).mean), 4000);
}

TEST(Inputs, SumsOfTheCancelFamilyNearlyCancel) {
  for (const char* w : {"f32", "bf16", "i8", "u4g32z"}) {
    const Problem p =
        problem_of(std::string("matmul/K=1024,M=4,N=8,bias=0,fuse=none,in=cancel,place=0,w=") + w + ",x=bf16");
    const std::vector<std::byte> in = inputs_of(p);
    const std::vector<double> x = values(p, in, "x"), weight = weight_rows(p, in);
    for (std::size_t n = 0; n < 8; ++n) {
      double sum = 0, size = 0;
      for (std::size_t k = 0; k < 1024; ++k)
        sum += x[k] * weight[n * 1024 + k], size += std::fabs(x[k] * weight[n * 1024 + k]);
      EXPECT_LT(std::fabs(sum), size / 200) << w;
      EXPECT_NE(sum, 0) << w;
    }
  }
}

// Every partial sum of the exact family is exact in float32, whatever the order: sums in several orders have equal
// bits, and equal the sum in double.
TEST(Inputs, ExactSumsAreExactInEveryOrder) {
  for (const char* w : {"f32", "f16", "bf16", "i8", "u4g32", "u4g128z"})
    for (const int k : {133, 32768, 40000}) {
      const Problem p =
          problem_of("matmul/K=" + std::to_string(k) + ",M=2,N=3,bias=1,fuse=none,in=exact,place=0,w=" + w + ",x=f16");
      const std::vector<std::byte> in = inputs_of(p);
      const std::vector<double> x = values(p, in, "x"), weight = weight_rows(p, in), bias = values(p, in, "bias");
      for (std::size_t at = 0; at < 6; ++at) {
        const auto n = static_cast<std::size_t>(k);
        std::vector<float> terms;
        double sum = bias[at % 3], size = std::fabs(sum);
        for (std::size_t i = 0; i < n; ++i) {
          const double a = x[at / 3 * n + i] * weight[at % 3 * n + i];
          ASSERT_EQ(static_cast<float>(x[at / 3 * n + i]) * static_cast<float>(weight[at % 3 * n + i]), a);
          terms.push_back(static_cast<float>(a)), sum += a, size += std::fabs(a);
        }
        terms.push_back(static_cast<float>(bias[at % 3]));
        EXPECT_LT(2 * size, 0x1p24) << "in halves";
        EXPECT_GT(size, k / 8.0) << "not thinned to nothing";
        const auto forward = std::accumulate(terms.begin(), terms.end(), 0.0f);
        const auto backward = std::accumulate(terms.rbegin(), terms.rend(), 0.0f);
        std::sort(terms.begin(), terms.end());
        EXPECT_EQ(forward, sum);
        EXPECT_EQ(backward, sum);
        EXPECT_EQ(std::accumulate(terms.begin(), terms.end(), 0.0f), sum) << "all negative ones first";
      }
    }
}

TEST(Inputs, SpecialAndSubnormalValuesAreThere) {
  for (const char* x : {"f32", "f16", "bf16"}) {
    const Problem p = problem_of(std::string("swiglu/N=999,R=3,in=special,place=0,x=") + x);
    const std::vector<double> gate = values(p, inputs_of(p), "gate");
    EXPECT_TRUE(std::any_of(gate.begin(), gate.end(), [](double v) { return std::isnan(v); }));
    EXPECT_TRUE(std::any_of(gate.begin(), gate.end(), [](double v) { return v == -HUGE_VAL; }));
    EXPECT_TRUE(std::any_of(gate.begin(), gate.end(), [](double v) { return v == 0 && std::signbit(v); }));
    const Problem tiny = problem_of(std::string("gelu/N=999,R=3,form=erf,in=subnormal,place=0,x=") + x);
    const double smallest = std::ldexp(1.0, smallest_exponent(tiny.call.in[0].dtype));
    const std::vector<double> v = values(tiny, inputs_of(tiny), "x");
    const auto below = std::count_if(v.begin(), v.end(), [&](double e) { return e != 0 && std::fabs(e) < smallest; });
    EXPECT_GT(below, 1500) << x;
    EXPECT_LT(below, 2800) << x;
  }
}

TEST(Inputs, IndicesAreInRangeAndCacheRowsDistinct) {
  const auto indices = [](const Problem& p, const std::string& name) {
    const std::vector<std::byte> in = inputs_of(p);
    const Operand& o = p.input(name);
    std::vector<std::int32_t> v(o.bytes / 4);
    std::memcpy(v.data(), in.data() + o.offset, o.bytes);
    return v;
  };
  auto ids = indices(problem_of("embedding/K=8,T=9,V=37,in=uniform,w=f32,x=f32"), "ids");
  EXPECT_EQ(ids[0], 36);
  EXPECT_EQ(ids[1], 0);
  for (const std::int32_t id : ids) EXPECT_TRUE(id >= 0 && id < 37);
  auto rows = indices(problem_of("kv_append/D=4,G=1,P=23,T=23,in=uniform,kv=f32,x=f32"), "rows");
  EXPECT_FALSE(std::is_sorted(rows.begin(), rows.end()));
  std::sort(rows.begin(), rows.end());
  for (int i = 0; i < 23; ++i) EXPECT_EQ(rows[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(indices(problem_of("attention/D=4,G=1,H=2,L=7,P=11,S=2,T=6,in=gaussian,kv=f32,x=f32"), "rows"),
            (std::vector<std::int32_t>{4, 5, 6, 15, 16, 17}));
}

}  // namespace
}  // namespace concord::conformance
