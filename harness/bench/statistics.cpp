#include "bench/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace concord::bench {
namespace {
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
}

double median(std::vector<double> values) {
  if (values.empty()) return kNan;
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Spread spread(const std::vector<double>& values) {
  if (values.empty()) return {kNan, kNan, kNan};
  const auto [low, high] = std::ranges::minmax(values);
  return {median(values), low, high};
}

std::vector<double> ratios(std::span<const double> a, std::span<const double> b) {
  std::vector<double> out;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) out.push_back(a[i] / b[i]);
  return out;
}

double log_log_slope(std::span<const double> x, std::span<const double> y) {
  const std::size_t n = std::min(x.size(), y.size());
  double mean_x = 0, mean_y = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!(x[i] > 0) || !(y[i] > 0)) return kNan;
    mean_x += std::log(x[i]) / static_cast<double>(n);
    mean_y += std::log(y[i]) / static_cast<double>(n);
  }
  double above = 0, below = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double dx = std::log(x[i]) - mean_x;
    above += dx * (std::log(y[i]) - mean_y);
    below += dx * dx;
  }
  return below > 0 ? above / below : kNan;
}

}  // namespace concord::bench
