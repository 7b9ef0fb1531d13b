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

constexpr int kLabel = 110, kCell = 52, kGap = 14, kRow = 26, kTop = 84, kNote = 62, kTitle = 640;  // [px]
constexpr const char* kDtypes[] = {"f32", "f16", "bf16"};
constexpr int kDevice = kCell * static_cast<int>(std::size(kDtypes)) + kGap;  // a device has a column for each dtype

// Green where hardly any of the bound is used, yellow near it: the logarithm of the margin from 1e-4 to 1.
std::string colour(double margin) {
  const double part = std::clamp((std::log10(std::max(margin, 1e-12)) + 4) / 4, 0.0, 1.0);
  return fmt::format("hsl({:.0f},60%,76%)", 130 - 80 * part);
}

struct Look {
  std::string fill, label;
};
Look look_of(const Tally& t) {
  if (t.red())
    return {"hsl(0,70%,72%)", t.judged                                    ? fmt::format("{:.2g}!", t.margin)
                              : t.count(CaseStatus::kNotRun) == t.planned ? "not run"
                                                                          : "failed"};
  if (t.judged > 0) return {colour(t.margin), t.margin == 0 ? "exact" : fmt::format("{:.2g}", t.margin)};
  if (t.count(CaseStatus::kUnsupported) > 0) return {"url(#none)", ""};
  if (t.count(CaseStatus::kPass) > 0) return {colour(0), "refused"};
  return {"#fff", "-"};
}

std::string cell(int x, int y, const OperatorRow& row, const char* dtype) {
  const auto found = row.dtypes.find(dtype);
  const Tally tally = found == row.dtypes.end() ? Tally{} : found->second;
  const Look look = look_of(tally);
  return fmt::format(
             "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#fff\"><title>{} {} on {}: {} of "
             "{} "
             "PASS</title></rect>\n",
             x, y, kCell, kRow, look.fill, row.op, dtype, xml_escaped(row.device), tally.count(CaseStatus::kPass),
             tally.planned) +
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
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const int left = kLabel + kDevice * static_cast<int>(i);
    body += text(left + (kDevice - kGap) / 2, kTop - 28, devices[i]);
    for (int k = 0; k < static_cast<int>(std::size(kDtypes)); ++k)
      body += text(left + kCell * k + kCell / 2, kTop - 8, kDtypes[k]);
  }
  for (std::size_t i = 0; i < ops.size(); ++i)
    body += text(kLabel - 8, kTop + kRow * static_cast<int>(i) + 17, ops[i], "end");
  for (const OperatorRow& row : rows)
    for (int k = 0; k < static_cast<int>(std::size(kDtypes)); ++k)
      body +=
          cell(kLabel + kDevice * at(devices, row.device) + kCell * k, kTop + kRow * at(ops, row.op), row, kDtypes[k]);
  const int width = std::max(kTitle, kLabel + kDevice * static_cast<int>(devices.size()) + 16);
  const int height = kTop + kRow * static_cast<int>(ops.size()) + kNote;
  return picture::svg(
      width, height,
      text(8, 22, "Largest error as a part of the rigorous bound, by dtype of the activations (1 is the limit)",
           "start") +
          body +
          text(8, height - 34,
               "red: a case failed; hatched: unsupported; -: nothing planned; exact: every output bit as the oracle's",
               "start") +
          text(8, height - 14,
               "In f16 and bf16 correct rounding on store alone comes near 1; in f32 the rest of the bound is visible.",
               "start"));
}

}  // namespace concord::conformance
