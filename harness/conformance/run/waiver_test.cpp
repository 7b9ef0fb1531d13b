#include "conformance/run/waiver.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "base/json.hpp"

namespace concord::conformance {
namespace {

constexpr const char* kToday = "2026-11-21";
const std::string kCase = "softmax/N=4097,R=3,in=heavy,place=0,x=f32";

Json good() {
  return {{"id", "late-row"},    {"cases", "softmax/N=4097,*"}, {"devices", {"vendor:gpu?"}},         {"statuses", {"FAIL"}},
          {"bound", 3.0},        {"reason", "summed twice"},    {"link", "https://example.org/1"},    {"expires", "2026-11-21"}};
}
std::string document(const std::vector<Json>& waivers) { return Json{{"schema", "concord.waivers/1"}, {"waivers", waivers}}.dump(); }
Waiver waiver(const Json& j) {
  auto all = parse_waivers(document({j}), "w.json");
  EXPECT_TRUE(all) << (all ? "" : all.error().to_string());
  return all.value().at(0);
}
Json with(const char* key, const Json& value) {
  Json j = good();
  j[key] = value;
  return j;
}
Evidence evidence(double margin) {
  Evidence e;
  e.outcome = Outcome::kCompleted;
  OutputFindings o;
  o.name = "y", o.judged = "bound", o.elements = 100, o.margin = margin, o.above_rigorous = margin > 1;
  e.outputs = {o};
  return e;
}
const Decision kFail{CaseStatus::kFail, "bound", "above the bound"};
const Decision kPass{CaseStatus::kPass, "none", ""};
Waived apply(const std::vector<Json>& waivers, const Evidence& e, const Decision& d, const char* today = kToday, const char* device = "vendor:gpu0") {
  std::vector<Waiver> all;
  for (const Json& j : waivers) all.push_back(waiver(j));
  return apply_waivers(all, kCase, device, e, d, today);
}

TEST(Glob, MatchesWholeTexts) {
  EXPECT_TRUE(glob_matches("", ""));
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("a*c", "abbc"));
  EXPECT_TRUE(glob_matches("a*b*c", "aXbXbXc"));
  EXPECT_TRUE(glob_matches("??", "ab"));
  EXPECT_TRUE(glob_matches("*x=f32", kCase));
  EXPECT_FALSE(glob_matches("", "a"));
  EXPECT_FALSE(glob_matches("a*c", "abcd"));
  EXPECT_FALSE(glob_matches("?", ""));
  EXPECT_FALSE(glob_matches("softmax", kCase));
  EXPECT_FALSE(glob_matches("[a-z]*", "abc"));  // no other syntax
}

TEST(Glob, TakesNoExponentialTime) {
  const std::string text(20'000, 'a');
  std::string pattern;
  for (int i = 0; i < 30; ++i) pattern += "a*";
  EXPECT_FALSE(glob_matches(pattern + "b", text));
  EXPECT_TRUE(glob_matches(pattern, text));
}

TEST(Waivers, AreReadStrictly) {
  EXPECT_EQ(waiver(good()).expires, "2026-11-21");
  Json missing = good();
  missing.erase("reason");
  const std::pair<Json, const char*> kWrong[] = {
      {missing, "waiver.missing_field"},
      {with("note", "x"), "waiver.unknown_field"},
      {with("id", "Late Row"), "waiver.out_of_range"},
      {with("id", ""), "waiver.out_of_range"},
      {with("cases", "*"), "waiver.too_wide"},
      {with("cases", "s*/N=1"), "waiver.too_wide"},
      {with("cases", "softmax"), "waiver.too_wide"},
      {with("devices", Json::array()), "waiver.out_of_range"},
      {with("devices", {"*"}), "waiver.too_wide"},
      {with("devices", {"*:*"}), "waiver.too_wide"},
      {with("devices", {"vendor:gpu0", "c*"}), "waiver.too_wide"},
      {with("statuses", {"PASS"}), "waiver.bad_status"},
      {with("statuses", {"NOT_RUN"}), "waiver.bad_status"},
      {with("statuses", {"fail"}), "waiver.bad_status"},
      {with("statuses", {"FAIL", "FAIL"}), "waiver.bad_status"},
      {with("statuses", Json::array()), "waiver.bad_status"},
      {with("bound", 0), "waiver.bad_bound"},
      {with("bound", -1), "waiver.bad_bound"},
      {with("bound", 1e7), "waiver.bad_bound"},
      {with("statuses", {"CRASH"}), "waiver.bad_bound"},
      {with("reason", ""), "waiver.out_of_range"},
      {with("reason", std::string(1001, 'a')), "waiver.out_of_range"},
      {with("link", "issue 17"), "waiver.bad_link"},
      {with("expires", "never"), "waiver.bad_date"},
      {with("expires", "2026-02-30"), "waiver.bad_date"},
      {with("expires", "2026-2-03"), "waiver.bad_date"},
      {with("expires", "26-02-03xx"), "waiver.bad_date"},
      {with("expires", 20260203), "waiver.wrong_type"},
  };
  for (const auto& [j, code] : kWrong) {
    const auto all = parse_waivers(document({j}), "w.json");
    ASSERT_FALSE(all) << j.dump();
    EXPECT_EQ(all.error().code, code) << all.error().message << " " << j.dump();
  }
  EXPECT_EQ(parse_waivers(R"({"schema":"concord.waivers/2","waivers":[]})", "w.json").error().code, "waiver.schema_version");
  EXPECT_EQ(parse_waivers(R"({"schema":"concord.waivers/1","waivers":[],"more":1})", "w.json").error().code, "waiver.unknown_field");
  EXPECT_EQ(parse_waivers(R"({"schema":"concord.waivers/1","waivers":[{"id":"a","id":"b"}]})", "w.json").error().code, "waiver.duplicate_key");
  EXPECT_EQ(parse_waivers(document(std::vector<Json>(1001, good())), "w.json").error().code, "waiver.out_of_range");
  EXPECT_TRUE(parse_waivers(document({}), "w.json").value().empty());
}

TEST(Waivers, IdsAreUniqueOverAFolder) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / ("concord_waiver_test_" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(load_waivers(folder.string()).value().empty());
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "a.json") << document({good()});
  EXPECT_EQ(load_waivers(folder.string()).value().size(), 1u);
  std::ofstream(folder / "b.json") << document({good()});
  EXPECT_EQ(load_waivers(folder.string()).error().code, "waiver.duplicate_id");
  std::filesystem::remove_all(folder);
}

TEST(Waivers, ExcuseAFailureWithinTheirBound) {
  const Waived w = apply({good()}, evidence(2.5), kFail);
  EXPECT_EQ(w.decision.status, CaseStatus::kWaived);
  EXPECT_EQ(w.waiver, "late-row");
  EXPECT_FALSE(w.expired);
  EXPECT_THAT(w.decision.reason, testing::HasSubstr("summed twice"));
  EXPECT_EQ(apply({good()}, evidence(3.0), kFail).decision.status, CaseStatus::kWaived);
}

TEST(Waivers, ExcuseNothingBeyondTheirScope) {
  EXPECT_EQ(apply({good()}, evidence(3.01), kFail).decision.status, CaseStatus::kFail);
  EXPECT_EQ(apply({good()}, evidence(std::numeric_limits<double>::quiet_NaN()), kFail).decision.status, CaseStatus::kFail);
  EXPECT_EQ(apply({good()}, evidence(2), kFail, kToday, "other:gpu0").decision.status, CaseStatus::kFail);
  EXPECT_EQ(apply({with("cases", "softmax/N=4096,*")}, evidence(2), kFail).decision.status, CaseStatus::kFail);
  EXPECT_EQ(apply({good()}, evidence(2), {CaseStatus::kCrash, "outcome", "signal 11"}).decision.status, CaseStatus::kCrash);
  EXPECT_EQ(apply({good()}, Evidence{}, kFail).decision.status, CaseStatus::kFail);  // nothing was measured
  EXPECT_EQ(apply({}, evidence(2), kFail).decision.status, CaseStatus::kFail);
}

TEST(Waivers, NeverExcuseWhatHasNoSize) {
  for (const char* check : {"guard", "nonfinite", "exact", "unwritten", "fallback", "witness", "input", "refusal", "degenerate"})
    EXPECT_EQ(apply({good()}, evidence(0.5), {CaseStatus::kFail, check, ""}).decision.status, CaseStatus::kFail) << check;
  Evidence damaged = evidence(2);
  damaged.outputs[0].guard_bytes = 1;
  EXPECT_EQ(apply({good()}, damaged, kFail).decision.status, CaseStatus::kFail);
  Evidence second = evidence(2);
  second.outputs.push_back(second.outputs[0]);
  second.outputs[1].nonfinite = 1;
  EXPECT_EQ(apply({good()}, second, kFail).decision.status, CaseStatus::kFail);
}

TEST(Waivers, ExcuseStatusesWithoutAMargin) {
  Json j = with("statuses", {"CRASH", "UNSUPPORTED"});
  j["bound"] = 0;
  EXPECT_EQ(apply({j}, Evidence{}, {CaseStatus::kCrash, "outcome", ""}).decision.status, CaseStatus::kWaived);
  EXPECT_EQ(apply({j}, Evidence{}, {CaseStatus::kUnsupported, "outcome", ""}).decision.status, CaseStatus::kWaived);
  EXPECT_EQ(apply({j}, Evidence{}, {CaseStatus::kTimeout, "outcome", ""}).decision.status, CaseStatus::kTimeout);
  EXPECT_EQ(apply({j}, Evidence{}, {CaseStatus::kNotRun, "outcome", ""}).decision.status, CaseStatus::kNotRun);
}

TEST(Waivers, APassUnderAWaiverIsXPass) {
  const Waived w = apply({good()}, evidence(0.1), kPass);
  EXPECT_EQ(w.decision.status, CaseStatus::kXPass);
  EXPECT_EQ(w.waiver, "late-row");
  EXPECT_EQ(apply({good()}, evidence(0.1), kPass, kToday, "other:gpu0").decision.status, CaseStatus::kPass);
}

TEST(Waivers, AreRedWhenExpired) {
  for (const auto& [decision, margin] : {std::pair(kFail, 2.0), std::pair(kPass, 0.1)}) {
    const Waived w = apply({good()}, evidence(margin), decision, "2026-11-22");
    EXPECT_EQ(w.decision.status, decision.status);
    EXPECT_TRUE(w.expired);
    EXPECT_EQ(w.waiver, "late-row");
    EXPECT_THAT(w.decision.reason, testing::HasSubstr("expired on 2026-11-21"));
  }
  EXPECT_FALSE(apply({good()}, evidence(2), kFail, "2026-11-22", "other:gpu0").expired);
  Json renewed = with("expires", "2027-01-01");
  renewed["id"] = "renewed";
  const Waived both = apply({good(), renewed}, evidence(2), kFail, "2026-11-22");
  EXPECT_EQ(both.decision.status, CaseStatus::kWaived);
  EXPECT_EQ(both.waiver, "renewed");
  EXPECT_TRUE(both.expired);  // the old one is still red
}

}  // namespace
}  // namespace concord::conformance
