#include "report/conformance_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "report/conformance_summary.hpp"
#include "report/table.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kShownFailures = 20, kShownInMarkdown = 200;

std::string number(double v) { return fmt::format("{:.3g}", v); }

std::string margin_text(const OperatorRow& r, const char* dtype) {
  const auto it = r.dtypes.find(dtype);
  if (it == r.dtypes.end() || it->second.judged == 0) return "-";
  return it->second.margin == 0 ? "exact" : number(it->second.margin);
}

// The columns of the table of operators: one line each.
struct Column {
  const char* title;
  std::function<std::string(const OperatorRow&)> cell;
};
const std::vector<Column>& columns() {
  static const std::vector<Column> table = {
      {"device", [](const OperatorRow& r) { return r.device; }},
      {"operator", [](const OperatorRow& r) { return r.op; }},
      {"PASS", [](const OperatorRow& r) { return fmt::format("{}/{}", r.count(CaseStatus::kPass), r.planned); }},
      {"other", [](const OperatorRow& r) { return r.others(); }},
      {"margin f32", [](const OperatorRow& r) { return margin_text(r, "f32"); }},
      {"f16", [](const OperatorRow& r) { return margin_text(r, "f16"); }},
      {"bf16", [](const OperatorRow& r) { return margin_text(r, "bf16"); }},
      {"probable", [](const OperatorRow& r) { return r.judged ? number(r.margin_probable) : "-"; }},
      {"determinism", [](const OperatorRow& r) { return r.determinism(); }},
      {"kernels", [](const OperatorRow& r) { return fmt::format("{}", fmt::join(r.kernels, "; ")); }},
  };
  return table;
}

Table operator_table(const ConformanceReport& report, bool with_kernels) {
  Table t(1);
  const std::size_t n = columns().size() - (with_kernels ? 0 : 1);
  for (std::size_t i = 0; i < n; ++i) t[0].push_back(columns()[i].title);
  for (const OperatorRow& row : operator_rows(report)) {
    auto& line = t.emplace_back();
    for (std::size_t i = 0; i < n; ++i) line.push_back(columns()[i].cell(row));
  }
  return t;
}

Table device_table(const ConformanceReport& report) {
  Table t{{"device", "machine", "required list", "executed of required", "statuses of all planned cases", "verdict"}};
  for (const DeviceVerdict& d : report.verdict.devices) {
    std::string counts;
    for (const auto& [status, n] : d.counts)
      counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", n, status_name(status));
    t.push_back({d.device, d.device_name, d.list.empty() ? "none" : d.list,
                 fmt::format("{} of {}", d.executed, d.required), counts,
                 d.exit != 0  ? "RED"
                 : d.complete ? "GREEN"
                              : "PARTIAL"});
  }
  return t;
}

std::string failure_lines(const ConformanceReport& report, std::size_t limit) {
  std::string out;
  std::size_t n = 0;
  for (const CaseRecord& r : report.records) {
    if (is_good(r) || is_harmless(r) || n++ >= limit) continue;
    out += failure_text(r);
  }
  if (n > limit)
    out += fmt::format("and {} more{}\n", n - limit,
                       report.folder.empty() ? "" : ", in " + report.folder + "/cases.jsonl");
  return out;
}

std::string list_lines(const ConformanceReport& report) {
  std::string out;
  const auto lines = [&](const std::string& device, const char* what, const std::vector<std::string>& ids) {
    if (ids.empty()) return;
    out += fmt::format("{}: {} ({}):\n", device, what, ids.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(ids.size(), 10); ++i) out += "    " + ids[i] + "\n";
    if (ids.size() > 10) out += fmt::format("    and {} more\n", ids.size() - 10);
  };
  std::set<std::string> planned;
  for (const PlannedCase& c : report.plan) planned.insert(c.id);
  for (const DeviceVerdict& d : report.verdict.devices) {
    std::vector<std::string> missing;  // of a part of the list, only what was asked for
    std::ranges::copy_if(d.missing, std::back_inserter(missing),
                         [&](const std::string& id) { return d.complete || planned.contains(id); });
    lines(d.device, "required, but neither PASS nor validly WAIVED", missing);
    lines(d.device, "capability lost: required, but UNSUPPORTED", d.lost);
    lines(d.device, "waivers that have expired", d.expired);
  }
  return out;
}

// Why devices said no, each reason once.
std::string unsupported_lines(const ConformanceReport& report) {
  std::map<std::pair<std::string, std::string>, std::uint64_t> reasons;
  for (const CaseRecord& r : report.records)
    if (is_harmless(r)) ++reasons[{r.device, r.evidence.message.empty() ? r.reason : r.evidence.message}];
  std::string out;
  for (const auto& [key, n] : reasons)
    out += fmt::format("unsupported: {} cases on {}: {}\n", n, key.first, key.second);
  return out;
}

Table waiver_table(const ConformanceReport& report) {
  Table t{{"waiver", "device", "case", "status", "margin"}};
  for (const CaseRecord& r : report.records)
    if (!r.waiver.empty())
      t.push_back({r.waiver + (r.waiver_expired ? " (expired)" : ""), r.device, r.id, status_name(r.status),
                   number(margin_of(r))});
  return t;
}

}  // namespace

std::string terminal_report(const ConformanceReport& report) {
  std::string out = aligned(operator_table(report, false)) + "\n";
  if (const std::string bad = failure_lines(report, kShownFailures); !bad.empty()) out += bad + "\n";
  if (const Table t = waiver_table(report); t.size() > 1) out += aligned(t) + "\n";
  out += unsupported_lines(report) + list_lines(report);
  for (const std::string& note : report.notes) out += "note: " + note + "\n";
  for (const DeviceVerdict& d : report.verdict.devices) out += d.line() + "\n";
  return out + report.verdict.line + "\n";
}

std::string markdown_report(const ConformanceReport& report, const std::string& picture) {
  std::string out = fmt::format("# Operator conformance\n\n**{}**\n\n{}.\n\n```\n{}\n```\n\n", report.verdict.line,
                                machine_text(report.provenance), report.command);
  for (const std::string& note : report.notes) out += note + "\n\n";
  out += "## Devices\n\n" + markdown(device_table(report));
  if (!picture.empty()) out += fmt::format("\n![largest margin by operator and device]({})\n", picture);
  out += "\n## Operators\n\n" + markdown(operator_table(report, true));
  out +=
      "\n`margin` is the largest error as a part of the rigorous bound over all cases: above 1 is FAIL; correct "
      "rounding to a 16-bit dtype alone comes near 1. `probable` is "
      "the same for the probable bound: above 1 is "
      "MISTRUSTED. `determinism` is what was measured, and what was declared where that is another.\n";
  if (const Table t = waiver_table(report); t.size() > 1) out += "\n## Waivers\n\n" + markdown(t);
  if (const std::string no = unsupported_lines(report); !no.empty()) out += "\n## Unsupported\n\n```\n" + no + "```\n";
  const std::string bad = failure_lines(report, kShownInMarkdown), lists = list_lines(report);
  if (!bad.empty() || !lists.empty()) out += "\n## Not green\n\n```\n" + bad + lists + "```\n";
  return out;
}

}  // namespace concord::conformance
