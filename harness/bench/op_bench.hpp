// Performance of operator cases whose outputs are verified: each case on each device, warm and cold, in this process.
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "bench/median_interval.hpp"
#include "bench/op_rates.hpp"
#include "bench/op_verify.hpp"
#include "bench/peak_book.hpp"
#include "conformance/suite/suite.hpp"

namespace concord::bench {

struct OpBenchOptions {
  std::vector<conformance::PlannedCase> cases;
  std::vector<std::string> devices;  // resolved ids
  unsigned threads = 0;              // 0: all
  std::vector<Cache> caches = {Cache::kWarm, Cache::kCold};
  SamplingLimits limits;
  double sample_seconds = 1e-3;   // least length of a sample, and at least 100 steps of the clock
  std::uint64_t sweep_bytes = 0;  // read between cold samples; 0: sweep_bytes_for(device)
  std::uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> witness;  // device id -> pattern of its kernels' names
};

// One case on one device with one state of the cache.
struct OpMeasurement {
  std::size_t case_index = 0, device_index = 0;
  Cache cache = Cache::kWarm;
  Verification verification;
  std::vector<double> samples;      // seconds per call
  std::size_t calls = 0;            // in each sample
  std::size_t copies = 0;           // of the operands
  std::uint64_t bytes_between = 0;  // cold: read between two uses of one copy
  MedianInterval interval;
  bool sufficient = false;  // the interval is as narrow as was asked for
  double seconds = 0;       // spent on samples, sweeps included
  std::size_t epoch = 0;    // of the peaks
  PeakKey peak;
  bool has_peak = false;  // the device runs on this processor
};

struct BenchedDevice {
  DeviceFacts facts;
  unsigned threads = 0;
  std::string math_mode;
};

struct OpBenchReport {
  OpBenchOptions options;
  std::vector<BenchedDevice> devices;
  std::vector<OpMeasurement> measurements;
  PeakBook peaks{{}};
  double timer = 0;  // resolution [s]

  const conformance::PlannedCase& case_of(const OpMeasurement& m) const { return options.cases[m.case_index]; }
  std::optional<Peaks> peaks_of(const OpMeasurement& m) const;
  OpRates rates(const OpMeasurement& m) const;
  struct Counts {
    std::size_t measured = 0, insufficient = 0, failed = 0, unsupported = 0, skipped = 0;
  };
  Counts counts() const;
};

// Called before each measurement.
using OpProgress =
    std::function<void(const std::string& id, const std::string& device, Cache, std::size_t done, std::size_t total)>;

// Errors: those of opening a device; those of a malformed case; defects of the oracle; bench.interrupted. What a device
// does wrong with a case stands in its measurement.
Result<OpBenchReport> bench_ops(const OpBenchOptions& options, const Backends& backends, const OpProgress& progress,
                                const std::atomic<bool>& stop);

std::string render(const OpBenchReport& report);           // for a terminal
std::string render_markdown(const OpBenchReport& report);  // the same table
OrderedJson to_json(const OpBenchReport& report);

}  // namespace concord::bench
