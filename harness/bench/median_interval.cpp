#include "bench/median_interval.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "bench/statistics.hpp"

namespace concord::bench {
namespace {

// P(Binomial(n, 1/2) = i), by logarithms so that a large n does not underflow on the way.
double binomial_half(std::size_t n, std::size_t i) {
  const auto count = static_cast<double>(n), part = static_cast<double>(i);
  return std::exp(std::lgamma(count + 1) - std::lgamma(part + 1) - std::lgamma(count - part + 1) -
                  count * std::log(2.0));
}

}  // namespace

std::size_t interval_rank(std::size_t n, double confidence) {
  double below = 0;  // P(Binomial <= k - 1)
  std::size_t k = 0;
  while (k < n / 2) {
    below += binomial_half(n, k);
    if (1 - 2 * below < confidence) break;
    ++k;
  }
  return k;
}

double interval_coverage(std::size_t n, std::size_t k) {
  if (k == 0) return 0;
  double below = 0;
  for (std::size_t i = 0; i < k; ++i) below += binomial_half(n, i);
  return 1 - 2 * below;
}

double MedianInterval::relative() const {
  if (coverage == 0 || !(median > 0)) return std::numeric_limits<double>::infinity();
  return std::max(median - low, high - median) / median;
}

MedianInterval median_interval(std::vector<double> samples, double confidence) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (samples.empty()) return {kNan, kNan, kNan, 0};
  std::ranges::sort(samples);
  const std::size_t n = samples.size(), k = interval_rank(n, confidence), first = std::max<std::size_t>(k, 1) - 1;
  return {median(samples), samples[first], samples[n - 1 - first], interval_coverage(n, k)};
}

bool is_sufficient(const MedianInterval& interval, const SamplingLimits& limits) {
  return interval.relative() <= limits.precision;
}

std::size_t next_round(const std::vector<double>& samples, double seconds, const SamplingLimits& limits) {
  const std::size_t taken = samples.size();
  if (taken < limits.min_samples) return limits.min_samples - taken;
  if (is_sufficient(median_interval(samples), limits) || seconds >= limits.max_seconds) return 0;
  const double each = seconds / static_cast<double>(taken), left = (limits.max_seconds - seconds) / each;
  const std::size_t wanted = std::max<std::size_t>(taken / 2, 4);
  return left < static_cast<double>(wanted) ? std::max<std::size_t>(static_cast<std::size_t>(left), 1) : wanted;
}

}  // namespace concord::bench
