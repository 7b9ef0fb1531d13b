// How time grows with size: a few sizes over one decade, and the slope of their logarithms.
#pragma once
#include <cstdint>
#include <vector>

#include "bench/blocks.hpp"

namespace concord::bench {

inline constexpr int kGrowthSizes = 5;
inline constexpr std::int64_t kGrowthTokens = 640;  // the longest prefill of a model's growth
// Five sizes from largest / 10 to largest, evenly spaced in their logarithm, each a multiple of `unit` and at least
// that; ascending and unique.
std::vector<std::int64_t> growth_sizes(std::int64_t largest, std::int64_t unit);

struct GrowthPoint {
  std::int64_t size = 0;
  std::vector<double> seconds;  // one per repetition
  double expected = 0;          // work by the formulas; 0 where none is stated
  std::uint64_t memory = 0;     // peak anonymous memory [bytes]; 0 where not measured
};
struct Growth {
  std::vector<GrowthPoint> points;
  double slope() const;           // of the median time over the size
  double expected_slope() const;  // of the stated work over the size; NaN without
};

}  // namespace concord::bench
