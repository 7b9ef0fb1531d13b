#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "report/picture.hpp"
#include "report/render.hpp"

namespace concord {
namespace {

using picture::text;

constexpr int kLabel = 190, kCell = 62, kRow = 24, kTop = 64, kTitle = 540;  // [px]

// Red at 0, yellow at 1/2, green at 1: light enough for black text.
std::string colour(double rate) {
  const double hue = 120 * std::min(1.0, std::max(0.0, rate));
  return fmt::format("hsl({:.0f},65%,72%)", hue);
}

std::string cell(int x, int y, const Rate& rate) {
  if (rate.cells == 0)
    return fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"url(#none)\" stroke=\"#fff\"/>\n", x, y, kCell, kRow);
  return fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#fff\"><title>{} of {} cells</title></rect>\n", x, y, kCell,
                     kRow, colour(rate.value()), rate.accepted, rate.cells) +
         text(x + kCell / 2, y + 16, fmt::format("{:.3f}", rate.value()));
}

std::set<std::int64_t> all_layers(const RunSummary& run) {
  std::set<std::int64_t> out;
  for (const ExperimentSummary& e : run.experiments)
    for (const auto& [layer, unused] : e.total.layers) out.insert(layer);
  return out;
}

}  // namespace

std::string accept_rate_svg(const RunSummary& run) {
  const std::set<std::int64_t> layers = all_layers(run);
  std::string body;
  int x = kLabel, y = kTop;
  for (const std::int64_t layer : layers) {
    body += text(x + kCell / 2, kTop - 8, std::to_string(layer));
    x += kCell;
  }
  for (const ExperimentSummary& e : run.experiments)
    for (const std::string& name : e.profile_names) {
      body += text(kLabel - 8, y + 16, fmt::format("{} ({}) {}{}", e.id, e.expect, name, name == e.decide ? " *" : ""), "end");
      x = kLabel;
      for (const std::int64_t layer : layers) {
        const auto rates = e.total.layers.find(layer);
        const auto rate = rates == e.total.layers.end() ? decltype(rates->second.end()){} : rates->second.find(name);
        const bool known = rates != e.total.layers.end() && rate != rates->second.end();
        body += cell(x, y, known ? rate->second : Rate{});
        x += kCell;
      }
      y += kRow;
    }
  const int width = std::max(kTitle, kLabel + kCell * static_cast<int>(layers.size()) + 16), height = y + 34;
  return picture::svg(width, height,
                      text(8, 22, "Accept rate of cells by hidden state (0: embedding output, last: after the final norm)", "start") + body +
                          text(kLabel, y + 20, "* decides; hatched: not judged by this profile", "start"));
}

}  // namespace concord
