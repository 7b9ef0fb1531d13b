#include "report/conformance_summary.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace concord::conformance {

std::uint64_t OperatorRow::count(CaseStatus s) const {
  const auto it = statuses.find(s);
  return it == statuses.end() ? 0 : it->second;
}

std::string OperatorRow::others() const {
  std::string out;
  for (const auto& [status, n] : statuses)
    if (status != CaseStatus::kPass) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", n, status_name(status));
  return out.empty() ? "-" : out;
}

std::string OperatorRow::determinism() const {
  if (judged == 0) return "-";
  if (measured == declared) return determinism_name(measured);
  return fmt::format("{} (declared: {})", determinism_name(measured), determinism_name(declared));
}

bool OperatorRow::red() const {
  constexpr CaseStatus kHarmless[] = {CaseStatus::kPass, CaseStatus::kWaived, CaseStatus::kUnsupported,
                                      CaseStatus::kSkipped};
  for (const auto& [status, n] : statuses)
    if (n > 0 && std::ranges::find(kHarmless, status) == std::end(kHarmless)) return true;
  return false;
}

double margin_of(const CaseRecord& record) {
  double margin = 0;
  for (const OutputFindings& o : record.evidence.outputs) margin = std::max(margin, o.margin);
  return margin;
}

bool is_good(const CaseRecord& r) {
  return !r.waiver_expired && (r.status == CaseStatus::kPass || r.status == CaseStatus::kWaived);
}

const char* determinism_name(concord_determinism d) {
  constexpr const char* kNames[] = {"always identical", "identical per configuration", "varying"};
  return kNames[std::min<unsigned>(d, 2)];
}

namespace {
void add(OperatorRow& row, const CaseRecord& r) {
  ++row.statuses[r.status];
  if (!r.evidence.kernel.empty()) row.kernels.insert(r.evidence.kernel);
  if (r.evidence.outputs.empty() || r.evidence.outcome != Outcome::kCompleted) return;
  ++row.judged;
  row.margin = std::max(row.margin, margin_of(r));
  for (const OutputFindings& o : r.evidence.outputs)
    row.margin_probable = std::max(row.margin_probable, o.margin_probable);
  row.declared = std::max(row.declared, static_cast<concord_determinism>(
                                            std::min<std::uint32_t>(r.evidence.declared, CONCORD_RUN_TO_RUN_VARYING)));
  row.measured = std::max(row.measured, r.evidence.measured());
}
}  // namespace

std::vector<OperatorRow> operator_rows(const ConformanceReport& report) {
  std::map<std::string, const CaseRecord*> by_key;
  for (const CaseRecord& r : report.records) by_key[r.key()] = &r;
  std::vector<OperatorRow> rows;
  for (const DeviceVerdict& d : report.verdict.devices) {
    std::map<std::string, OperatorRow> by_op;
    for (const PlannedCase& c : report.plan) {
      OperatorRow& row = by_op.try_emplace(c.spec.op, OperatorRow{.device = d.device, .op = c.spec.op}).first->second;
      ++row.planned;
      if (const auto it = by_key.find(d.device + " " + c.id); it != by_key.end())
        add(row, *it->second);
      else
        ++row.statuses[CaseStatus::kNotRun];
    }
    for (auto& [op, row] : by_op) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace concord::conformance
