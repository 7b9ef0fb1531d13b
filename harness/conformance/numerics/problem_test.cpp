// Layouts: every operator and weight form is a call that the ABI's own checks accept, operands do not overlap, and what
// stands in the output area before a call is known byte by byte.
#include "conformance/numerics/problem.hpp"

#include <gtest/gtest.h>

#include <set>

#include "abi/concord_validate.hpp"
#include "conformance/numerics/layout.hpp"
#include "conformance/numerics/testing.hpp"

namespace concord::conformance {
namespace {

concord_status check(const Problem& p) {
  const concord_weight_desc desc = p.weight ? p.weight->desc : concord_weight_desc{};
  const concord_abi::WeightShape shape{desc.rows, desc.cols};
  concord_error err{sizeof(concord_error), 0, {}};
  const auto status = concord_abi::CallCheck(p.call, p.weight ? &shape : nullptr, nullptr, &err).check();
  EXPECT_TRUE(status == CONCORD_OK || p.expect_refusal) << p.spec.id() << ": " << err.message;
  return status;
}

void expect_disjoint(const std::string& id, std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces,
                     std::uint64_t limit) {
  std::sort(pieces.begin(), pieces.end());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(pieces[i].first % kAlignment, 0u) << id;
    const std::uint64_t end = pieces[i].first + pieces[i].second;
    EXPECT_LE(end, i + 1 < pieces.size() ? pieces[i + 1].first : limit) << id;
  }
}

void expect_layout(const Problem& p) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> in, out;
  for (const Operand& o : p.inputs) in.emplace_back(o.offset, o.bytes);
  for (const Operand& o : p.outputs)
    if (o.initial && !p.in_place) in.emplace_back(*o.initial, o.bytes);
  if (p.weight) {
    in.emplace_back(p.weight->data, p.weight->data_bytes);
    if (p.weight->scale_bytes) in.emplace_back(p.weight->scales, p.weight->scale_bytes);
    if (p.weight->zero_bytes) in.emplace_back(p.weight->zeros, p.weight->zero_bytes);
    concord_abi::WeightBytes want;
    const std::byte somewhere[1] = {};
    concord_weight_desc desc = p.weight->desc;
    desc.data = somewhere, desc.scales = p.weight->scale_bytes ? somewhere : nullptr;
    desc.zeros = p.weight->zero_bytes ? reinterpret_cast<const std::uint8_t*>(somewhere) : nullptr;
    EXPECT_EQ(concord_abi::check_weight(&desc, want, nullptr), CONCORD_OK) << p.spec.id();
    EXPECT_EQ(want.data, p.weight->data_bytes);
    EXPECT_EQ(want.scales, p.weight->scale_bytes);
    EXPECT_EQ(want.zeros, p.weight->zero_bytes);
  }
  expect_disjoint(p.spec.id(), in, p.input_bytes);
  std::uint64_t covered = 0;
  for (const Operand& o : p.outputs) {
    const Fence f = fence_of(o);
    EXPECT_EQ(f.begin, covered) << p.spec.id();
    EXPECT_GE(f.end - o.offset - o.bytes, kGuardBytes);
    covered = f.end;
  }
  EXPECT_EQ(covered, p.output_bytes) << "every byte of the output arena is an output or a guard";
}

TEST(Problem, EveryOperatorDtypeAndWeightFormIsAnAcceptedCall) {
  std::set<std::string> operators;
  for (const std::string& id : testing::small_cases()) {
    const Problem p = testing::problem_of(id);
    EXPECT_EQ(check(p), CONCORD_OK);
    expect_layout(p);
    operators.insert(p.spec.op);
  }
  EXPECT_EQ(operators.size(), std::size_t{CONCORD_OP_COUNT});
}

TEST(Problem, AnEmptyExtentIsRefused) {
  for (const char* id :
       {"matmul/K=8,M=0,N=4,bias=0,fuse=none,in=uniform,place=0,w=f32,x=f32",
        "attention/D=4,G=1,H=2,L=0,P=8,S=1,T=0,in=gaussian,kv=f16,x=f32", "add/N=0,R=3,in=uniform,place=0,x=bf16",
        "rope/D=0,H=2,P=4,T=1,in=uniform,place=0,x=f32", "argmax/T=0,V=9,in=gaussian,x=f32"}) {
    const Problem p = testing::problem_of(id);
    EXPECT_TRUE(p.expect_refusal) << id;
    EXPECT_EQ(check(p), CONCORD_INVALID) << id;
  }
}

TEST(Problem, SaysWhatIsWrongWithACase) {
  const std::pair<const char*, const char*> cases[] = {
      {"conv/K=1,x=f32", "case.unknown_operator"},
      {"add/R=3,in=uniform,place=0,x=f32", "case.missing_key"},
      {"add/N=3,R=3,in=uniform,x=f32", "case.missing_key"},
      {"add/N=3,Q=1,R=3,in=uniform,place=0,x=f32", "case.unknown_key"},
      {"add/N=3,R=3,eps=1e-5,in=uniform,place=0,x=f32", "case.unknown_key"},
      {"add/N=3,R=3,in=uniform,place=0,x=i8", "case.bad_value"},
      {"add/N=3,R=3,in=gaussian,place=0,x=f32", "case.bad_value"},
      {"rope/D=7,H=1,P=4,T=1,in=uniform,place=0,x=f32", "case.bad_value"},
      {"attention/D=4,G=2,H=3,L=1,P=8,S=1,T=1,in=gaussian,kv=f16,x=f32", "case.bad_value"},
      {"attention/D=4,G=1,H=2,L=9,P=8,S=1,T=1,in=gaussian,kv=f16,x=f32", "case.bad_value"},
      {"attention/D=4,G=1,H=2,L=4,P=8,S=2,T=3,in=gaussian,kv=f16,x=f32", "case.bad_value"},
      {"topk_routing/E=4,K=5,T=1,in=gaussian,norm=0,x=f32", "case.bad_value"},
      {"sample/T=1,V=5,in=gaussian,temp=0,x=f32", "case.bad_value"},
      {"sample/T=1,V=5,in=gaussian,x=f32", "case.missing_key"},
      {"kv_append/D=4,G=1,P=3,T=4,in=uniform,kv=f16,x=f32", "case.bad_value"},
      {"matmul/K=8,M=2,N=4,bias=0,fuse=none,in=uniform,place=1,w=f32,x=f32", "case.bad_value"},
      {"add/N=2147483647,R=2147483647,in=uniform,place=0,x=f32", "case.too_large"},
      {"add/N=2147483648,R=1,in=uniform,place=0,x=f32", "case.bad_value"}};
  for (const auto& [id, code] : cases) {
    const auto spec = CaseSpec::parse(id);
    ASSERT_TRUE(spec.has_value()) << id;
    const auto p = make_problem(*spec);
    ASSERT_FALSE(p.has_value()) << id;
    EXPECT_EQ(p.error().code, code) << p.error().message;
  }
}

// Else a device that takes a fixed seed, half of one, or the position for a row's number would be right by chance.
TEST(Problem, EverySampleCaseHasASeedOfItsOwn) {
  const Problem a = testing::problem_of("sample/T=9,V=67,in=gaussian,temp=0.7,x=f32"),
                b = testing::problem_of("sample/T=9,V=67,in=gaussian,temp=0.7,x=f16");
  EXPECT_NE(a.call.seed, b.call.seed);
  EXPECT_GT(a.call.seed, std::uint64_t{1} << 32);
  EXPECT_EQ(a.call.scale, 1 / 0.7);
  EXPECT_EQ(a.call.seed, testing::problem_of(a.spec.id()).call.seed);
  EXPECT_EQ(testing::problem_of("sample/T=9,V=67,in=gaussian,temp=cold,x=f16").call.scale, 0x1p60);
}

TEST(Problem, OutputsAreFencedAndPoisoned) {
  const Problem p = testing::problem_of("topk_routing/E=9,K=3,T=5,in=gaussian,norm=1,x=f16");
  const std::vector<std::byte> inputs(p.input_bytes);
  for (const unsigned repetition : {0u, 1u, 2u}) {
    std::vector<std::byte> out(p.output_bytes, std::byte{0x77});
    fill_outputs(p, repetition, inputs, out);
    std::vector<bool> inside(out.size());
    for (const Operand& o : p.outputs)
      for (std::uint64_t i = 0; i < o.bytes; ++i) {
        inside[o.offset + i] = true;
        EXPECT_EQ(out[o.offset + i], poison(o.dtype, repetition)[i % 4]);
      }
    for (std::uint64_t i = 0; i < out.size(); ++i)
      if (!inside[i]) {
        ASSERT_EQ(out[i], guard_byte(i)) << i;
      }
    const float first = concord_abi::load_as<float>(out.data() + p.outputs[0].offset, 0);
    EXPECT_EQ(std::isnan(first), repetition % 2 == 0);
  }
}

TEST(Problem, InPlaceAndCachesBeginWithTheirContents) {
  const Problem add = testing::problem_of("add/N=5,R=3,in=uniform,place=1,x=f32");
  EXPECT_EQ(add.outputs[0].initial, add.input("a").offset);
  const Problem fused = testing::problem_of("matmul/K=8,M=2,N=4,bias=0,fuse=gated,in=uniform,place=1,w=f32,x=f32");
  EXPECT_EQ(fused.outputs[0].initial, fused.input("z").offset);
  EXPECT_EQ(fused.call.in[1].rank, 0u) << "an absent bias";
  for (const char* id : {"add/N=5,R=3,in=uniform,place=1,x=f32", "kv_append/D=4,G=2,P=7,T=3,in=uniform,kv=i8,x=f32"}) {
    const Problem p = testing::problem_of(id);
    const std::vector<std::byte> in = testing::inputs_of(p);
    std::vector<std::byte> out(p.output_bytes);
    fill_outputs(p, 0, in, out);
    for (const Operand& o : p.outputs)
      EXPECT_EQ(std::memcmp(out.data() + o.offset, in.data() + *o.initial, o.bytes), 0) << id << " " << o.name;
  }
}

}  // namespace
}  // namespace concord::conformance
