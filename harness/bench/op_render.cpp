// The table of `concord bench op`, for a terminal and as Markdown. A row without a PASS has its status and no number.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "bench/op_bench.hpp"

namespace concord::bench {
namespace {

constexpr double kGiga = 1e9, kMiB = 1024.0 * 1024.0, kBusy = 0.05;
constexpr std::size_t kColumns = 12;
using Cells = std::array<std::string, kColumns>;
const Cells kHeader = {"device",  "cache", "median",  "95 % interval", "samples", "GFLOP/s",
                       "of peak", "GB/s",  "of read", "of roofline",   "outputs", ""};
constexpr std::array<int, kColumns> kWidths = {14, 6, 11, 15, 12, 10, 9, 9, 9, 13, 18, 0};

std::string time_text(double seconds) {
  if (seconds < 1e-6) return fmt::format("{:.1f} ns", seconds * 1e9);
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.3f} ms", seconds * 1e3) : fmt::format("{:.3f} s", seconds);
}
std::string share_text(double share, const char* doubt) {
  return share > 0 ? fmt::format("{:.1f} %{}", 100 * share, doubt) : "-";
}
// Peaks that were measured beside other programs are too low, and shares of them too high.
bool is_busy(const OpBenchReport& report, const OpMeasurement& m) { return report.peaks.others(m.epoch) > kBusy; }
std::string giga(double rate) { return rate > 0 ? fmt::format("{:.2f}", rate / kGiga) : "-"; }
std::string interval_text(const MedianInterval& i) {
  if (i.coverage == 0) return "-";
  return fmt::format("-{:.1f} +{:.1f} %", 100 * (1 - i.low / i.median), 100 * (i.high / i.median - 1));
}

Cells cells_of(const OpBenchReport& report, const OpMeasurement& m) {
  Cells c;
  c[0] = report.devices[m.device_index].facts.id, c[1] = std::string(cache_name(m.cache));
  const conformance::Decision& decision = m.verification.decision;
  c[10] = std::string(status_name(decision.status));
  if (!m.verification.passed()) {
    for (std::size_t i = 2; i < 10; ++i) c[i] = std::string("-");
    c[11] = printable(decision.reason, 300);
    return c;
  }
  const OpRates r = report.rates(m);
  const char* doubt = is_busy(report, m) ? "?" : "";
  c[2] = time_text(m.interval.median), c[3] = interval_text(m.interval);
  c[4] = fmt::format("{} x {}", m.samples.size(), m.calls);
  c[5] = giga(r.flops), c[6] = share_text(r.of_flops, doubt), c[7] = giga(r.bytes),
  c[8] = share_text(r.of_bytes, doubt);
  c[9] = share_text(r.of_roofline, doubt);
  if (!m.sufficient) c[11] = std::string("INSUFFICIENT");
  return c;
}

std::string line_of(const Cells& cells) {
  std::string out = "  ";
  for (std::size_t i = 0; i < kColumns; ++i) {
    if (i < 2)
      out += fmt::format("{:<{}} ", cells[i], kWidths[i]);
    else if (i + 1 < kColumns)
      out += fmt::format("{:>{}}", cells[i], kWidths[i]);
    else if (!cells[i].empty())
      out.append("  ").append(cells[i]);
  }
  return out + "\n";
}

std::string counts_text(const OpBenchReport& r) {
  const OpBenchReport::Counts c = r.counts();
  std::string out = fmt::format("{} measured and verified", c.measured);
  if (c.insufficient)
    out += fmt::format(" (of these {} INSUFFICIENT: the interval is wider than {:.3g} %)", c.insufficient,
                       100 * r.options.limits.precision);
  return out + fmt::format(", {} not verified, {} unsupported, {} skipped\n", c.failed, c.unsupported, c.skipped);
}

std::string peak_text(const PeakKey& key, const Peaks& a, const Peaks& b) {
  std::string out = "  ";
  if (key.first)
    out += fmt::format("{} {:.1f} / {:.1f} GFLOP/s; ", arithmetic_name(*key.first), a.flops / kGiga, b.flops / kGiga);
  return out +
         fmt::format("reading {:.2f} / {:.2f} GB/s with {} threads\n", a.read / kGiga, b.read / kGiga, key.second);
}

std::string peaks_text(const OpBenchReport& r) {
  std::string out;
  double others = 0;
  for (std::size_t e = 0; e < r.peaks.epochs(); ++e) {
    others = std::max(others, r.peaks.others(e));
    if (r.peaks.begin_of(e).empty()) continue;
    out += fmt::format("peaks before / after{}\n",
                       r.peaks.epochs() > 1 ? fmt::format(", part {} of {}", e + 1, r.peaks.epochs()) : "");
    for (const auto& [key, before] : r.peaks.begin_of(e)) out += peak_text(key, before, r.peaks.end_of(e).at(key));
  }
  if (others > kBusy)
    out += fmt::format(
        "WARNING   other programs used up to {:.0f} % of the processors during the measurement: shares marked ? are of "
        "peaks that this made too low\n",
        100 * others);
  return out;
}

std::string sweep_text(const OpBenchReport& r) {
  std::uint64_t least = 0;
  for (const OpMeasurement& m : r.measurements)
    if (m.bytes_between > 0) least = least == 0 ? m.bytes_between : std::min(least, m.bytes_between);
  if (least == 0) return {};
  return fmt::format(
      "cold: every timed call on operands of its own; at least {:.0f} MiB read in between; last-level cache of this "
      "processor {:.0f} MiB\n",
      static_cast<double>(least) / kMiB, static_cast<double>(last_level_cache()) / kMiB);
}

std::string footer(const OpBenchReport& r) {
  return counts_text(r) + sweep_text(r) +
         "timed in this process, not in a worker; median and interval are of one call; of read and of roofline are "
         "against memory, so a warm cache can exceed them\n" +
         peaks_text(r);
}

}  // namespace

std::string render(const OpBenchReport& report) {
  std::string out;
  std::size_t open = report.options.cases.size();
  for (const OpMeasurement& m : report.measurements) {
    if (out.empty()) out = line_of(kHeader);
    if (m.case_index != open) out += report.case_of(m).id + "\n";
    open = m.case_index;
    out += line_of(cells_of(report, m));
  }
  return out + "\n" + footer(report);
}

std::string render_markdown(const OpBenchReport& report) {
  std::string out = "| case |", rule = "|---|";
  for (const std::string& name : kHeader) out += fmt::format(" {} |", name), rule += "---|";
  out += fmt::format("\n{}\n", rule);
  for (const OpMeasurement& m : report.measurements) {
    out += fmt::format("| `{}` |", report.case_of(m).id);
    for (std::string cell : cells_of(report, m)) {
      std::ranges::replace(cell, '|', '/');
      out += fmt::format(" {} |", cell);
    }
    out += "\n";
  }
  return out + "\n```\n" + footer(report) + "```\n";
}

}  // namespace concord::bench
