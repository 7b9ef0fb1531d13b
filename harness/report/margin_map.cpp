// Margins by operator and device as an SVG: how much of the allowed error each device uses.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/conformance_summary.hpp"
#include "report/picture.hpp"
#include "report/table.hpp"

namespace concord::conformance {
namespace {

using picture::text;

constexpr int kLabel = 130, kCell = 110, kRow = 26, kTop = 70, kNote = 44, kTitle = 560;  // [px]

// Green where hardly any of the bound is used, yellow near it: the logarithm of the margin from 1e-4 to 1.
std::string colour(double margin) {
  const double part = std::clamp((std::log10(std::max(margin, 1e-12)) + 4) / 4, 0.0, 1.0);
  return fmt::format("hsl({:.0f},60%,76%)", 130 - 80 * part);
}

struct Look {
  std::string fill, label;
};
Look look_of(const OperatorRow& row) {
  if (row.red()) return {"hsl(0,70%,72%)", row.judged ? fmt::format("{:.2g}!", row.margin) : "failed"};
  if (row.judged > 0) return {colour(row.margin), row.margin == 0 ? "exact" : fmt::format("{:.2g}", row.margin)};
  if (row.count(CaseStatus::kUnsupported) > 0) return {"url(#none)", "unsupported"};
  if (row.count(CaseStatus::kPass) > 0) return {colour(0), "refused as due"};
  return {"#fff", "not run"};
}

std::string cell(int x, int y, const OperatorRow& row) {
  const Look look = look_of(row);
  return fmt::format(
             "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#fff\"><title>{} on {}: {} of {} "
             "PASS; {}</title></rect>\n",
             x, y, kCell, kRow, look.fill, row.op, xml_escaped(row.device), row.count(CaseStatus::kPass), row.planned,
             row.others()) +
         text(x + kCell / 2, y + 17, look.label);
}

}  // namespace

std::string margin_map_svg(const ConformanceReport& report) {
  const std::vector<OperatorRow> rows = operator_rows(report);
  std::vector<std::string> devices, ops;
  for (const OperatorRow& row : rows) {
    if (std::ranges::find(devices, row.device) == devices.end()) devices.push_back(row.device);
    if (std::ranges::find(ops, row.op) == ops.end()) ops.push_back(row.op);
  }
  std::string body;
  const auto at = [](const std::vector<std::string>& names, const std::string& name) {
    return static_cast<int>(std::ranges::find(names, name) - names.begin());
  };
  for (std::size_t i = 0; i < devices.size(); ++i)
    body += text(kLabel + kCell * static_cast<int>(i) + kCell / 2, kTop - 8, devices[i]);
  for (std::size_t i = 0; i < ops.size(); ++i)
    body += text(kLabel - 8, kTop + kRow * static_cast<int>(i) + 17, ops[i], "end");
  for (const OperatorRow& row : rows)
    body += cell(kLabel + kCell * at(devices, row.device), kTop + kRow * at(ops, row.op), row);
  const int width = std::max(kTitle, kLabel + kCell * static_cast<int>(devices.size()) + 16);
  const int height = kTop + kRow * static_cast<int>(ops.size()) + kNote;
  return picture::svg(
      width, height,
      text(8, 22, "Largest error as a part of the rigorous bound (1 is the limit)", "start") + body +
          text(8, height - 16, "red: a case failed; hatched: unsupported; white: not run; exact: every output bit as the oracle's", "start"));
}

}  // namespace concord::conformance
