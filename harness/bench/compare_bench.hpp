// The comparison of two captures against a plain reading of the same mapped bytes.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "bench/growth.hpp"
#include "bench/memory.hpp"
#include "bench/synthetic.hpp"

namespace concord::bench {

struct CompareBenchOptions {
  std::string subject, reference;  // both, or neither and `synthetic`
  std::optional<SyntheticSpec> synthetic;
  std::string keep;  // folder that the synthetic captures are written to and stay in; empty: a temporary one
  std::vector<std::string> profiles{"paper", "seed"};
  unsigned threads = 1;
  int repetitions = 7;
  bool growth = false;  // synthetic only
};

struct CompareMeasurement {
  std::uint64_t elements = 0, bytes = 0;  // of one capture; of both
  std::string dtype;
  // Each sample: seconds of compare(), and as extra "read" (the faster way of reading), "read_in_turn",
  // "read_side_by_side".
  std::vector<Sample> samples;
  std::uint64_t peak_anonymous = 0, anonymous = 0,
                file_backed = 0;  // [bytes]; the first above the mapped files, during the measurement
  bool peak_reset = false;  // false: the kernel did not let the peak be reset, peak_anonymous covers the process's life
  double others = 0;        // share of all processors that other programs used during the repetitions
  std::vector<std::string> verdicts;  // "paper ACCEPT 512/512 chunks"
};

struct CompareBenchReport {
  CompareBenchOptions options;
  CompareMeasurement main;
  std::optional<Growth> growth;
};

// Errors: those of opening and comparing; bench.unstable_output (kConformance) when two repetitions differ in a verdict
// or a count.
Result<CompareBenchReport> bench_compare(const CompareBenchOptions& options, const std::atomic<bool>& stop);

std::string render(const CompareBenchReport& report);
OrderedJson to_json(const CompareBenchReport& report);

}  // namespace concord::bench
