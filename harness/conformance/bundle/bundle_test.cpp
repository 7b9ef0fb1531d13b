// Bundles of honest runs: made, judged, and judged under other lists, waivers and days.
#include "conformance/bundle/bundle_testing.hpp"

namespace concord::conformance::bundle_testing {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kWaivers =
    R"({"schema":"concord.waivers/1","waivers":[{"id":"known-add","cases":"add/N=33*","devices":["test:oracle"],"statuses":["FAIL"],
  "bound":1000000,"reason":"off by a hundredth","link":"https://example.org/1","expires":"%s"}]})";
std::string waivers_until(const std::string& day) {
  return std::string(kWaivers).replace(std::string(kWaivers).find("%s"), 2, day);
}

TEST_F(BundleTest, ARunWithItsOutputsIsDerivedAgainFromThem) {
  const auto judged = judge(bundle(true));
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->contradictions, IsEmpty());
  EXPECT_THAT(judged->doubts, IsEmpty());
  EXPECT_EQ(judged->from_outputs, kIds.size());
  EXPECT_TRUE(judged->verdict.green);
  EXPECT_EQ(judged->verdict.exit, exit_codes::kOk);
  EXPECT_EQ(judged->verdict.line, "GREEN: 5 executed of 5 required on test:oracle (The oracle itself)");
}

TEST_F(BundleTest, WithoutOutputsTheOracleIsAskedForTheWorstElement) {
  const auto judged = judge(bundle(false));
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->contradictions, IsEmpty());
  EXPECT_EQ(judged->from_oracle, kIds.size() - 1);  // a refused case has no numbers
  EXPECT_EQ(judged->from_numbers, 1u);
  EXPECT_TRUE(judged->verdict.green);
}

TEST_F(BundleTest, NothingIsComputedAgainWhereThatIsNotAsked) {
  const std::string made = bundle(false);
  EXPECT_EQ(judge(made, {.recompute = Recompute::kNone})->from_numbers, kIds.size());
  EXPECT_EQ(judge(made, {.cost_limit = 1})->from_numbers, kIds.size());
  EXPECT_EQ(judge(made, {.recompute = Recompute::kAll, .cost_limit = 1})->from_numbers, 1u);
}

TEST_F(BundleTest, AFailureStaysAFailure) {
  for (const bool save : {false, true}) {
    const auto judged = judge(bundle(save, {kIds[0]}));
    ASSERT_TRUE(judged) << judged.error().to_string();
    EXPECT_THAT(judged->contradictions, IsEmpty());
    EXPECT_FALSE(judged->verdict.green);
    EXPECT_EQ(judged->verdict.exit, exit_codes::kConformance);
    EXPECT_THAT(judged->verdict.devices.front().missing, ElementsAre(kIds[0]));
  }
}

TEST_F(BundleTest, AnotherSeedIsNeverGreen) {
  const auto judged = judge(bundle(true, {}, {.seed = 7}));
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->contradictions, IsEmpty());
  EXPECT_THAT(judged->verdict.line, HasSubstr("PARTIAL"));
  EXPECT_EQ(judged->verdict.exit, exit_codes::kNothingRun);
}

TEST_F(BundleTest, AListThatIsNotOursIsNamedAndTrustedOnRequestOnly) {
  const std::string made = bundle(true);
  fs::remove(folder_ / "suites/required/test.smoke.lock");
  const auto judged = judge(made);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->doubts, ElementsAre(HasSubstr("test.smoke (5 cases) is not one of this program's")));
  EXPECT_EQ(judged->verdict.exit, exit_codes::kNothingRun);
  write_list(folder_ / "trusted", kIds);
  EXPECT_TRUE(judge(made, {.lists = (folder_ / "trusted").string()})->verdict.green);
}

TEST_F(BundleTest, ADeviceWithoutAClaimIsJudgedByOurList) {
  fs::rename(folder_ / "suites/required/test.smoke.lock", folder_ / "kept");
  const std::string made = bundle(true);
  EXPECT_EQ(judge(made)->verdict.exit, exit_codes::kNothingRun);  // no list at all
  fs::rename(folder_ / "kept", folder_ / "suites/required/test.smoke.lock");
  const auto judged = judge(made);
  EXPECT_TRUE(judged->verdict.green);
  EXPECT_THAT(judged->notes, Contains(HasSubstr("claims no required list; judged by this program's test.smoke")));
}

TEST_F(BundleTest, AWaiverCountsUntilItsLastDay) {
  write_text(folder_ / "suites/waivers/known.json", waivers_until("2099-12-31"));
  const std::string made = bundle(true, {kIds[0]}, {.waivers = load_waivers().value()});
  EXPECT_TRUE(judge(made)->verdict.green) << judge(made)->verdict.line;
  const auto later = judge(made, {.today = "2100-01-01"});
  EXPECT_THAT(later->contradictions, IsEmpty());
  EXPECT_EQ(later->verdict.exit, exit_codes::kConformance);
  EXPECT_THAT(later->notes, Contains(HasSubstr("has expired since")));
}

TEST_F(BundleTest, AWaiverThatIsNotOursExcusesNothing) {
  write_text(folder_ / "suites/waivers/known.json", waivers_until("2099-12-31"));
  const std::string made = bundle(true, {kIds[0]}, {.waivers = load_waivers().value()});
  fs::create_directories(folder_ / "trusted");
  fs::rename(folder_ / "suites/waivers/known.json", folder_ / "trusted/known.json");
  const auto judged = judge(made);
  EXPECT_THAT(judged->doubts, ElementsAre(HasSubstr("excused by the waiver known-add")));
  EXPECT_EQ(judged->verdict.exit, exit_codes::kNothingRun);
  EXPECT_TRUE(judge(made, {.waivers = (folder_ / "trusted").string()})->verdict.green);
}

TEST_F(BundleTest, SeveralBundlesAreOneTableAndTheWorstDecides) {
  std::vector<JudgedBundle> both;
  both.push_back(judge(bundle(true)).value());
  EXPECT_TRUE(join_verdicts(both).green);
  both.push_back(judge(bundle(true, {kIds[0]})).value());
  const Verdict all = join_verdicts(both);
  EXPECT_EQ(all.devices.size(), 2u);
  EXPECT_EQ(all.exit, exit_codes::kConformance);
  EXPECT_THAT(all.line, HasSubstr("RED: 5 executed of 5"));
  EXPECT_EQ(join_verdicts({}).exit, exit_codes::kNothingRun);
}

// --- submit ----------------------------------------------------------------------------------------------------------

class SubmitTest : public BundleTest {
 protected:
  std::string refused(const fs::path& run, const std::string& out = "bundle") const {
    const auto made = submit_run({.run = run.string(), .out = (folder_ / out).string(), .statement = {}});
    EXPECT_EQ(std::ranges::count_if(fs::directory_iterator(folder_),
                                    [](const auto& e) { return e.path().string().contains(".tmp."); }),
              0);
    return made ? "made" : made.error().code;
  }
};

TEST_F(SubmitTest, RefusesJournalsThatAreNotOneFinishedRun) {
  const fs::path run = run_folder({}, true), journal = run / "cases.jsonl";
  const std::string whole = text_of(journal), last = whole.substr(whole.rfind('\n', whole.size() - 2) + 1);
  write_text(journal, whole.substr(0, whole.size() - 5));
  EXPECT_EQ(refused(run), "submit.torn");
  write_text(journal, whole.substr(0, whole.size() - last.size()));
  EXPECT_EQ(refused(run), "submit.unfinished");
  write_text(journal, whole + last);
  EXPECT_EQ(refused(run), "bundle.duplicate_record");
  write_text(journal, "");
  EXPECT_EQ(refused(run), "submit.empty");
  write_text(journal, whole);
  EXPECT_EQ(refused(run), "made");
  EXPECT_EQ(refused(run), "submit.target_exists");
  EXPECT_EQ(refused(run, "bundle/"), "submit.target_exists");
}

TEST_F(SubmitTest, RefusesRecordsOfOtherSeedsMachinesProgramsAndStatuses) {
  const fs::path run = run_folder({}, true);
  const std::string whole = text_of(run / "cases.jsonl");
  const auto with = [&](const std::function<void(CaseRecord&)>& change) {
    auto records = parse_case_journal(whole, "test").value().records;
    change(records.back());
    write_records(run.string(), records);
    return refused(run);
  };
  EXPECT_EQ(with([](CaseRecord& r) { r.body["seed"] = 3; }), "submit.mixed");
  EXPECT_EQ(with([](CaseRecord& r) { r.body["machine"]["cores"] = 12345; }), "submit.mixed");
  EXPECT_EQ(with([](CaseRecord& r) { r.body["program"]["commit"] = "0000"; }), "submit.mixed");
  EXPECT_EQ(with([](CaseRecord& r) { r.body["facts"]["name"] = "Another"; }), "submit.mixed");
  EXPECT_EQ(with([](CaseRecord& r) { r.status = CaseStatus::kFail, r.check = "bound"; }), "submit.inconsistent");
  std::vector<CaseRecord> records = parse_case_journal(whole, "test").value().records;
  for (CaseRecord& r : records) r.body["program"]["commit"] = "0000";
  write_records(run.string(), records);
  EXPECT_EQ(refused(run), "submit.other_program");
}

}  // namespace
}  // namespace concord::conformance::bundle_testing
