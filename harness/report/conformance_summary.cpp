#include "report/conformance_summary.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace concord::conformance {

std::uint64_t Tally::count(CaseStatus s) const {
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

bool Tally::red() const {
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

bool is_harmless(const CaseRecord& r) {
  return r.status == CaseStatus::kUnsupported || r.status == CaseStatus::kSkipped;
}

bool is_good(const CaseRecord& r) {
  return !r.waiver_expired && (r.status == CaseStatus::kPass || r.status == CaseStatus::kWaived);
}

const char* determinism_name(concord_determinism d) {
  constexpr const char* kNames[] = {"always identical", "identical per configuration", "varying"};
  return kNames[std::min<unsigned>(d, 2)];
}

namespace {
bool is_judged(const CaseRecord& r) { return !r.evidence.outputs.empty() && r.evidence.outcome == Outcome::kCompleted; }

void add(Tally& tally, const CaseRecord* r) {
  ++tally.planned;
  ++tally.statuses[r ? r->status : CaseStatus::kNotRun];
  if (!r || !is_judged(*r)) return;
  ++tally.judged;
  tally.margin = std::max(tally.margin, margin_of(*r));
  for (const OutputFindings& o : r->evidence.outputs)
    tally.margin_probable = std::max(tally.margin_probable, o.margin_probable);
}

void add(OperatorRow& row, const PlannedCase& c, const CaseRecord* r) {
  add(static_cast<Tally&>(row), r);
  if (const auto x = c.spec.options.find("x"); x != c.spec.options.end()) add(row.dtypes[x->second], r);
  if (!r) return;
  if (!r->evidence.kernel.empty()) row.kernels.insert(r->evidence.kernel);
  if (!is_judged(*r)) return;
  const auto declared = std::min<std::uint32_t>(r->evidence.declared, CONCORD_RUN_TO_RUN_VARYING);
  row.declared = std::max(row.declared, static_cast<concord_determinism>(declared));
  row.measured = std::max(row.measured, r->evidence.measured());
}
}  // namespace

std::vector<OperatorRow> operator_rows(const ConformanceReport& report) {
  std::map<std::string, const CaseRecord*> by_key;
  for (const CaseRecord& r : report.records) by_key[r.key()] = &r;
  std::vector<OperatorRow> rows;
  for (const DeviceVerdict& d : report.verdict.devices) {
    std::map<std::string, OperatorRow> by_op;
    for (const PlannedCase& c : report.plan) {
      OperatorRow& row = by_op[c.spec.op];
      row.device = d.device, row.op = c.spec.op;
      const auto found = by_key.find(d.device + " " + c.id);
      add(row, c, found == by_key.end() ? nullptr : found->second);
    }
    for (auto& [op, row] : by_op) rows.push_back(std::move(row));
  }
  return rows;
}

namespace {
std::string numbers_of(const CaseRecord& r) {
  std::string out;
  for (const OutputFindings& o : r.evidence.outputs) {
    const std::uint64_t wrong = o.guard_bytes + o.unwritten + o.nonfinite + o.above_rigorous + o.above_probable;
    if (wrong == 0) continue;
    const Coordinates& c = o.worst;
    out += fmt::format(
        "\n    {}: {} of {} elements above the bound, {} above the probable one, {} not finite, {} not written, {} "
        "guard bytes\n",
        o.name, o.above_rigorous, o.elements, o.above_probable, o.nonfinite, o.unwritten, o.guard_bytes);
    for (const auto& [name, at] : {std::pair<const char*, const Coordinates*>{"first", &o.first}, {"worst", &c}})
      out += fmt::format("    {} [{}]: got {}, want {}, bound {:.3g}, probable {:.3g}\n", name, fmt::join(at->at, ","),
                         at->got, at->want, at->rigorous, at->probable);
    out += fmt::format("    margin {:.3g} of the bound, {:.3g} of the probable one", o.margin, o.margin_probable);
  }
  return out;
}
}  // namespace

std::string failure_text(const CaseRecord& r) {
  std::string out = fmt::format("{} {} on {}\n    {}: {}{}\n", status_name(r.status), r.id, r.device, r.check, r.reason,
                                numbers_of(r));
  if (!r.evidence.kernel.empty()) out += fmt::format("    kernel {}\n", r.evidence.kernel);
  if (r.body.contains("repro")) out += fmt::format("    REPRO: {}\n", r.body["repro"].get<std::string>());
  return out;
}

}  // namespace concord::conformance
