// Repetitions of one measured block, run and collected by Google Benchmark with manual time.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord::bench {

// One repetition: what was timed, and counterparts timed in the same repetition ("plain", "read", ...).
struct Sample {
  double seconds = 0;
  std::map<std::string, double> extra;
};

// Runs `once` `repetitions` times, with the number of the repetition (0, 1, ...). Ends at the first error, and with
// bench.interrupted when `stop` is set. Not to be called from two threads at once: Google Benchmark's registry is
// global.
Result<std::vector<Sample>> run_block(const std::string& name, int repetitions, const std::atomic<bool>& stop,
                                      const std::function<Result<Sample>(int repetition)>& once);

std::vector<double> seconds_of(const std::vector<Sample>& samples);
std::vector<double> extra_of(const std::vector<Sample>& samples,
                             const std::string& name);  // of the samples that have it

}  // namespace concord::bench
