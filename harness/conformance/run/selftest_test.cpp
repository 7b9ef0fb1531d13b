// The bookkeeping of the selftest, with records made by hand: what must be red is red.
#include "conformance/run/selftest.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace concord::conformance {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PlannedCase planned(const std::string& id) {
  PlannedCase c;
  c.spec = CaseSpec::parse(id).value();
  c.id = id, c.family = c.spec.op;
  return c;
}
const std::vector<PlannedCase> kPlan = {planned("add/N=1,R=1"), planned("add/N=2,R=1"), planned("gelu/N=1,R=1"),
                                        planned("gelu/N=2,R=1")};
const PlantedFault kAddFault = {"mutant:a", "a", "adds badly", {"add"}};
const PlantedFault kBothFault = {"mutant:b", "b", "does both badly", {"add", "gelu"}};

// A record as a session would make it; PASS unless `red` names "DEVICE CASE".
using Red = std::map<std::string, std::pair<CaseStatus, std::string>>;
struct FakeRun {
  Red red;
  std::set<std::string> absent;  // keys without a record
  std::vector<std::string> calls;
  std::set<std::string> unopened;  // devices whose worker never started
  CaseRunner runner() {
    return [this](const std::vector<PlannedCase>& plan,
                  const std::vector<std::string>& devices) -> Result<std::vector<CaseRecord>> {
      std::vector<CaseRecord> records;
      for (const std::string& device : devices)
        for (const PlannedCase& c : plan) {
          CaseRecord r;
          r.id = c.id, r.device = device, r.family = c.family, r.status = CaseStatus::kPass, r.check = "none";
          r.body = {{"facts", unopened.contains(device) ? OrderedJson() : OrderedJson::object()}};
          calls.push_back(r.key());
          if (const auto it = red.find(r.key()); it != red.end())
            r.status = it->second.first, r.check = it->second.second;
          if (!absent.contains(r.key())) records.push_back(std::move(r));
        }
      return records;
    };
  }
};
const std::pair<CaseStatus, std::string> kBound = {CaseStatus::kFail, "bound"};

SelftestReport report_of(FakeRun& fake, const std::vector<PlantedFault>& faults, std::size_t first = 0,
                         const std::vector<PlannedCase>& plan = kPlan) {
  auto report = run_selftest(plan, faults, {.first_cases = first}, fake.runner());
  EXPECT_TRUE(report);
  return report.value_or(SelftestReport{});
}

TEST(Selftest, OneRedRequiredCaseOnEachOperatorKills) {
  FakeRun fake{.red = {{"mutant:a add/N=2,R=1", kBound},
                       {"mutant:b add/N=1,R=1", kBound},
                       {"mutant:b gelu/N=1,R=1", {CaseStatus::kMistrusted, "probable"}}}};
  const SelftestReport report = report_of(fake, {kAddFault, kBothFault});
  EXPECT_TRUE(report.green());
  EXPECT_EQ(report.killed(), 2u);
  EXPECT_EQ(report.control_cases, 4u);
  const FaultCell& cell = report.faults[0].cells[0];
  EXPECT_EQ(cell.cases, 2u);
  EXPECT_EQ(cell.red, 1u);
  EXPECT_EQ(cell.first_case, "add/N=2,R=1");
  EXPECT_EQ(cell.first_check, "bound");
  EXPECT_EQ(report.faults[1].cells[1].checks.at("probable"), 1u);
}

// A plug-in that cannot open its devices would otherwise kill every fault.
TEST(Selftest, ADeviceThatWasNeverOpenedKillsNothing) {
  const std::pair<CaseStatus, std::string> error = {CaseStatus::kError, "outcome"};
  FakeRun fake{.red = {{"mutant:a add/N=1,R=1", error}, {"mutant:a add/N=2,R=1", error}}, .unopened = {"mutant:a"}};
  EXPECT_FALSE(report_of(fake, {kAddFault}).green());
  fake.unopened.clear();
  EXPECT_TRUE(report_of(fake, {kAddFault}).green());
}

TEST(Selftest, ASurvivorIsRed) {
  FakeRun fake{.red = {{"mutant:a add/N=2,R=1", kBound}}};
  const SelftestReport report = report_of(fake, {kAddFault, kBothFault});
  EXPECT_FALSE(report.green());
  EXPECT_EQ(report.killed(), 1u);
  EXPECT_FALSE(report.faults[1].killed());
  EXPECT_THAT(kill_table(report), HasSubstr("SURVIVED"));
  EXPECT_FALSE(to_json(report)["green"].get<bool>());
}

TEST(Selftest, AFaultThatSurvivesOnOneOfItsOperatorsSurvives) {
  FakeRun fake{.red = {{"mutant:b add/N=1,R=1", kBound}}};
  const SelftestReport report = report_of(fake, {kBothFault});
  EXPECT_FALSE(report.green());
  EXPECT_TRUE(report.faults[0].cells[0].killed);
  EXPECT_FALSE(report.faults[0].cells[1].killed);
}

TEST(Selftest, AFalseAlarmOfTheControlIsRedAndItsCaseKillsNothing) {
  FakeRun fake{.red = {{"mutant:honest add/N=2,R=1", kBound}, {"mutant:a add/N=2,R=1", kBound}}};
  const SelftestReport report = report_of(fake, {kAddFault});
  EXPECT_FALSE(report.green());
  EXPECT_THAT(report.false_alarms, ElementsAre(HasSubstr("add/N=2,R=1: FAIL (bound)")));
  EXPECT_FALSE(report.faults[0].killed());
}

TEST(Selftest, AControlWithoutARecordIsAFalseAlarm) {
  FakeRun fake{.red = {{"mutant:a add/N=1,R=1", kBound}}, .absent = {"mutant:honest gelu/N=1,R=1"}};
  const SelftestReport report = report_of(fake, {kAddFault});
  EXPECT_TRUE(report.faults[0].killed());
  EXPECT_FALSE(report.green());
}

TEST(Selftest, NothingIsNeverGreen) {
  FakeRun fake;
  EXPECT_FALSE(report_of(fake, {}).green());
  EXPECT_FALSE(report_of(fake, {kAddFault}, 0, {}).green());
  EXPECT_FALSE(SelftestReport{}.green());
  EXPECT_FALSE(FaultReport{}.killed());
}

TEST(Selftest, AnOperatorWithoutCasesLetsItsFaultsSurvive) {
  FakeRun fake{.red = {{"mutant:b add/N=1,R=1", kBound}}};
  const SelftestReport report = report_of(fake, {kBothFault}, 0, {kPlan[0], kPlan[1]});
  EXPECT_FALSE(report.green());
  EXPECT_EQ(report.faults[0].cells[1].cases, 0u);
}

TEST(Selftest, AMissingRecordAndALostCapabilityAreRed) {
  FakeRun fake{.red = {{"mutant:b gelu/N=1,R=1", {CaseStatus::kUnsupported, "outcome"}}},
               .absent = {"mutant:b add/N=1,R=1"}};
  const SelftestReport report = report_of(fake, {kBothFault});
  EXPECT_TRUE(report.green());
  EXPECT_EQ(report.faults[0].cells[0].first_check, "no record");
  EXPECT_EQ(report.faults[0].cells[1].lost, 1u);
}

TEST(Selftest, OnlySurvivorsMeetTheOtherCasesAndTheControlMeetsAll) {
  FakeRun fake{.red = {{"mutant:a add/N=1,R=1", kBound},
                       {"mutant:a add/N=2,R=1", kBound},
                       {"mutant:b add/N=1,R=1", kBound},
                       {"mutant:b gelu/N=1,R=1", kBound}}};
  const SelftestReport report = report_of(fake, {kAddFault, kBothFault}, 1);
  EXPECT_TRUE(report.green());
  EXPECT_EQ(report.control_cases, 4u);
  EXPECT_EQ(report.faults[0].cells[0].cases, 1u);  // killed by the first of its batches
  EXPECT_EQ(report.faults[1].cells[0].cases, 2u);
  EXPECT_EQ(std::ranges::count(fake.calls, "mutant:a add/N=1,R=1"), 0);
  for (const PlannedCase& c : kPlan) EXPECT_EQ(std::ranges::count(fake.calls, "mutant:honest " + c.id), 1) << c.id;
}

TEST(Selftest, FaultsComeFromTheDevices) {
  DeviceFacts control, fault;
  control.id = kControl;
  fault.id = "mutant:x", fault.name = "is wrong", fault.libraries = "add,gelu";
  const auto all = planted_faults({control, fault}, {});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 1u);
  EXPECT_THAT(all->front().operators, ElementsAre("add", "gelu"));
  EXPECT_EQ(planted_faults({control, fault}, {"x"}).value().size(), 1u);
  EXPECT_EQ(planted_faults({control, fault}, {"y"}).error().code, "selftest.unknown_fault");
  EXPECT_EQ(planted_faults({}, {}).error().kind, ErrorKind::kMissingDevice);
  EXPECT_EQ(planted_faults({fault}, {}).error().code, "selftest.no_plugin");
  fault.libraries.clear();
  EXPECT_EQ(planted_faults({control, fault}, {}).error().code, "selftest.no_operators");
}

}  // namespace
}  // namespace concord::conformance
