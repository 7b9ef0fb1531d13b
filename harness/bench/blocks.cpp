#include "bench/blocks.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <optional>

namespace concord::bench {
namespace {

// Keeps every repetition and prints nothing.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      Sample sample{.seconds = run.real_accumulated_time / static_cast<double>(run.iterations), .extra = {}};
      for (const auto& [name, counter] : run.counters) sample.extra[name] = counter.value;
      samples.push_back(std::move(sample));
    }
  }
  std::vector<Sample> samples;
};

}  // namespace

Result<std::vector<Sample>> run_block(const std::string& name, int repetitions, const std::atomic<bool>& stop,
                                      const std::function<Result<Sample>(int)>& once) {
  std::optional<Error> error;
  int repetition = 0;
  const auto body = [&](benchmark::State& state) {
    for ([[maybe_unused]] auto _ : state) {
      if (error) return state.SkipWithError("an earlier repetition failed");
      Result<Sample> sample =
          stop ? fail(ErrorKind::kInterrupted, "bench.interrupted", "interrupted during " + name) : once(repetition++);
      if (!sample) {
        error = std::move(sample).error();
        return state.SkipWithError("failed");
      }
      state.SetIterationTime(sample->seconds);
      for (const auto& [key, value] : sample->extra) state.counters[key] = value;
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), body)->Iterations(1)->Repetitions(repetitions)->UseManualTime();
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector, nullptr, "all");
  benchmark::ClearRegisteredBenchmarks();
  if (error) return std::unexpected(*std::move(error));
  if (collector.samples.size() != static_cast<std::size_t>(repetitions))
    return fail(ErrorKind::kInternal, "bench.lost_samples",
                fmt::format("{}: {} repetitions ran, {} were reported", name, repetitions, collector.samples.size()));
  return std::move(collector.samples);
}

std::vector<double> seconds_of(const std::vector<Sample>& samples) {
  std::vector<double> out;
  for (const Sample& s : samples) out.push_back(s.seconds);
  return out;
}

std::vector<double> extra_of(const std::vector<Sample>& samples, const std::string& name) {
  std::vector<double> out;
  for (const Sample& s : samples)
    if (const auto it = s.extra.find(name); it != s.extra.end()) out.push_back(it->second);
  return out;
}

}  // namespace concord::bench
