#include "conformance/run/verdict.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace concord::conformance {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const std::vector<std::string> kIds = {"add/N=1,R=1,in=uniform,place=0,x=f32", "add/N=2,R=1,in=uniform,place=0,x=f32",
                                       "add/N=3,R=1,in=uniform,place=0,x=f32"};
const std::string kDevice = "cpu:avx2";

std::vector<PlannedCase> plan_of(const std::vector<std::string>& ids) {
  std::vector<PlannedCase> plan;
  for (const std::string& id : ids) plan.push_back({.spec = *CaseSpec::parse(id), .id = id, .family = "activation"});
  return plan;
}

RequiredList list_of(const std::vector<std::string>& ids) {
  RequiredList l;
  l.file = "cpu-smoke.lock", l.name = "cpu-smoke", l.devices = {"cpu:*"}, l.ids = ids, l.digest = ids_digest(ids);
  return l;
}

CaseRecord record_of(const std::string& id, CaseStatus status = CaseStatus::kPass,
                     const std::string& device = kDevice) {
  CaseRecord r;
  r.id = id, r.device = device, r.status = status;
  r.body = {{"facts", {{"name", "AMD EPYC"}}}};
  if (status == CaseStatus::kWaived) r.waiver = "known";
  return r;
}

std::vector<CaseRecord> passes() { return {record_of(kIds[0]), record_of(kIds[1]), record_of(kIds[2])}; }

Verdict judge(const std::vector<CaseRecord>& records, const std::vector<std::string>& planned = kIds,
              const std::vector<std::string>& required = kIds) {
  return judge_records({kDevice}, plan_of(planned), records, {list_of(required)}, Tier::kSmoke);
}

TEST(Verdict, GreenSaysHowManyAndWhere) {
  const Verdict v = judge(passes());
  EXPECT_TRUE(v.green);
  EXPECT_EQ(v.exit, 0);
  EXPECT_EQ(v.line, "GREEN: 3 executed of 3 required on cpu:avx2 (AMD EPYC)");
  EXPECT_EQ(v.devices[0].counts.at(CaseStatus::kPass), 3u);
}

// One record is changed; whatever it is, only PASS and a valid WAIVED leave the run green.
TEST(Verdict, EveryStatusOfARequiredCase) {
  struct Row {
    CaseStatus status;
    bool green;
    int exit;
  };
  const Row kRows[] = {{CaseStatus::kPass, true, 0},
                       {CaseStatus::kWaived, true, 0},
                       {CaseStatus::kFail, false, 1},
                       {CaseStatus::kError, false, 1},
                       {CaseStatus::kCrash, false, 1},
                       {CaseStatus::kTimeout, false, 1},
                       {CaseStatus::kOom, false, 1},
                       {CaseStatus::kXPass, false, 1},
                       {CaseStatus::kMistrusted, false, 1},
                       {CaseStatus::kUnsupported, false, 1},
                       {CaseStatus::kNondeterministic, false, 1},
                       {CaseStatus::kInconclusive, false, 1},
                       {CaseStatus::kSkipped, false, 5},
                       {CaseStatus::kNotRun, false, 5}};
  for (const Row& row : kRows) {
    SCOPED_TRACE(status_name(row.status));
    auto records = passes();
    records[1] = record_of(kIds[1], row.status);
    const Verdict v = judge(records);
    EXPECT_EQ(v.green, row.green);
    EXPECT_EQ(v.exit, row.exit);
    EXPECT_THAT(v.line, StartsWith(row.green ? "GREEN" : "RED"));
    EXPECT_EQ(v.devices[0].executed, row.green ? 3u : 2u);
    if (!row.green) {
      EXPECT_THAT(v.devices[0].missing, ElementsAre(kIds[1]));
    }
  }
}

TEST(Verdict, ALostCapabilityIsNamed) {
  auto records = passes();
  records[2].status = CaseStatus::kUnsupported;
  EXPECT_THAT(judge(records).devices[0].lost, ElementsAre(kIds[2]));
  EXPECT_TRUE(judge(passes()).devices[0].lost.empty());
}

TEST(Verdict, AFailureBesideTheRequiredCasesIsRed) {
  auto records = passes();
  records[2].status = CaseStatus::kFail;
  const Verdict v = judge(records, kIds, {kIds[0], kIds[1]});
  EXPECT_EQ(v.devices[0].executed, 2u);
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 1);
  records[2].status = CaseStatus::kUnsupported;  // nobody required it
  EXPECT_TRUE(judge(records, kIds, {kIds[0], kIds[1]}).green);
}

TEST(Verdict, AMissingRecordIsNotGreen) {
  auto records = passes();
  records.pop_back();
  EXPECT_EQ(judge(records).exit, 5);
  EXPECT_THAT(judge(records).line, StartsWith("RED: 2 executed of 3 required"));
  EXPECT_EQ(judge({}).exit, 5);
  EXPECT_EQ(judge({}).devices[0].counts.at(CaseStatus::kNotRun), 3u);
}

TEST(Verdict, ASelectionIsPartialAtBest) {
  const Verdict v = judge({record_of(kIds[0])}, {kIds[0]});
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 0);
  EXPECT_EQ(v.line, "PARTIAL: 1 executed of 1 selected on cpu:avx2 (AMD EPYC), which are 1 of 3 required");
  EXPECT_EQ(judge({record_of(kIds[0], CaseStatus::kFail)}, {kIds[0]}).exit, 1);
  EXPECT_EQ(judge(passes(), {kIds[0]}).devices[0].executed, 1u) << "records outside the selection do not count";
}

TEST(Verdict, WithoutAListItIsPartialAndSaysSo) {
  const Verdict v = judge_records({kDevice}, plan_of(kIds), passes(), {}, Tier::kSmoke);
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 0);
  EXPECT_EQ(v.line, "PARTIAL: 3 executed of 3 planned on cpu:avx2 (AMD EPYC), no required list");
  EXPECT_FALSE(judge_records({kDevice}, plan_of(kIds), passes(), {list_of(kIds)}, Tier::kFull).green)
      << "a list of another tier";
}

TEST(Verdict, AnEmptyListIsNotGreen) {
  const Verdict v = judge(passes(), kIds, {});
  EXPECT_FALSE(v.green);
}

TEST(Verdict, TwoListsForOneDeviceAreNotGreen) {
  const Verdict v = judge_records({kDevice}, plan_of(kIds), passes(), {list_of(kIds), list_of(kIds)}, Tier::kSmoke);
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 5);
}

TEST(Verdict, NothingExecuted) {
  EXPECT_EQ(judge_records({}, plan_of(kIds), passes(), {list_of(kIds)}, Tier::kSmoke).exit, 5);
  EXPECT_FALSE(judge_records({}, plan_of(kIds), passes(), {list_of(kIds)}, Tier::kSmoke).green);
  EXPECT_EQ(judge_records({kDevice}, {}, {}, {}, Tier::kSmoke).exit, 5);
  std::vector<CaseRecord> records;
  for (const std::string& id : kIds) records.push_back(record_of(id, CaseStatus::kUnsupported));
  EXPECT_EQ(judge_records({kDevice}, plan_of(kIds), records, {}, Tier::kSmoke).exit, 5);
}

TEST(Verdict, RecordsOfAnotherDeviceDoNotCount) {
  std::vector<CaseRecord> records;
  for (const std::string& id : kIds) records.push_back(record_of(id, CaseStatus::kPass, "cpu:strict"));
  EXPECT_EQ(judge(records).exit, 5);
}

TEST(Verdict, TheWorstDeviceDecides) {
  auto records = passes();
  const Verdict v = judge_records({kDevice, "cpu:strict"}, plan_of(kIds), records, {list_of(kIds)}, Tier::kSmoke);
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 5);
  EXPECT_EQ(v.devices[0].exit, 0);
  for (const std::string& id : kIds) records.push_back(record_of(id, CaseStatus::kPass, "cpu:strict"));
  EXPECT_TRUE(judge_records({kDevice, "cpu:strict"}, plan_of(kIds), records, {list_of(kIds)}, Tier::kSmoke).green);
  records.back().status = CaseStatus::kFail;
  const Verdict failed =
      judge_records({"gpu:absent", kDevice, "cpu:strict"}, plan_of(kIds), records, {list_of(kIds)}, Tier::kSmoke);
  EXPECT_EQ(failed.exit, 1) << "a failure comes before a device without records";
}

TEST(Verdict, ExpiredWaiversAreRedEvenWhereTheCasePasses) {
  auto records = passes();
  records[0].waiver = "old", records[0].waiver_expired = true;
  const Verdict v = judge(records);
  EXPECT_FALSE(v.green);
  EXPECT_EQ(v.exit, 1);
  EXPECT_THAT(v.devices[0].expired, ElementsAre(kIds[0] + " (old)"));
}

TEST(Verdict, AWaivedRecordWithoutAWaiverIsAFailure) {
  auto records = passes();
  records[0].status = CaseStatus::kWaived;
  EXPECT_EQ(judge(records).exit, 1);
}

TEST(Verdict, OfTwoRecordsTheWorseCounts) {
  for (const bool failure_first : {true, false}) {
    auto records = passes();
    records.insert(failure_first ? records.begin() : records.end(), record_of(kIds[0], CaseStatus::kFail));
    EXPECT_EQ(judge(records).exit, 1);
  }
}

}  // namespace
}  // namespace concord::conformance
