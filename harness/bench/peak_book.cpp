#include "bench/peak_book.hpp"

#include <algorithm>

namespace concord::bench {

void PeakBook::mark() {
  if (load_) others_.push_back(load_->share());
  load_.reset();
  std::map<PeakKey, Peaks> now;
  for (const PeakKey& key : keys_) now[key] = measure_peaks(key.first, key.second);
  marks_.push_back(std::move(now));
}

std::size_t PeakBook::epoch(double seconds) {
  if (!load_ || age_.seconds() > seconds) {
    mark();
    load_ = std::make_unique<OtherLoad>();
    age_ = {};
  }
  return marks_.size() - 1;
}

void PeakBook::close() {
  if (load_) mark();
}

std::optional<Peaks> PeakBook::around(std::size_t epoch, const PeakKey& key) const {
  if (epoch + 1 >= marks_.size() || !marks_[epoch].contains(key)) return {};
  return larger(marks_[epoch].at(key), marks_[epoch + 1].at(key));
}

}  // namespace concord::bench
