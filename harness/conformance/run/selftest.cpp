#include "conformance/run/selftest.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/text.hpp"

namespace concord::conformance {
namespace {

constexpr std::string_view kPrefix = "mutant:";

std::vector<std::string> words(std::string_view list) {
  std::vector<std::string> found;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    if (comma > at) found.emplace_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return found;
}

using RecordMap = std::map<std::string, const CaseRecord*>;  // by CaseRecord::key()
RecordMap by_key(const std::vector<CaseRecord>& records) {
  RecordMap map;
  for (const CaseRecord& r : records) map[r.key()] = &r;
  return map;
}
const CaseRecord* find(const RecordMap& map, const std::string& device, const std::string& id) {
  const auto it = map.find(device + " " + id);
  return it == map.end() ? nullptr : it->second;
}

// The control's part of a batch: what it got wrong, and the list of what a device must now do as well as it.
RequiredList require_what_control_passed(const std::vector<PlannedCase>& plan, const RecordMap& records, Tier tier,
                                         SelftestReport& report) {
  RequiredList list{.name = "selftest", .devices = {"mutant:*"}, .tier = tier, .witness = kMutantWitness};
  for (const PlannedCase& c : plan) {
    ++report.control_cases;
    const CaseRecord* r = find(records, kControl, c.id);
    if (r && r->status == CaseStatus::kPass)
      list.ids.push_back(c.id);
    else
      report.false_alarms.push_back(
          r ? fmt::format("{}: {} ({}): {}", c.id, status_name(r->status), r->check, r->reason)
            : c.id + ": there is no record");
  }
  std::ranges::sort(list.ids);
  list.digest = ids_digest(list.ids);
  return list;
}

// A device whose worker never started was not tested at all, whatever became of its cases.
bool was_opened(const CaseRecord& r) { return r.body.contains("facts") && r.body["facts"].is_object(); }

void add_verdict(FaultCell& cell, const std::vector<PlannedCase>& plan, const RecordMap& records,
                 const DeviceVerdict& verdict) {
  cell.cases += verdict.required;
  cell.red += verdict.missing.size();
  cell.lost += verdict.lost.size();
  const std::set<std::string> red(verdict.missing.begin(), verdict.missing.end());
  bool seen = false;  // a required case that the device had a part in
  for (const PlannedCase& c : plan) {
    if (!red.contains(c.id)) continue;
    const CaseRecord* r = find(records, verdict.device, c.id);
    const std::string check = r ? r->check : "no record";
    seen = seen || !r || was_opened(*r);
    ++cell.checks[check];
    if (cell.first_case.empty()) cell.first_case = c.id, cell.first_check = check;
  }
  // Both: a verdict that is red for another reason than a required case kills nothing.
  cell.killed = cell.killed || (verdict.exit != exit_codes::kOk && seen);
}

// The faults' cells of one operator, batch by batch.
class OperatorRun {
 public:
  OperatorRun(std::string op, std::vector<FaultCell*> cells, std::vector<std::string> devices)
      : op_(std::move(op)), cells_(std::move(cells)), devices_(std::move(devices)) {}

  Status batch(const std::vector<PlannedCase>& plan, const SelftestSettings& settings, const CaseRunner& run,
               SelftestReport& report) {
    std::vector<std::string> devices = {kControl};
    for (std::size_t i = 0; i < cells_.size(); ++i)
      if (!cells_[i]->killed) devices.push_back(devices_[i]);
    if (settings.before) settings.before(op_, plan.size(), devices.size() - 1);
    CONCORD_TRY(const std::vector<CaseRecord> records, run(plan, devices));
    const RecordMap map = by_key(records);
    const RequiredList list = require_what_control_passed(plan, map, settings.tier, report);
    devices.erase(devices.begin());
    if (list.ids.empty() || devices.empty()) return {};  // nothing can be killed
    std::vector<PlannedCase> required;
    std::ranges::copy_if(plan, std::back_inserter(required),
                         [&](const PlannedCase& c) { return std::ranges::binary_search(list.ids, c.id); });
    const Verdict verdict = judge_records(devices, required, of_required(records, list), {list}, settings.tier);
    for (const DeviceVerdict& v : verdict.devices)
      for (std::size_t i = 0; i < cells_.size(); ++i)
        if (devices_[i] == v.device) add_verdict(*cells_[i], required, map, v);
    return {};
  }

 private:
  static std::vector<CaseRecord> of_required(const std::vector<CaseRecord>& records, const RequiredList& list) {
    std::vector<CaseRecord> kept;
    for (const CaseRecord& r : records)
      if (r.device != kControl && std::ranges::binary_search(list.ids, r.id)) kept.push_back(r);
    return kept;
  }

  std::string op_;
  std::vector<FaultCell*> cells_;
  std::vector<std::string> devices_;
};

// The first cases of a plan: spread evenly over it, so that every kind of case has its part.
std::pair<std::vector<PlannedCase>, std::vector<PlannedCase>> divide(const std::vector<PlannedCase>& plan,
                                                                     std::size_t first) {
  if (first == 0 || first >= plan.size()) return {plan, {}};
  std::vector<PlannedCase> head, tail;
  for (std::size_t i = 0; i < plan.size(); ++i)
    ((i * first / plan.size() != (i + 1) * first / plan.size()) ? head : tail).push_back(plan[i]);
  return {std::move(head), std::move(tail)};
}

}  // namespace

Result<std::vector<PlantedFault>> planted_faults(const std::vector<DeviceFacts>& devices,
                                                 const std::vector<std::string>& names) {
  std::vector<PlantedFault> faults;
  bool control = false;
  std::set<std::string> wanted(names.begin(), names.end());
  for (const DeviceFacts& d : devices) {
    control = control || d.id == kControl;
    if (!d.id.starts_with(kPrefix) || d.id == kControl) continue;
    const std::string name = d.id.substr(kPrefix.size());
    if (!names.empty() && wanted.erase(name) == 0) continue;
    faults.push_back({d.id, name, d.name, words(d.libraries)});
    if (faults.back().operators.empty())
      return fail(ErrorKind::kInternal, "selftest.no_operators",
                  fmt::format("the fault {} does not say which operators it touches", name));
  }
  if (!control)
    return fail(ErrorKind::kMissingDevice, "selftest.no_plugin",
                "the plug-in with the planted faults (libconcord_backend_mutant.so) is not there, or has no device "
                "mutant:honest; build the target "
                "concord_backend_mutant, or name its folder with --plugins");
  if (!wanted.empty())
    return fail(ErrorKind::kUsage, "selftest.unknown_fault",
                fmt::format("there is no planted fault \"{}\"; see --list", printable(*wanted.begin())));
  return faults;
}

bool FaultReport::killed() const {
  return !cells.empty() && std::ranges::all_of(cells, [](const FaultCell& c) { return c.killed; });
}
std::uint64_t SelftestReport::killed() const {
  return static_cast<std::uint64_t>(std::ranges::count_if(faults, [](const FaultReport& f) { return f.killed(); }));
}
bool SelftestReport::green() const {
  return control_cases > 0 && false_alarms.empty() && !faults.empty() && killed() == faults.size();
}

Result<SelftestReport> run_selftest(const std::vector<PlannedCase>& plan, const std::vector<PlantedFault>& faults,
                                    const SelftestSettings& settings, const CaseRunner& run) {
  SelftestReport report;
  std::map<std::string, std::vector<PlannedCase>> cases;  // by operator
  for (const PlannedCase& c : plan) cases[c.spec.op].push_back(c);
  for (const PlantedFault& f : faults) {
    FaultReport r{f, {}};
    for (const std::string& op : f.operators) r.cells.push_back({.op = op});
    report.faults.push_back(std::move(r));
  }
  for (const auto& [op, its_cases] : cases) {
    std::vector<FaultCell*> cells;
    std::vector<std::string> devices;
    for (FaultReport& r : report.faults)
      for (FaultCell& cell : r.cells)
        if (cell.op == op) cells.push_back(&cell), devices.push_back(r.fault.device);
    OperatorRun one(op, cells, devices);
    const auto [head, tail] = divide(its_cases, settings.first_cases);
    CONCORD_CHECK(one.batch(head, settings, run, report));
    if (!tail.empty()) CONCORD_CHECK(one.batch(tail, settings, run, report));
  }
  return report;
}

OrderedJson to_json(const SelftestReport& report) {
  OrderedJson j = {{"schema", "concord.selftest/1"},
                   {"green", report.green()},
                   {"control", {{"cases", report.control_cases}, {"false_alarms", report.false_alarms}}},
                   {"faults", report.faults.size()},
                   {"killed", report.killed()},
                   {"results", OrderedJson::array()}};
  for (const FaultReport& f : report.faults) {
    OrderedJson one = {
        {"fault", f.fault.name}, {"what", f.fault.what}, {"killed", f.killed()}, {"operators", OrderedJson::array()}};
    for (const FaultCell& c : f.cells)
      one["operators"].push_back({{"op", c.op},
                                  {"killed", c.killed},
                                  {"cases", c.cases},
                                  {"red", c.red},
                                  {"lost", c.lost},
                                  {"checks", c.checks},
                                  {"first_case", c.first_case},
                                  {"first_check", c.first_check}});
    j["results"].push_back(std::move(one));
  }
  return j;
}

std::string kill_table(const SelftestReport& report) {
  std::string text = fmt::format(
      "{} of {} planted faults killed; control: {} of {} cases passed.\n\n| fault | what is wrong | operator: red of "
      "run (checks) |\n|---|---|---|\n",
      report.killed(), report.faults.size(), report.control_cases - report.false_alarms.size(), report.control_cases);
  for (const FaultReport& f : report.faults) {
    std::vector<std::string> cells;
    for (const FaultCell& c : f.cells) {
      std::vector<std::string> checks;
      for (const auto& [check, count] : c.checks) checks.push_back(check);
      cells.push_back(c.killed ? fmt::format("{}: {} of {} ({})", c.op, c.red, c.cases, fmt::join(checks, ", "))
                               : fmt::format("**{}: SURVIVED {} cases**", c.op, c.cases));
    }
    text += fmt::format("| {}{} | {} | {} |\n", f.fault.name, f.killed() ? "" : " **SURVIVED**", f.fault.what,
                        fmt::join(cells, "; "));
  }
  return text;
}

}  // namespace concord::conformance
