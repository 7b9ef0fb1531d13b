#include "conformance/run/verdict.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace concord::conformance {
namespace {

using Records = std::map<std::string, const CaseRecord*>;  // by case id, of one device

bool counts_as_done(const CaseRecord& r) {
  return r.status == CaseStatus::kPass || (r.status == CaseStatus::kWaived && !r.waiver.empty() && !r.waiver_expired);
}

// What is neither a failure nor an execution.
bool says_nothing(CaseStatus s) {
  return s == CaseStatus::kUnsupported || s == CaseStatus::kSkipped || s == CaseStatus::kNotRun;
}

// Of two records of one case the one that did not come out well: a journal must not become green by repeating itself.
Records records_of(const std::string& device, const std::vector<CaseRecord>& records) {
  Records out;
  for (const CaseRecord& r : records) {
    if (r.device != device) continue;
    const auto [at, is_new] = out.emplace(r.id, &r);
    if (!is_new && counts_as_done(*at->second)) at->second = &r;
  }
  return out;
}

CaseStatus status_of(const Records& records, const std::string& id) {
  const auto found = records.find(id);
  if (found == records.end()) return CaseStatus::kNotRun;
  const CaseRecord& r = *found->second;
  return r.status == CaseStatus::kWaived && !counts_as_done(r) ? CaseStatus::kFail : r.status;
}

std::string device_name(const Records& records) {
  for (const auto& [id, r] : records)
    if (r->body.contains("facts") && r->body["facts"].is_object()) return r->body["facts"].value("name", "");
  return {};
}

struct Counted {
  std::uint64_t done = 0, failed = 0, not_run = 0;
};

Counted count_planned(DeviceVerdict& v, const std::set<std::string>& planned, const Records& records) {
  Counted c;
  for (const std::string& id : planned) {
    const CaseStatus status = status_of(records, id);
    ++v.counts[status];
    if (status == CaseStatus::kNotRun)
      ++c.not_run;
    else if (const auto r = records.find(id); counts_as_done(*r->second))
      ++c.done;
    else if (!says_nothing(status))
      ++c.failed;
    if (const auto r = records.find(id); r != records.end() && r->second->waiver_expired)
      v.expired.push_back(id + " (" + r->second->waiver + ")");
  }
  return c;
}

void count_required(DeviceVerdict& v, const RequiredList& list, const std::set<std::string>& planned,
                    const Records& records) {
  v.list = list.name;
  v.required = list.ids.size();
  v.complete = true;
  for (const std::string& id : list.ids) {
    const bool is_planned = planned.contains(id);
    v.complete = v.complete && is_planned;
    const auto found = is_planned ? records.find(id) : records.end();
    if (found != records.end() && counts_as_done(*found->second)) {
      ++v.executed;
      continue;
    }
    v.missing.push_back(id);
    if (found != records.end() && found->second->status == CaseStatus::kUnsupported) v.lost.push_back(id);
  }
}

// Required cases of the selection without a result: less than required was executed.
bool has_unexecuted(const DeviceVerdict& v, const std::set<std::string>& planned, const Records& records) {
  return std::ranges::any_of(
      v.missing, [&](const std::string& id) { return planned.contains(id) && says_nothing(status_of(records, id)); });
}

int exit_of(const DeviceVerdict& v, const Counted& c, bool unexecuted) {
  if (c.failed > 0 || !v.expired.empty() || !v.lost.empty()) return exit_codes::kConformance;
  if (c.done == 0 || c.not_run > 0 || unexecuted) return exit_codes::kNothingRun;
  return exit_codes::kOk;
}

DeviceVerdict judge_device(const std::string& device, const std::set<std::string>& planned,
                           const std::vector<CaseRecord>& all, const std::vector<RequiredList>& lists, Tier tier) {
  DeviceVerdict v;
  const Records records = records_of(device, all);
  v.device = device, v.device_name = device_name(records), v.planned = planned.size();
  const Counted counted = count_planned(v, planned, records);
  v.good = counted.done;
  const auto list = required_for(lists, device, tier);
  if (list && *list)
    count_required(v, **list, planned, records);
  else
    v.executed = counted.done;
  v.exit = exit_of(v, counted, has_unexecuted(v, planned, records));
  if (!list && v.exit == exit_codes::kOk)
    v.exit = exit_codes::kNothingRun;  // two lists claim this device: nobody knows what was required
  return v;
}

std::string verdict_line(const Verdict& v) {
  std::vector<std::string> lines;
  for (const DeviceVerdict& d : v.devices) lines.push_back(d.line());
  const char* colour = v.green ? "GREEN" : v.exit == exit_codes::kOk ? "PARTIAL" : "RED";
  return fmt::format("{}: {}", colour,
                     lines.empty() ? "no device was judged" : fmt::format("{}", fmt::join(lines, "; ")));
}

}  // namespace

std::string DeviceVerdict::line() const {
  const std::string name = device_name.empty() ? device : fmt::format("{} ({})", device, device_name);
  if (list.empty()) return fmt::format("{} executed of {} planned on {}, no required list", executed, planned, name);
  if (complete) return fmt::format("{} executed of {} required on {}", executed, required, name);
  return fmt::format("{} executed of {} selected on {}, which are {} of {} required", good, planned, name, executed,
                     required);
}

Verdict judge_records(const std::vector<std::string>& requested, const std::vector<PlannedCase>& plan,
                      const std::vector<CaseRecord>& records, const std::vector<RequiredList>& lists, Tier tier) {
  Verdict v;
  std::set<std::string> planned;
  for (const PlannedCase& c : plan) planned.insert(c.id);
  for (const std::string& device : requested) v.devices.push_back(judge_device(device, planned, records, lists, tier));
  v.green = !v.devices.empty();
  v.exit = v.devices.empty() ? exit_codes::kNothingRun : exit_codes::kOk;
  for (const DeviceVerdict& d : v.devices) {
    v.green = v.green && d.exit == exit_codes::kOk && d.complete && !d.list.empty() && d.required > 0 &&
              d.executed == d.required;
    if (d.exit == exit_codes::kConformance || v.exit == exit_codes::kOk) v.exit = d.exit;
  }
  v.line = verdict_line(v);
  return v;
}

}  // namespace concord::conformance
