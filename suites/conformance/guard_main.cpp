// conformance.guard: fails unless every required backend executed its required cases in this CTest run. Skipped tests are green for CTest; here they are not.
//   concord_conformance_guard --tier smoke --records FOLDER
// Required are the names of CONCORD_REQUIRE_BACKENDS, or, where it is not set, every available device of this machine that has a required list.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "conformance/bundle/recheck.hpp"
#include "conformance/run/verdict.hpp"
#include "conformance/suite/suite.hpp"
#include "device/device.hpp"
#include "device/provenance.hpp"
#include "required_backends.hpp"

namespace concord::conformance {
namespace {

namespace fs = std::filesystem;

bool is_of(const std::string& device, const std::string& name) { return device == name || device.starts_with(name + ":"); }

// Devices that must have run. A bare backend stands for each of its available devices that has a list. Each name must stand for one at least: a required
// device that no list covers would be required to do nothing.
Result<std::vector<std::string>> devices_required(const Backends& backends, const std::vector<RequiredList>& lists, Tier tier) {
  std::vector<std::string> listed, out;
  for (const DeviceFacts& d : backends.devices()) {
    CONCORD_TRY(const auto list, required_for(lists, d.id, tier));
    if (d.available && list) listed.push_back(d.id);
  }
  const std::vector<std::string> names = required_backends();
  for (const std::string& name : names) {
    if (const auto id = backends.resolve(name); !id) return std::unexpected(id.error());
    if (std::ranges::none_of(listed, [&](const std::string& d) { return is_of(d, name); }))
      return fail(ErrorKind::kNothingRun, "guard.no_list",
                  fmt::format("CONCORD_REQUIRE_BACKENDS names {}, which has no required list in the tier {}; make one with concord plan --lock", name, tier_name(tier)));
  }
  std::ranges::copy_if(listed, std::back_inserter(out), [&](const std::string& d) { return names.empty() || requires_backend(d); });
  if (out.empty()) return fail(ErrorKind::kNothingRun, "guard.nothing", "no available device has a required-case list: nothing could be guarded");
  return out;
}

Result<std::vector<CaseRecord>> records_of(const std::string& folder, const std::set<std::string>& devices, Tier tier, const RecheckRules& rules) {
  std::vector<CaseRecord> all;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    if (!it->path().filename().string().ends_with(std::string(".") + tier_name(tier))) continue;
    CONCORD_TRY(CaseJournal journal, read_case_journal((it->path() / "cases.jsonl").string()));
    for (CaseRecord& r : journal.records)
      if (devices.contains(r.device)) all.push_back(std::move(r));
  }
  CONCORD_CHECK(recheck(all, rules, folder));
  return all;
}

// What the tests were judged by.
Result<RecheckRules> rules_of(const std::vector<RequiredList>& lists, const std::vector<std::string>& devices, Tier tier) {
  RecheckRules rules{.waivers = {}, .witness = {}, .seed = 0, .today = utc_now().substr(0, 10)};
  CONCORD_TRY(rules.waivers, load_waivers());
  for (const std::string& device : devices) {
    CONCORD_TRY(const auto list, required_for(lists, device, tier));
    if (list) rules.witness[device] = list->witness_for(device);
  }
  return rules;
}

Result<int> guard(Tier tier, const std::string& folder) {
  CONCORD_TRY(const auto lists, load_required());
  CONCORD_TRY(const auto devices, devices_required(Backends::discover(), lists, tier));
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  CONCORD_TRY(const auto plan, select(suite, Selection{.tier = tier, .ids = {}, .families = {}, .operators = {}, .pattern = {}, .axes = {}}));
  CONCORD_TRY(const auto rules, rules_of(lists, devices, tier));
  CONCORD_TRY(const auto records, records_of(folder, {devices.begin(), devices.end()}, tier, rules));
  const Verdict verdict = judge_records(devices, plan, records, lists, tier);
  for (const DeviceVerdict& d : verdict.devices) {
    fmt::print("{}\n", d.line());
    for (std::size_t i = 0; i < std::min<std::size_t>(d.missing.size(), 10); ++i) fmt::print("    not executed or not good: {}\n", d.missing[i]);
  }
  fmt::print("{}\n", verdict.line);
  if (records.empty()) fmt::print("no record in {}: run the whole label, ctest -L conformance\n", folder);
  return verdict.green ? exit_codes::kOk : verdict.exit != 0 ? verdict.exit : exit_codes::kNothingRun;
}

int run(int argc, char** argv) {
  const auto complain = [](const Error& e) {
    fmt::print(stderr, "{}\n", e.to_string());
    return exit_code(e.kind);
  };
  if (argc != 5 || std::string(argv[1]) != "--tier" || std::string(argv[3]) != "--records")
    return complain({.kind = ErrorKind::kUsage, .code = "guard.usage", .message = "expected --tier TIER --records FOLDER", .file = {}, .offset = {}});
  const auto tier = tier_from_name(argv[2]);
  if (!tier) return complain(tier.error());
  const auto code = guard(*tier, argv[4]);
  return code ? *code : complain(code.error());
}

}  // namespace
}  // namespace concord::conformance

int main(int argc, char** argv) { return concord::conformance::run(argc, argv); }
