// The interval of the median against tables computed by hand from binomial coefficients, the rule that ends sampling on
// made-up samples, and the arithmetic of rates. Nothing here looks at a clock.
#include "bench/median_interval.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.hpp"
#include "bench/op_rates.hpp"

namespace concord::bench {
namespace {

// Lower tails of Binomial(n, 1/2): sums of binomial coefficients over 2^n, by hand.
struct TableRow {
  std::size_t n, rank;
  double tail, all;  // P(X <= rank - 1) = tail / all
};
constexpr TableRow kTable[] = {{6, 1, 1, 64},                       // 1
                               {7, 1, 1, 128},                      // 1
                               {8, 1, 1, 256},                      // 1; with 8 more: 9/256 = 3.5 % a side, too much
                               {9, 2, 1 + 9, 512},                  // 1 + 9
                               {10, 2, 1 + 10, 1024},               // 1 + 10
                               {11, 2, 1 + 11, 2048},               // with 55 more: 67/2048 = 3.3 %
                               {12, 3, 1 + 12 + 66, 4096},          //
                               {15, 4, 1 + 15 + 105 + 455, 32768},  //
                               {20, 6, 1 + 20 + 190 + 1140 + 4845 + 15504, 1048576}};

TEST(MedianInterval, HasTheRanksAndTheCoverageOfBinomialTables) {
  for (const TableRow& row : kTable) {
    EXPECT_EQ(interval_rank(row.n), row.rank) << row.n;
    EXPECT_NEAR(interval_coverage(row.n, row.rank), 1 - 2 * row.tail / row.all, 1e-12) << row.n;
    EXPECT_GE(interval_coverage(row.n, row.rank), kConfidence) << row.n;
    EXPECT_LT(interval_coverage(row.n, row.rank + 1), kConfidence) << row.n << ": a narrower one would do";
  }
}

TEST(MedianInterval, NeedsSixSamples) {
  for (std::size_t n = 0; n < kLeastForInterval; ++n) EXPECT_EQ(interval_rank(n), 0u) << n;  // 2/32 > 5 % at n = 5
  const MedianInterval five = median_interval({1, 2, 3, 4, 5});
  EXPECT_EQ(five.coverage, 0);
  EXPECT_EQ(five.median, 3);
  EXPECT_TRUE(std::isinf(five.relative())) << "no interval is never narrow enough";
  EXPECT_TRUE(std::isnan(median_interval({}).median));
  EXPECT_TRUE(std::isinf(median_interval({}).relative()));
}

TEST(MedianInterval, IsOfOrderStatistics) {
  const MedianInterval i = median_interval({9, 1, 8, 2, 7, 3, 6, 4, 5});  // 9 samples: the second and the eighth
  EXPECT_EQ(i.median, 5);
  EXPECT_EQ(i.low, 2);
  EXPECT_EQ(i.high, 8);
  EXPECT_DOUBLE_EQ(i.relative(), 0.6);
  const MedianInterval even = median_interval({1, 2, 3, 10, 11, 20});  // 6 samples: the extremes
  EXPECT_EQ(even.median, 6.5);
  EXPECT_EQ(even.low, 1);
  EXPECT_EQ(even.high, 20);
  EXPECT_DOUBLE_EQ(even.relative(), 13.5 / 6.5) << "the farther end counts";
}

TEST(MedianInterval, StaysExactForManySamples) {
  // Normal approximation of the rank, within one of it: n/2 - 1.96 sqrt(n)/2.
  for (const std::size_t n : {1000u, 100'000u}) {
    const auto count = static_cast<double>(n);
    EXPECT_NEAR(static_cast<double>(interval_rank(n)), count / 2 - 0.98 * std::sqrt(count), 1.5) << n;
  }
}

// 2,000 experiments with 15 samples of a skewed distribution each: the interval holds the true median in 95 % of them
// or more. The number of hits is binomial; 4 standard deviations below its mean at the exact coverage 0.9648.
TEST(MedianInterval, HoldsTheMedianOfASkewedDistribution) {
  int hits = 0;
  constexpr int kExperiments = 2000;
  for (int e = 0; e < kExperiments; ++e) {
    std::vector<double> samples;
    for (std::uint64_t i = 0; i < 15; ++i)
      samples.push_back(-std::log(uniform_open(7, static_cast<std::uint64_t>(e), i)));
    const MedianInterval m = median_interval(samples);
    hits += m.low <= std::log(2.0) && std::log(2.0) <= m.high;
  }
  EXPECT_GE(hits, 0.9648 * kExperiments - 4 * std::sqrt(kExperiments * 0.9648 * 0.0352));
}

TEST(Sampling, TakesTheLeastNumberFirstWhateverTheTime) {
  const SamplingLimits limits{.precision = 0.02, .max_seconds = 1, .min_samples = 9};
  EXPECT_EQ(next_round({}, 0, limits), 9u);
  EXPECT_EQ(next_round({}, 100, limits), 9u);
  EXPECT_EQ(next_round({1, 1, 1}, 100, limits), 6u);
}

TEST(Sampling, EndsWhenTheIntervalIsNarrow) {
  const SamplingLimits limits{.precision = 0.02, .max_seconds = 100, .min_samples = 9};
  const std::vector<double> calm(9, 1.0);
  EXPECT_EQ(next_round(calm, 1, limits), 0u);
  EXPECT_TRUE(is_sufficient(median_interval(calm), limits));
  const std::vector<double> outlier = {1, 1, 1, 1, 1, 1, 1, 1, 50};  // one disturbed sample costs nothing
  EXPECT_EQ(next_round(outlier, 1, limits), 0u);
  const std::vector<double> two = {1, 1, 1, 1, 1, 1, 1, 50, 50};  // the eighth is an end of the interval
  EXPECT_EQ(next_round(two, 1, limits), 4u);
  EXPECT_FALSE(is_sufficient(median_interval(two), limits));
}

TEST(Sampling, GrowsByHalfAndFitsTheTimeThatIsLeft) {
  const SamplingLimits limits{.precision = 0.001, .max_seconds = 10, .min_samples = 9};
  std::vector<double> wide;
  for (int i = 0; i < 40; ++i) wide.push_back(1 + 0.1 * (i % 2));
  EXPECT_EQ(next_round(wide, 1, limits), 20u);
  EXPECT_EQ(next_round(wide, 8, limits), 10u) << "0.2 s each, 2 s left";
  EXPECT_EQ(next_round(wide, 9.99, limits), 1u);
  EXPECT_EQ(next_round(wide, 10, limits), 0u) << "the time is over";
  EXPECT_FALSE(is_sufficient(median_interval(wide), limits)) << "and the result is not good";
}

TEST(Rates, AreWorkOverTimeAndSharesOfThePeaks) {
  Peaks peaks;
  peaks.flops = 100e9, peaks.read = 10e9;
  const OpRates bound_by_memory = rates_of(2e9, 1e9, 0.2, peaks);
  EXPECT_DOUBLE_EQ(bound_by_memory.flops, 10e9);
  EXPECT_DOUBLE_EQ(bound_by_memory.of_flops, 0.1);
  EXPECT_DOUBLE_EQ(bound_by_memory.bytes, 5e9);
  EXPECT_DOUBLE_EQ(bound_by_memory.of_bytes, 0.5);
  EXPECT_DOUBLE_EQ(bound_by_memory.roofline_seconds, 0.1);  // 1 GB at 10 GB/s, not 2 GFLOP at 100
  EXPECT_DOUBLE_EQ(bound_by_memory.of_roofline, 0.5);
  const OpRates bound_by_arithmetic = rates_of(50e9, 1e9, 1, peaks);
  EXPECT_DOUBLE_EQ(bound_by_arithmetic.roofline_seconds, 0.5);
}

TEST(Rates, HaveNoRoofWithOneSideMissing) {
  Peaks reading_only;
  reading_only.read = 10e9;
  const OpRates r = rates_of(1e9, 1e9, 1, reading_only);
  EXPECT_EQ(r.of_flops, 0);
  EXPECT_DOUBLE_EQ(r.of_bytes, 0.1);
  EXPECT_EQ(r.of_roofline, 0);
  EXPECT_DOUBLE_EQ(rates_of(0, 1e9, 1, reading_only).of_roofline, 0.1) << "a copy needs no arithmetic";
  EXPECT_EQ(rates_of(1e9, 1e9, 1, std::nullopt).of_bytes, 0);
}

}  // namespace
}  // namespace concord::bench
