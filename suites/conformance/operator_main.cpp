// The cases of one operator family and tier on one device as GoogleTest tests. The work is done by run_cases(), in workers, before the tests report it.
//   concord_operator_test --device cpu:avx2 --family matmul --tier smoke --records FOLDER
// The family "all" is all of them. A device may be named as on the command line (cuda, cuda:portable); lists, records and the guard know it by its id.
// Exit codes: GoogleTest's 0 and 1; 77 the device is not there (3 where CONCORD_REQUIRE_BACKENDS names it), 5 nothing was executed, 2 wrong use.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "conformance/run/verdict.hpp"
#include "conformance/suite/suite.hpp"
#include "device/provenance.hpp"
#include "report/conformance_summary.hpp"
#include "required_backends.hpp"

namespace concord::conformance {
namespace {

struct Arguments {
  std::string device, family, records;  // device: as named, and once it is found its id
  Tier tier = Tier::kSmoke;
};

Result<Arguments> parse(int argc, char** argv) {
  std::map<std::string, std::string> values;
  for (int i = 1; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  Arguments a{.device = values["--device"], .family = values["--family"], .records = values["--records"]};
  if (argc != 9 || a.device.empty() || a.family.empty() || a.records.empty())
    return fail(ErrorKind::kUsage, "test.usage", "expected --device ID --family NAME --tier TIER --records FOLDER");
  CONCORD_TRY(a.tier, tier_from_name(values["--tier"]));
  return a;
}

// What the tests report.
struct Outcome {
  std::vector<PlannedCase> plan;
  std::map<std::string, CaseRecord> records;
  std::set<std::string> required;
};

Result<Outcome> execute(const Arguments& a) {
  Outcome out;
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  Selection selection{.tier = a.tier, .ids = {}, .families = {}, .operators = {}, .pattern = {}, .axes = {}};
  if (a.family != "all") selection.families = {a.family};
  CONCORD_TRY(out.plan, select(suite, selection));
  CONCORD_TRY(const auto lists, load_required());
  CONCORD_TRY(const auto list, required_for(lists, a.device, a.tier));
  SessionSettings settings;
  settings.program = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "concord").string();
  settings.devices = {a.device}, settings.folder = (std::filesystem::path(a.records) / fmt::format("{}.{}.{}", a.device, a.family, tier_name(a.tier))).string();
  settings.today = utc_now().substr(0, 10);
  CONCORD_TRY(settings.waivers, load_waivers());
  if (list) {
    out.required.insert(list->ids.begin(), list->ids.end());
    settings.witness = {{a.device, list->witness_for(a.device)}};
  }
  std::filesystem::remove_all(settings.folder);
  std::atomic<bool> never_stop{false};
  CONCORD_TRY(const auto records, run_cases(out.plan, {}, settings, {}, never_stop));
  for (const CaseRecord& r : records) out.records[r.id] = r;
  return out;
}

// One case: PASS and WAIVED pass, an UNSUPPORTED case that is not required is skipped with its reason, anything else fails.
class CaseTest : public ::testing::Test {
 public:
  CaseTest(const Outcome& outcome, std::string id) : outcome_(outcome), id_(std::move(id)) {}
  void TestBody() override {
    const auto it = outcome_.records.find(id_);
    if (it == outcome_.records.end()) {
      ADD_FAILURE() << "NOT_RUN " << id_ << ": the case was planned and left no record";
      return;
    }
    const CaseRecord& r = it->second;
    RecordProperty("case_status", status_name(r.status));
    RecordProperty("kernel", r.evidence.kernel);
    RecordProperty("margin", fmt::format("{}", margin_of(r)));
    if (r.status == CaseStatus::kUnsupported && !outcome_.required.contains(id_)) GTEST_SKIP() << r.reason;
    if (!is_good(r)) ADD_FAILURE() << failure_text(r);
  }

 private:
  const Outcome& outcome_;
  std::string id_;
};

// Filters and shards of GoogleTest, in its environment variables too, leave tests out and call the rest a success.
class Counter : public ::testing::EmptyTestEventListener {
 public:
  explicit Counter(std::set<std::string>& seen) : seen_(seen) {}
  void OnTestEnd(const ::testing::TestInfo& test) override { seen_.insert(test.name()); }

 private:
  std::set<std::string>& seen_;
};

int report(const Outcome& outcome, const Arguments& a) {
  for (const PlannedCase& c : outcome.plan)
    ::testing::RegisterTest(a.device.c_str(), c.id.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [&outcome, id = c.id]() -> ::testing::Test* { return new CaseTest(outcome, id); });
  std::set<std::string> reported;
  ::testing::UnitTest::GetInstance()->listeners().Append(new Counter(reported));
  const int code = RUN_ALL_TESTS();
  std::size_t executed = 0;
  for (const auto& [id, r] : outcome.records) executed += r.status != CaseStatus::kUnsupported && r.status != CaseStatus::kNotRun;
  fmt::print("{} of {} cases of {} executed on {}\n", executed, outcome.plan.size(), a.family, a.device);
  if (code == 0 && reported.size() != outcome.plan.size()) {
    fmt::print("only {} of {} cases were reported: a filter or shard of GoogleTest (GTEST_FILTER, GTEST_TOTAL_SHARDS, GTEST_REPEAT) left out the others\n",
               reported.size(), outcome.plan.size());
    return exit_codes::kNothingRun;
  }
  if (code == 0 && executed == 0) {  // a test run without a test must not be green
    fmt::print("nothing was executed: every case is unsupported\n");
    return outcome.required.empty() ? exit_codes::kSkipped : exit_codes::kNothingRun;
  }
  return code;
}

int run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const auto complain = [](const Error& e) {
    fmt::print(stderr, "{}\n", e.to_string());
    return exit_code(e.kind);
  };
  auto a = parse(argc, argv);
  if (!a) return complain(a.error());
  const auto id = Backends::discover().resolve(a->device);
  if (!id) {
    if (requires_backend(a->device)) return complain(id.error());
    fmt::print("SKIPPED: {}\n", id.error().message);
    return exit_codes::kSkipped;
  }
  if (*id != a->device) fmt::print("{} is {}\n", a->device, *id);
  a->device = *id;
  const auto outcome = execute(*a);
  if (!outcome) return complain(outcome.error());
  return report(*outcome, *a);
}

}  // namespace
}  // namespace concord::conformance

int main(int argc, char** argv) { return concord::conformance::run(argc, argv); }
