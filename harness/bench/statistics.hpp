// Small statistics over repetitions. A median, because a shared machine disturbs single repetitions and never speeds
// one up.
#pragma once
#include <span>
#include <vector>

namespace concord::bench {

double median(std::vector<double> values);  // mean of the middle two for an even number; NaN of nothing

struct Spread {
  double median = 0, low = 0, high = 0;
};
Spread spread(const std::vector<double>& values);  // NaN of nothing

// Element by element a / b.
std::vector<double> ratios(std::span<const double> a, std::span<const double> b);

// Least-squares slope of log(y) over log(x): 1 for growth in proportion. NaN below two different x, or where a value is
// not positive.
double log_log_slope(std::span<const double> x, std::span<const double> y);

}  // namespace concord::bench
