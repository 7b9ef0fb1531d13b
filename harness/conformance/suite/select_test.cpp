#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "conformance/suite/suite.hpp"

namespace concord::conformance {
namespace {

const OperatorSuite& suite() {
  static const OperatorSuite kSuite = OperatorSuite::load(CONCORD_SOURCE_DIR "/suites/ops").value();
  return kSuite;
}
std::vector<PlannedCase> chosen(const Selection& s) {
  const auto cases = select(suite(), s);
  EXPECT_TRUE(cases) << (cases ? "" : cases.error().message);
  return cases.value_or(std::vector<PlannedCase>{});
}
Error refused(const Selection& s) {
  const auto cases = select(suite(), s);
  EXPECT_FALSE(cases);
  return cases ? Error{} : cases.error();
}
template <class F>
std::set<std::string> values(const std::vector<PlannedCase>& cases, F f) {
  std::set<std::string> out;
  for (const PlannedCase& c : cases) out.insert(f(c));
  return out;
}
std::set<std::string> extents(const std::vector<PlannedCase>& cases, const char* key) {
  return values(cases, [&](const PlannedCase& c) { return std::to_string(c.spec.axis(key)); });
}
const std::string kRope = "rope/D=128,H=3,P=64,T=3,in=exact,place=1,x=bf16";

TEST(Select, TiersHoldTheOnesBefore) {
  const auto smoke = chosen({}), full = chosen({.tier = Tier::kFull}), all = chosen({.tier = Tier::kNightly});
  EXPECT_LT(smoke.size(), full.size());
  EXPECT_LT(full.size(), all.size());
  EXPECT_EQ(all.size(), suite().cases().size());
  std::set<std::string> ids = values(full, [](const PlannedCase& c) { return c.id; });
  for (const PlannedCase& c : smoke) EXPECT_TRUE(ids.contains(c.id));
  for (const PlannedCase& c : smoke) EXPECT_EQ(c.tier, Tier::kSmoke);
}

TEST(Select, ByFamilyOperatorAndPattern) {
  EXPECT_THAT(values(chosen({.families = {"norm", "select"}}), [](const PlannedCase& c) { return c.spec.op; }),
              testing::ElementsAre("argmax", "layernorm", "rmsnorm", "sample", "topk_routing"));
  EXPECT_THAT(values(chosen({.operators = {"gelu"}}), [](const PlannedCase& c) { return c.spec.op; }), testing::ElementsAre("gelu"));
  for (const PlannedCase& c : chosen({.pattern = "^matmul/.*w=u4g(32|128),x=bf16$"})) EXPECT_THAT(c.id, testing::MatchesRegex("matmul/.*w=u4g(32|128),x=bf16"));
  for (const PlannedCase& c : chosen({.families = {"norm"}, .operators = {"rmsnorm"}, .pattern = "in=heavy"})) {
    EXPECT_EQ(c.spec.op, "rmsnorm");
    EXPECT_EQ(c.spec.option("in"), "heavy");
  }
}

TEST(Select, NothingLeftIsExitFive) {
  for (const Selection& s : {Selection{.pattern = "no such case"}, Selection{.families = {"norm"}, .operators = {"rope"}}, Selection{.operators = {"add"}, .axes = {"K=4"}}}) {
    const Error e = refused(s);
    EXPECT_EQ(e.code, "select.nothing");
    EXPECT_EQ(exit_code(e.kind), exit_codes::kNothingRun);
  }
  EXPECT_THAT(refused({.operators = {"rope"}, .axes = {"D=[7,9]"}}).message, testing::HasSubstr("\"D % 2 == 0\" does not hold"));
}

TEST(Select, WrongNamesAreUsageErrors) {
  const std::pair<Selection, const char*> kWrong[] = {
      {{.families = {"norms"}}, "select.unknown_family"},
      {{.operators = {"conv"}}, "select.unknown_operator"},
      {{.pattern = "("}, "select.bad_pattern"},
      {{.pattern = std::string(501, 'a')}, "select.bad_pattern"},
      {{.ids = {"nonsense"}}, "case.syntax"},
      {{.ids = {"rope/H=3,D=128,P=64,T=3,in=exact,place=1,x=bf16"}}, "case.not_canonical"},
      {{.ids = {"conv/N=1"}}, "case.unknown_operator"},
      {{.ids = {"rope/D=127,H=3,P=64,T=3,in=exact,place=1,x=bf16"}}, "case.constraint"},
  };
  for (const auto& [selection, code] : kWrong) {
    const Error e = refused(selection);
    EXPECT_EQ(e.code, code) << e.message;
    EXPECT_EQ(e.kind, ErrorKind::kUsage);
  }
}

TEST(Select, ByIdListedOrNot) {
  const std::string listed = suite().cases().back().id;
  const auto cases = chosen({.ids = {listed, kRope, listed}});
  ASSERT_EQ(cases.size(), 2u);
  EXPECT_EQ(cases[0].id, listed);
  EXPECT_FALSE(cases[0].tags.empty());
  EXPECT_EQ(cases[1].id, kRope);
  EXPECT_EQ(cases[1].flops, 3.0 * 3 * 3 * 128);
}

TEST(SelectAxes, ReplaceTheirKeyInEveryCase) {
  const auto extents_of = [](const char* argument) { return extents(chosen({.ids = {kRope}, .axes = {argument}}), "T"); };
  EXPECT_THAT(extents_of("T=5"), testing::ElementsAre("5"));
  EXPECT_THAT(extents_of("T=[5]"), testing::ElementsAre("5"));
  EXPECT_THAT(extents_of("T=[1,7,64]"), testing::ElementsAre("1", "64", "7"));
  EXPECT_THAT(extents_of("T=[1:9:2]"), testing::ElementsAre("1", "3", "5", "7", "9"));
  EXPECT_THAT(extents_of("T=[1:8:3]"), testing::ElementsAre("1", "4", "7"));
  EXPECT_THAT(extents_of("T=[2:4]"), testing::ElementsAre("2", "3", "4"));
  EXPECT_THAT(extents_of("T[pow2]=[0:12:4]"), testing::ElementsAre("1", "16", "256", "4096"));
  EXPECT_THAT(extents_of("T[pow2]=[3,5]"), testing::ElementsAre("32", "8"));
  EXPECT_THAT(extents_of("T[pow2]=10"), testing::ElementsAre("1024"));
  EXPECT_THAT(values(chosen({.ids = {kRope}, .axes = {"x=[bf16,f16]"}}), [](const PlannedCase& c) { return c.spec.option("x"); }), testing::ElementsAre("bf16", "f16"));
}

TEST(SelectAxes, MultiplyAndLeaveTheRestAsItIs) {
  const auto cases = chosen({.ids = {kRope}, .axes = {"T=[1,2,3]", "x=[f32,bf16]"}});
  EXPECT_EQ(cases.size(), 6u);
  for (const PlannedCase& c : cases) EXPECT_EQ(c.spec.axis("H"), 3);
  const auto matmuls = chosen({.operators = {"matmul"}, .pattern = "w=bf16", .axes = {"K=77"}});
  EXPECT_THAT(extents(matmuls, "K"), testing::ElementsAre("77"));
  EXPECT_EQ(values(matmuls, [](const PlannedCase& c) { return c.id; }).size(), matmuls.size());
}

TEST(SelectAxes, CasesWithoutTheKeyDropOut) {
  for (const PlannedCase& c : chosen({.axes = {"D=64"}})) EXPECT_TRUE(c.spec.op == "rope" || c.spec.op == "attention" || c.spec.op == "kv_append") << c.id;
}

TEST(SelectAxes, CombinationsThatBreakAConstraintDropOutButNoValueVanishes) {
  EXPECT_THAT(extents(chosen({.operators = {"topk_routing"}, .axes = {"K=[1,60]"}}), "K"), testing::ElementsAre("1", "60"));
  EXPECT_EQ(refused({.operators = {"rope"}, .axes = {"D=[7,8]"}}).code, "select.unused_value");
  EXPECT_EQ(refused({.operators = {"rope"}, .axes = {"x=[bf16,bf61]"}}).code, "select.unused_value");
}

TEST(SelectAxes, SyntaxIsStrict) {
  for (const char* text : {"", "K", "=4", "K=", "K=[", "K=[1", "K=1]", "K=[]", "K=[1,]", "K=[1,,2]", "K=[1:2:0]", "K=[5:1]", "K=[1:2:3:4]", "K=[:4]", "K=-1", "K=1.5", "K=04",
                           "K=[1,1]", "K[pow3]=4", "K[pow2=4", "x[pow2]=[1,2]", "K[pow2]=[0:32]", "K=4294967296", "K=[0:20000]", "K=99999999999999999999"}) {
    const Error e = refused({.operators = {"matmul"}, .axes = {text}});
    EXPECT_EQ(e.code, "select.bad_axis") << text << ": " << e.message;
    EXPECT_EQ(e.kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(refused({.axes = {"K=1", "K=2"}}).code, "select.bad_axis");
  EXPECT_EQ(refused({.axes = {"K=[1:5000]", "M=[1:5000]"}}).code, "select.too_many");
  EXPECT_EQ(refused({.operators = {"matmul"}, .axes = {"K=[1:5000]"}}).code, "select.too_many");
}

}  // namespace
}  // namespace concord::conformance
