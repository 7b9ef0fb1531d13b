// conformance.guard: fails unless every required backend executed its required cases in this CTest run. Skipped tests are green for CTest; here they are not.
//   concord_conformance_guard --tier smoke --records FOLDER [--tested cpu:avx2,cuda,cuda:portable]
// Required are the names of CONCORD_REQUIRE_BACKENDS, or, where it is not set, every available device of this machine that has a required list; with --tested,
// the names that CTest has tests for, those of them that are there and have one. What is not there is printed with its reason.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
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

struct Arguments {
  Tier tier = Tier::kSmoke;
  std::string records;
  std::vector<std::string> tested;  // empty: every device that there is
};

// Available devices with a list.
Result<std::vector<std::string>> listed_devices(const Backends& backends, const std::vector<RequiredList>& lists, Tier tier) {
  std::vector<std::string> listed;
  for (const DeviceFacts& d : backends.devices()) {
    CONCORD_TRY(const auto list, required_for(lists, d.id, tier));
    if (d.available && list) listed.push_back(d.id);
  }
  return listed;
}

// What the user requires, by id: a bare backend stands for each of `usual` that is its own. Each name must stand for one at least: a required device that no
// list covers would be required to do nothing.
Result<std::vector<std::string>> devices_named(const Backends& backends, const std::vector<std::string>& listed, const std::vector<std::string>& usual, Tier tier) {
  std::vector<std::string> out;
  for (const std::string& name : required_backends()) {
    CONCORD_TRY(const std::string id, backends.resolve(name));
    const bool bare = name.find(':') == std::string::npos;
    const std::size_t before = out.size();
    std::ranges::copy_if(bare ? usual : listed, std::back_inserter(out), [&](const std::string& d) { return names_device(bare ? name : id, d); });
    if (out.size() == before)
      return fail(ErrorKind::kNothingRun, "guard.no_list",
                  fmt::format("CONCORD_REQUIRE_BACKENDS names {}, which has no required list in the tier {}; make one with concord plan --lock", name, tier_name(tier)));
  }
  return out;
}

// Of the devices that CTest has tests for, those that must have run; the others are printed, because CTest shows a skipped test in green.
std::vector<std::string> devices_tested(const Backends& backends, const std::vector<std::string>& tested, const std::vector<std::string>& listed) {
  std::vector<std::string> out;
  for (const std::string& name : tested) {
    const auto id = backends.resolve(name);
    if (!id) fmt::print("SKIPPED {}: {}\n", name, id.error().message);
    else if (std::ranges::find(listed, *id) == listed.end()) fmt::print("NOT REQUIRED {}: no list says what {} must pass\n", name, *id);
    else out.push_back(*id);
  }
  for (const std::string& id : listed)
    if (std::ranges::find(out, id) == out.end()) fmt::print("NOT TESTED {}: it is there and has a list, but no test of its own\n", id);
  return out;
}

Result<std::vector<std::string>> devices_required(const Backends& backends, const std::vector<RequiredList>& lists, const Arguments& a) {
  CONCORD_TRY(const auto listed, listed_devices(backends, lists, a.tier));
  std::vector<std::string> out = a.tested.empty() ? listed : devices_tested(backends, a.tested, listed);
  CONCORD_TRY(std::vector<std::string> named, devices_named(backends, listed, out, a.tier));
  if (!named.empty()) out = std::move(named);
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
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

Result<int> guard(const Arguments& a) {
  const Tier tier = a.tier;
  CONCORD_TRY(const auto lists, load_required());
  CONCORD_TRY(const auto devices, devices_required(Backends::discover(), lists, a));
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  CONCORD_TRY(const auto plan, select(suite, Selection{.tier = tier, .ids = {}, .families = {}, .operators = {}, .pattern = {}, .axes = {}}));
  CONCORD_TRY(const auto rules, rules_of(lists, devices, tier));
  CONCORD_TRY(const auto records, records_of(a.records, {devices.begin(), devices.end()}, tier, rules));
  const Verdict verdict = judge_records(devices, plan, records, lists, tier);
  for (const DeviceVerdict& d : verdict.devices) {
    fmt::print("{}\n", d.line());
    for (std::size_t i = 0; i < std::min<std::size_t>(d.missing.size(), 10); ++i) fmt::print("    not executed or not good: {}\n", d.missing[i]);
  }
  fmt::print("{}\n", verdict.line);
  if (records.empty()) fmt::print("no record in {}: run the whole label, ctest -L conformance\n", a.records);
  return verdict.green ? exit_codes::kOk : verdict.exit != 0 ? verdict.exit : exit_codes::kNothingRun;
}

Result<Arguments> parse(int argc, char** argv) {
  std::map<std::string, std::string> values;
  for (int i = 1; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  Arguments a{.tier = {}, .records = values["--records"], .tested = split(values["--tested"])};
  const bool all_known = values.size() == 3 && (argc == 5 || argc == 7);
  if (!all_known || a.records.empty() || (argc == 7) == a.tested.empty())
    return fail(ErrorKind::kUsage, "guard.usage", "expected --tier TIER --records FOLDER [--tested NAME,NAME]");
  CONCORD_TRY(a.tier, tier_from_name(values["--tier"]));
  return a;
}

int run(int argc, char** argv) {
  const auto complain = [](const Error& e) {
    fmt::print(stderr, "{}\n", e.to_string());
    return exit_code(e.kind);
  };
  const auto a = parse(argc, argv);
  if (!a) return complain(a.error());
  const auto code = guard(*a);
  return code ? *code : complain(code.error());
}

}  // namespace
}  // namespace concord::conformance

int main(int argc, char** argv) { return concord::conformance::run(argc, argv); }
