// Every finding made by hand: right outputs are altered in one place, and the findings say what and where.
#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <limits>

#include "abi/concord_float.hpp"
#include "conformance/numerics/expectation.hpp"
#include "conformance/numerics/layout.hpp"
#include "conformance/numerics/testing.hpp"

namespace concord::conformance {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// A case whose output area holds the oracle's results, rounded to the output's dtype.
struct Right {
  explicit Right(const std::string& id)
      : p(testing::problem_of(id)), in(testing::inputs_of(p)), e(*expect(p, in, {})), out(p.output_bytes) {
    fill_outputs(p, 0, in, out);
    for (std::size_t i = 0; i < p.outputs.size(); ++i)
      for (std::size_t j = 0; j < count(i); ++j) write(i, j);
  }
  std::size_t count(std::size_t output) const {
    return p.outputs[output].bytes / concord_abi::dtype_bytes(p.outputs[output].dtype);
  }
  void write(std::size_t output, std::size_t i) {
    const ExpectedOutput& o = e.outputs[output];
    const std::size_t size = concord_abi::dtype_bytes(o.dtype);
    std::byte* to = out.data() + p.outputs[output].offset + i * size;
    if (o.judged == Judged::kBits)
      std::memcpy(to, o.bits.data() + i * size, size);
    else
      put(output, i, o.want[i]);
  }
  void put(std::size_t output, std::size_t i, double v) {
    const Operand& o = p.outputs[output];
    std::byte* to = out.data() + o.offset;
    if (o.dtype == CONCORD_I32)
      concord_abi::store_as(to, i, static_cast<std::int32_t>(v));
    else
      concord_abi::store_f64(o.dtype, &v, 1, to + i * concord_abi::dtype_bytes(o.dtype));
  }
  std::vector<OutputFindings> judge() const { return judge_outputs(p, e, in, out); }
  OutputFindings first() const { return judge()[0]; }
  Problem p;
  std::vector<std::byte> in;
  Expectation e;
  std::vector<std::byte> out;
};

std::uint64_t faults(const OutputFindings& f) {
  return f.guard_bytes + f.unwritten + f.nonfinite + f.above_rigorous + f.above_probable + f.degenerate;
}

const char* const kMatmul = "matmul/K=40,M=5,N=7,bias=0,fuse=none,in=gaussian,place=0,w=f32,x=f32";

TEST(Judge, RightOutputsOfEveryCaseHaveNoFindings) {
  for (const std::string& id : testing::small_cases()) {
    const Right r(id);
    for (const OutputFindings& f : r.judge()) {
      EXPECT_EQ(faults(f), 0u) << id << " " << f.name;
      EXPECT_LE(f.margin, 1) << id;
      EXPECT_GT(f.elements, 0u);
    }
  }
}

TEST(Judge, GuardsSayHowManyBytesAndWhere) {
  Right r(kMatmul);
  const std::uint64_t begin = r.p.outputs[0].offset, end = begin + r.p.outputs[0].bytes;
  r.out[end] ^= std::byte{1}, r.out[end + 2000] ^= std::byte{0x80};
  OutputFindings f = r.first();
  EXPECT_EQ(f.guard_bytes, 2u);
  EXPECT_EQ(f.guard_first, 0);
  r.out[begin - 3] ^= std::byte{4};
  f = r.first();
  EXPECT_EQ(f.guard_bytes, 3u);
  EXPECT_EQ(f.guard_first, -3);
  EXPECT_EQ(f.above_rigorous, 0u);
}

TEST(Judge, ElementsThatWereNotWrittenAreCounted) {
  for (const unsigned repetition : {0u, 1u}) {
    Right r(kMatmul);
    const auto old = poison(CONCORD_F32, repetition);
    for (const std::size_t i : {3u, 34u}) std::memcpy(r.out.data() + r.p.outputs[0].offset + 4 * i, old.data(), 4);
    const OutputFindings f = r.first();
    EXPECT_EQ(f.unwritten, 2u);
    EXPECT_EQ(f.nonfinite + f.above_rigorous, 2u);
    EXPECT_EQ(f.first.at, (std::vector<std::int64_t>{0, 3}));
  }
  Right cache("kv_append/D=18,G=2,P=23,T=9,in=uniform,kv=f16,x=f16");  // a row that was left as it was
  const Operand& kc = cache.p.outputs[0];
  std::memcpy(cache.out.data() + kc.offset, cache.in.data() + *kc.initial, kc.bytes);
  const std::vector<OutputFindings> f = cache.judge();
  EXPECT_GT(f[0].unwritten, 9u * 35) << "a few of 324 may be equal by chance";
  EXPECT_EQ(f[0].above_rigorous, f[0].unwritten);
  EXPECT_EQ(faults(f[1]), 0u);
}

TEST(Judge, NanAndInfinityWhereNoneBelongs) {
  Right r(kMatmul);
  r.put(0, 8, std::nan("")), r.put(0, 20, kInf), r.put(0, 33, -kInf);
  const OutputFindings f = r.first();
  EXPECT_EQ(f.nonfinite, 3u);
  EXPECT_EQ(f.above_rigorous, 0u);
  EXPECT_EQ(f.first.index, 8u);
  EXPECT_TRUE(std::isnan(f.first.got));
  EXPECT_EQ(f.worst.index, 8u) << "the first of the worst";
}

TEST(Judge, NanAndInfinityThatAreMissing) {
  Right r("add/N=111,R=3,in=special,place=0,x=f32");
  const std::vector<double>& want = r.e.outputs[0].want;
  std::uint64_t changed = 0;
  bool nan = false, infinite = false;
  for (std::size_t i = 0; i < want.size(); ++i)
    if (std::isnan(want[i]) && !nan)
      nan = true, ++changed, r.put(0, i, 1);
    else if (std::isinf(want[i]) && !infinite)
      infinite = true, ++changed, r.put(0, i, -want[i]);
  EXPECT_EQ(changed, 2u);
  EXPECT_EQ(r.first().nonfinite, 2u);
}

TEST(Judge, ResultsBeyondTheLargestNumberMustOverflow) {
  Right r("add/N=111,R=3,in=special,place=0,x=f16");
  const std::vector<double>& want = r.e.outputs[0].want;
  const auto at = std::find(want.begin(), want.end(), 2 * 65504.0);
  ASSERT_NE(at, want.end());
  const auto i = static_cast<std::size_t>(at - want.begin());
  EXPECT_EQ(concord_abi::load_as<std::uint16_t>(r.out.data() + r.p.outputs[0].offset, i), 0x7c00);
  EXPECT_EQ(faults(r.first()), 0u);
  r.put(0, i, 65504);  // saturated
  EXPECT_EQ(r.first().above_rigorous, 1u);
  r.put(0, i, -kInf);
  EXPECT_EQ(r.first().nonfinite, 1u);
}

TEST(Judge, BetweenTheBoundsAndAboveThem) {
  Right r(kMatmul);
  const ExpectedOutput& e = r.e.outputs[0];
  r.put(0, 9, e.want[9] + 1.5 * e.probable[9]);
  OutputFindings f = r.first();
  EXPECT_EQ(f.above_probable, 1u);
  EXPECT_EQ(f.above_rigorous, 0u);
  EXPECT_NEAR(f.margin_probable, 1.5, 0.1);
  EXPECT_EQ(f.first.at, (std::vector<std::int64_t>{1, 2}));
  r.put(0, 30, e.want[30] - 3 * e.rigorous[30]);
  f = r.first();
  EXPECT_EQ(f.above_probable, 1u);
  EXPECT_EQ(f.above_rigorous, 1u);
  EXPECT_NEAR(f.margin, 3, 0.01);
  EXPECT_EQ(f.worst.at, (std::vector<std::int64_t>{4, 2}));
  EXPECT_EQ(f.worst.want, e.want[30]);
  EXPECT_NEAR(f.max_error, 3 * e.rigorous[30], 1e-6);
}

TEST(Judge, WithoutAFaultTheWorstIsTheLargestMargin) {
  Right r(kMatmul);
  const ExpectedOutput& e = r.e.outputs[0];
  r.put(0, 22, e.want[22] + 0.5 * e.probable[22]);
  const OutputFindings f = r.first();
  EXPECT_EQ(faults(f), 0u);
  EXPECT_EQ(f.worst.index, 22u);
  EXPECT_TRUE(f.first.at.empty());
}

TEST(Judge, ExactMeansExact) {
  Right r("matmul/K=40,M=5,N=7,bias=0,fuse=none,in=exact,place=0,w=u4g32,x=f32");
  r.put(0, 5, std::nextafter(static_cast<float>(r.e.outputs[0].want[5]), 1e9f));
  const OutputFindings f = r.first();
  EXPECT_EQ(f.judged, "exact");
  EXPECT_EQ(f.above_rigorous, 1u);
  EXPECT_EQ(f.margin, kInf);
  Right zero("add/N=111,R=3,in=exact,place=0,x=f32");
  const std::vector<double>& want = zero.e.outputs[0].want;
  const auto i = static_cast<std::size_t>(std::find(want.begin(), want.end(), 0.0) - want.begin());
  ASSERT_LT(i, want.size());
  zero.put(0, i, -0.0);
  EXPECT_EQ(faults(zero.first()), 0u) << "-0 equals +0";
}

TEST(Judge, BitsMeanBitsButForPayloadsOfNan) {
  Right r("embedding/K=130,T=5,V=37,in=special,w=f32,x=f32");
  const std::vector<std::byte>& bits = r.e.outputs[0].bits;
  std::size_t nan = 0, zero = 0;
  for (std::size_t i = 0; i < 650; ++i) {
    const float v = concord_abi::load_as<float>(bits.data(), i);
    if (std::isnan(v)) nan = i;
    if (v == 0) zero = i;
  }
  concord_abi::store_as(r.out.data() + r.p.outputs[0].offset, nan, 0xffc12345u);
  EXPECT_EQ(faults(r.first()), nan ? 0u : 1u);
  const float other = -concord_abi::load_as<float>(bits.data(), zero);
  r.put(0, zero, static_cast<double>(other));
  EXPECT_EQ(r.first().above_rigorous, 1u) << "the sign of a copied zero";
}

TEST(Judge, IndicesAndChoices) {
  Right argmax("argmax/T=9,V=67,in=exact,x=f32");
  argmax.put(0, 4, argmax.e.outputs[0].want[4] == 66 ? 65 : 66);  // the tie at the end
  EXPECT_EQ(argmax.first().judged, "index");
  EXPECT_EQ(argmax.first().above_rigorous, 1u);
  Right cold("sample/T=9,V=67,in=exact,temp=cold,x=bf16");
  cold.put(0, 4, cold.e.outputs[0].want[4] == 66 ? 65 : 66);
  EXPECT_EQ(cold.first().judged, "index");
  EXPECT_EQ(cold.first().above_rigorous, 1u);
  // Scores that lie within the last bits of a logit are told apart, and nothing beside NaN or infinity is near enough.
  for (const char* in : {"cancel", "special", "gaussian"})
    for (const double other : {0.0, 1.0, 33.0, 65.0, 66.0, 67.0, -1.0}) {
      Right r(std::string("sample/T=9,V=67,in=") + in + ",temp=0.7,x=f32");
      EXPECT_EQ(r.first().judged, "choice");
      std::uint64_t wrong = 0;
      for (std::size_t t = 0; t < 9; ++t) wrong += r.e.outputs[0].want[t] != other, r.put(0, t, other);
      EXPECT_EQ(r.first().above_rigorous, wrong) << in << " " << other;
    }
  const char* id = "topk_routing/E=21,K=4,T=7,in=gaussian,norm=0,x=f32";
  for (const double wrong : {-1.0, 21.0, 1e9}) {
    Right r(id);
    r.put(1, 6, wrong);
    EXPECT_EQ(r.judge()[1].above_rigorous, 1u) << wrong;
  }
  Right twice(id);
  twice.put(1, 5, twice.e.outputs[1].want[4]);
  EXPECT_EQ(twice.judge()[1].above_rigorous, 1u) << "chosen before";
  Right swapped(id);
  swapped.put(1, 4, swapped.e.outputs[1].want[5]), swapped.put(1, 5, swapped.e.outputs[1].want[4]);
  EXPECT_EQ(swapped.judge()[1].above_rigorous, 2u) << "logits far apart";
  EXPECT_EQ(swapped.judge()[1].judged, "choice");
  swapped.e.outputs[1].gap.assign(28, 100);
  EXPECT_EQ(swapped.judge()[1].above_rigorous, 0u) << "logits within the gap";
}

TEST(Judge, NothingToTellApartIsDegenerate) {
  Right r(kMatmul);
  r.e.outputs[0].want.assign(35, 0);
  for (std::size_t i = 0; i < 35; ++i) r.put(0, i, 0);
  EXPECT_TRUE(r.first().degenerate);
  r.e.outputs[0].want[34] = 1, r.put(0, 34, 1);
  EXPECT_FALSE(r.first().degenerate);
  EXPECT_FALSE(Right("softmax/N=1,R=4,in=gaussian,place=0,x=f32").first().degenerate) << "1 by definition";
  Right wide(kMatmul);
  for (std::size_t i = 0; i < 35; ++i) {
    const double size = std::fabs(wide.e.outputs[0].want[i]);
    wide.e.outputs[0].rigorous[i] = wide.e.outputs[0].probable[i] = 1.01 * size;
  }
  EXPECT_TRUE(wide.first().degenerate) << "zeros would pass";
  wide.e.mode.products_flushed = true;
  EXPECT_FALSE(wide.first().degenerate) << "as declared";
  wide.e.mode = {};
  wide.e.outputs[0].probable[34] *= 0.9;
  EXPECT_FALSE(wide.first().degenerate) << "zeros would be seen in one element";
}

TEST(Judge, RefusedCallsMustLeaveEverything) {
  const Problem p = testing::problem_of("topk_routing/E=9,K=3,T=5,in=gaussian,norm=1,x=f16");
  const std::vector<std::byte> in(p.input_bytes);
  std::vector<std::byte> out(p.output_bytes);
  fill_outputs(p, 0, in, out);
  for (const OutputFindings& f : judge_untouched(p, in, out)) EXPECT_EQ(faults(f), 0u);
  out[p.outputs[1].offset + 8] ^= std::byte{1}, out[p.outputs[0].offset - 1] ^= std::byte{1};
  const std::vector<OutputFindings> f = judge_untouched(p, in, out);
  EXPECT_EQ(f[0].guard_bytes, 1u);
  EXPECT_EQ(f[1].above_rigorous, 1u);
  EXPECT_EQ(f[1].first.at, (std::vector<std::int64_t>{0, 2}));
  const Problem empty = testing::problem_of("add/N=0,R=3,in=uniform,place=0,x=bf16");
  std::vector<std::byte> fence(empty.output_bytes);
  fill_outputs(empty, 0, {}, fence);
  EXPECT_EQ(faults(judge_untouched(empty, {}, fence)[0]), 0u);
  fence[empty.outputs[0].offset] ^= std::byte{1};
  EXPECT_EQ(judge_untouched(empty, {}, fence)[0].guard_bytes, 1u);
}

TEST(Judge, FindingsDoNotDependOnThreads) {
  Right r("softmax/N=5000,R=40,in=gaussian,place=0,x=f32");
  for (const std::size_t i : {70000u, 3u, 199999u, 120000u}) r.put(0, i, 2);
  std::vector<OutputFindings> all;
  for (const std::size_t threads : {1, 2, 5}) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    all.push_back(r.first());
  }
  for (const OutputFindings& f : all) {
    EXPECT_EQ(f.above_rigorous, 4u);
    EXPECT_EQ(f.first.index, 3u);
    EXPECT_EQ(f.worst.index, all[0].worst.index);
    EXPECT_EQ(f.margin, all[0].margin);
  }
}

}  // namespace
}  // namespace concord::conformance
