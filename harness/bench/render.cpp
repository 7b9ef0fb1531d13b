// Reports for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/compare_bench.hpp"
#include "bench/model_bench.hpp"
#include "bench/statistics.hpp"

namespace concord::bench {
namespace {

constexpr double kGiga = 1e9, kMiB = 1024.0 * 1024.0;

std::string percent(double part, double whole) {
  return part > 0 && whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : "-";
}
std::string giga(double value) { return value > 0 ? fmt::format("{:.2f}", value / kGiga) : "-"; }
std::string mib(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMiB); }

std::string block_row(const Block& b) {
  const Spread t = spread(seconds_of(b.samples));
  const Peaks peaks = b.peaks();
  const double bytes = b.bytes / t.median, flops = b.matmul_flops / t.median;
  return fmt::format("{:<30}{:>10.4f}{:>10.4f}{:>10.4f}{:>11.1f}{:>9}{:>9}{:>10}{:>9}{:>11}\n", b.title, t.median,
                     t.low, t.high, b.tokens / t.median, giga(bytes), percent(bytes, peaks.read), giga(flops),
                     percent(flops, peaks.flops), percent(b.attention_flops, b.matmul_flops));
}

std::string device_peaks_text(const ModelBenchReport& r) {
  const Peaks& p = r.blocks.front().before;
  std::string out =
      fmt::format("\nrates before / after, measured on {} through its operators: {}; {}\n", p.device, p.matmul, p.copy);
  for (const Block& b : r.blocks)
    out += fmt::format("  around {:<24}matmul {:.1f} / {:.1f} GFLOP/s; copying {:.1f} / {:.1f} GB/s\n", b.name,
                       b.before.flops / kGiga, b.after.flops / kGiga, b.before.read / kGiga, b.after.read / kGiga);
  return out;
}

std::string peak_row(const Block& b) {
  std::string out = fmt::format("  around {:<24}", b.name);
  if (b.before.arithmetic)
    out += fmt::format("{} {:.1f} / {:.1f} GFLOP/s; ", arithmetic_name(*b.before.arithmetic), b.before.flops / kGiga,
                       b.after.flops / kGiga);
  out += fmt::format("reading {:.1f} / {:.1f} GB/s, 1 thread {:.1f} / {:.1f}\n", b.before.read / kGiga,
                     b.after.read / kGiga, b.before.read_one / kGiga, b.after.read_one / kGiga);
  return out;
}

// A neighbour does not only slow a measurement down, it does so unevenly: a reader must know.
constexpr double kBusy = 0.05;
std::string others_text(double share) {
  if (share <= kBusy) return {};
  return fmt::format("WARNING   other programs used up to {:.0f} % of the processors during the measurement\n",
                     100 * share);
}

std::string peaks_text(const ModelBenchReport& r) {
  if (r.blocks.empty()) return {};
  const Peaks& p = r.blocks.front().before;
  if (!p.device.empty()) return device_peaks_text(r);
  std::string out = fmt::format(
      "\npeaks before / after, {} threads, buffer {} ({} of this process in huge pages, which were asked for)\n",
      p.threads, mib(p.read_bytes), mib(p.huge_bytes));
  if (!p.arithmetic)
    out += fmt::format("  no arithmetic peak of this processor applies to {} in {}\n", r.device.id, r.precision);
  for (const Block& b : r.blocks) out += peak_row(b);
  return out;
}

std::string pairs_text(const ModelBenchReport& r) {
  std::string out;
  for (const Block& b : r.blocks) {
    if (b.name == "capture" || b.name == "copy_out") {
      const Spread ratio = spread(ratios(seconds_of(b.samples), extra_of(b.samples, "plain")));
      out += fmt::format("{:<10}{} costs {:+.2f} % of the same prefill without ({:+.2f} to {:+.2f} %)\n", b.name,
                         r.options.capture, 100 * (ratio.median - 1), 100 * (ratio.low - 1), 100 * (ratio.high - 1));
    }
    if (b.name == "verify") {
      const Spread ratio = spread(ratios(extra_of(b.samples, "generate"), seconds_of(b.samples)));
      out += fmt::format("verify    {:.2f} times as fast as generating ({:.2f} to {:.2f}); {}\n", ratio.median,
                         ratio.low, ratio.high, r.verification);
    }
  }
  return out;
}

std::string growth_text(const Growth& g, const char* unit, const std::string& expected) {
  std::string out = "\n";
  for (const GrowthPoint& p : g.points) {
    out += fmt::format("  {:>12} {:<9}{:>10.5f} s", p.size, unit, median(p.seconds));
    out += p.memory > 0 ? fmt::format("   peak memory above the files {}\n", mib(p.memory)) : "\n";
  }
  return out + fmt::format("growth    log-log slope of time {:.3f}; {}\n", g.slope(), expected);
}

}  // namespace

std::string render(const ModelBenchReport& r) {
  std::string out = fmt::format(
      "model     {} ({:.2f} M parameters), weights {}\ndevice    {} ({}), {} threads\nprecision {}\nseed      {}, {} "
      "repetitions\n",
      r.options.model_name, r.parameters / 1e6, r.weights_digest.substr(0, 16), r.device.id, r.device.name, r.threads,
      r.precision, r.options.seed, r.options.repetitions);
  const Spread load = spread(seconds_of(r.loads)), first = spread(extra_of(r.loads, "first_state"));
  out += fmt::format(
      "load      {:.3f} s ({} times, {:.3f} to {:.3f}); first hidden state {:.3f} s after the start of loading; device "
      "opened in {:.3f} s\n",
      load.median, r.loads.size(), load.low, load.high, first.median, r.open_seconds);
  const std::uint64_t needed = r.weight_bytes + r.buffer_bytes;
  out += fmt::format(
      "memory    peak {} = {:.3f} x (weights {} + decoder buffers {}); at the end {} anonymous, {} of files\n",
      mib(r.memory.peak), static_cast<double>(r.memory.peak) / static_cast<double>(needed), mib(r.weight_bytes),
      mib(r.buffer_bytes), mib(r.memory.anonymous), mib(r.memory.file_backed));
  if (r.device_memory)
    out += fmt::format("          on the device {}, at most {}\n", mib(r.device_memory->now), mib(r.device_memory->peak));
  if (!r.blocks.empty())
    out += fmt::format("\n{:<30}{:>10}{:>10}{:>10}{:>11}{:>9}{:>9}{:>10}{:>9}{:>11}\n", "", "median s", "least s",
                       "most s", "tokens/s", "GB/s", r.blocks.front().before.device.empty() ? "of read" : "of copy",
                       "GFLOP/s", "of peak", "attention");
  for (const Block& b : r.blocks) out += block_row(b);
  out += pairs_text(r);
  if (r.growth)
    out += growth_text(*r.growth, "tokens",
                       fmt::format("{:.3f} of the operations with attention, {:.3f} without",
                                   r.growth->expected_slope(), r.growth_matmul_slope));
  double others = 0;
  for (const Block& b : r.blocks) others = std::max(others, b.others);
  return out + peaks_text(r) + others_text(others);
}

std::string render(const CompareBenchReport& r) {
  const CompareMeasurement& m = r.main;
  const std::vector<double> seconds = seconds_of(m.samples), reading = extra_of(m.samples, "read");
  const Spread compare = spread(seconds), read = spread(reading), ratio = spread(ratios(reading, seconds));
  const double bytes = static_cast<double>(m.bytes) / kGiga;
  std::string out =
      fmt::format("captures  {} elements of {} each, {} mapped together", m.elements, m.dtype, mib(m.bytes));
  if (r.options.synthetic)
    out += fmt::format(", synthetic: hidden size {}, noise {}, seed {}", r.options.synthetic->hidden, r.options.synthetic->noise, r.options.synthetic->seed);
  out += fmt::format("\nprofiles  {}\nthreads   {}, {} repetitions\n", fmt::join(m.verdicts, ", "), r.options.threads,
                     m.samples.size());
  out += fmt::format("\n{:<12}{:>10}{:>10}{:>10}{:>9}{:>14}\n", "", "median s", "least s", "most s", "GB/s",
                     "Melements/s");
  for (const auto& [name, t] : {std::pair{"compare", compare}, std::pair{"plain read", read}})
    out += fmt::format("{:<12}{:>10.5f}{:>10.5f}{:>10.5f}{:>9.2f}{:>14.1f}\n", name, t.median, t.low, t.high,
                       bytes / t.median, static_cast<double>(m.elements) / t.median / 1e6);
  out += fmt::format("ratio       {:.3f} of the speed of reading (median of pairs, {:.3f} to {:.3f})\n", ratio.median,
                     ratio.low, ratio.high);
  out += fmt::format("memory      peak {} above the mapped files{}; at the end {} anonymous, {} of files\n",
                     mib(m.peak_anonymous),
                     m.peak_reset ? "" : " (over the life of this process: the kernel refused to reset it)",
                     mib(m.anonymous), mib(m.file_backed));
  if (r.growth) out += growth_text(*r.growth, "elements", "1 is in proportion");
  return out + others_text(m.others);
}

}  // namespace concord::bench
