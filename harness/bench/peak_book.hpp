// The peaks over a long run: measured before the first measurement, again whenever some time has passed, and after the
// last one, so that each measurement stands between two of them.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bench/load.hpp"
#include "bench/peaks.hpp"
#include "bench/stopwatch.hpp"

namespace concord::bench {

// Which peaks: an arithmetic (none: reading only) on a number of threads.
using PeakKey = std::pair<std::optional<Arithmetic>, unsigned>;

class PeakBook {
 public:
  explicit PeakBook(std::vector<PeakKey> keys) : keys_(std::move(keys)) {}
  // Opens a new epoch where none is open, or the open one is older than `seconds`. Returns its number.
  std::size_t epoch(double seconds = 30);
  void close();  // measures the end of the last epoch; nothing where none was opened

  // The larger of the peaks at both ends of an epoch; nothing for a key that was not asked for. After close() only.
  std::optional<Peaks> around(std::size_t epoch, const PeakKey& key) const;
  double others(std::size_t epoch) const { return others_[epoch]; }  // share of all processors that others used in it
  std::size_t epochs() const { return others_.size(); }
  const std::map<PeakKey, Peaks>& begin_of(std::size_t epoch) const { return marks_[epoch]; }
  const std::map<PeakKey, Peaks>& end_of(std::size_t epoch) const { return marks_[epoch + 1]; }

 private:
  void mark();
  std::vector<PeakKey> keys_;
  std::vector<std::map<PeakKey, Peaks>> marks_;  // one more than epochs when closed
  std::vector<double> others_;
  std::unique_ptr<OtherLoad> load_;  // of the open epoch
  Stopwatch age_;
};

}  // namespace concord::bench
