// How well a median is known, without assuming anything about how the samples are distributed, and when there are
// enough of them.
#pragma once
#include <cstddef>
#include <vector>

namespace concord::bench {

inline constexpr double kConfidence = 0.95;
inline constexpr std::size_t kLeastForInterval = 6;  // below, no two order statistics hold the median that surely

// The largest k >= 1 such that the k-th smallest and the k-th largest of n independent samples hold their
// distribution's median with at least that probability; 0 where there is none. Counts of samples below the median are
// binomial (n, 1/2), whatever the distribution.
std::size_t interval_rank(std::size_t n, double confidence = kConfidence);
// That probability for rank k: 1 - 2 P(Binomial(n, 1/2) <= k - 1).
double interval_coverage(std::size_t n, std::size_t k);

struct MedianInterval {
  double median = 0, low = 0, high = 0;  // NaN of nothing
  double coverage = 0;  // of [low, high]; 0: too few samples for an interval, low and high are the extremes
  // The farther end's distance from the median, over the median; infinite without an interval.
  double relative() const;
};
MedianInterval median_interval(std::vector<double> samples, double confidence = kConfidence);

struct SamplingLimits {
  double precision = 0.02;      // wanted MedianInterval::relative()
  double max_seconds = 2;       // no further round is begun after it; the least number of samples is always taken
  std::size_t min_samples = 9;  // at least kLeastForInterval
};
// How many samples to take next: all of min_samples at first, then half as many again (at least 4), fewer where time is
// short; 0 where the interval is narrow enough or the time is over. Few looks, because each look at the interval is a
// chance to stop too early. `seconds`: spent so far.
std::size_t next_round(const std::vector<double>& samples, double seconds, const SamplingLimits& limits);
bool is_sufficient(const MedianInterval& interval, const SamplingLimits& limits);

}  // namespace concord::bench
