#include "bench/growth.hpp"

#include <algorithm>
#include <cmath>

#include "bench/statistics.hpp"

namespace concord::bench {

std::vector<std::int64_t> growth_sizes(std::int64_t largest, std::int64_t unit) {
  std::vector<std::int64_t> out;
  for (int i = 0; i < kGrowthSizes; ++i) {
    const double exponent = static_cast<double>(i) / (kGrowthSizes - 1) - 1;
    const double units = static_cast<double>(largest) * std::pow(10.0, exponent) / static_cast<double>(unit);
    const std::int64_t size = std::max<std::int64_t>(1, std::llround(units)) * unit;
    if (out.empty() || size > out.back()) out.push_back(size);
  }
  return out;
}

namespace {
template <class Value>
double slope_of(const std::vector<GrowthPoint>& points, Value value) {
  std::vector<double> x, y;
  for (const GrowthPoint& p : points) {
    x.push_back(static_cast<double>(p.size));
    y.push_back(value(p));
  }
  return log_log_slope(x, y);
}
}  // namespace

double Growth::slope() const {
  return slope_of(points, [](const GrowthPoint& p) { return median(p.seconds); });
}

double Growth::expected_slope() const {
  return slope_of(points, [](const GrowthPoint& p) { return p.expected; });
}

}  // namespace concord::bench
