// Quantities derived from the counts and sums, and the statistics of two bare arrays. Formulas: docs/metrics.md.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>
#include <numeric>

#include "compare/accumulate.hpp"

namespace concord {
namespace {

double ratio(double numerator, double denominator) {
  return denominator == 0 ? std::numeric_limits<double>::quiet_NaN() : numerator / denominator;
}
double ratio(std::uint64_t numerator, std::uint64_t denominator) {
  return ratio(static_cast<double>(numerator), static_cast<double>(denominator));
}
// error / scale for non-negative numbers, where an error of zero is zero on any scale.
double relative(double error, double scale) { return error == 0 ? 0 : error / scale; }

}  // namespace

void ElementStats::merge(const ElementStats& other) {
  count += other.count;
  special += other.special;
  both_nonfinite += other.both_nonfinite;
  bit_equal += other.bit_equal;
  sign_flips += other.sign_flips;
  exponent_mismatch += other.exponent_mismatch;
  mismatch_large += other.mismatch_large;
  match_small += other.match_small;
  for (std::size_t i = 0; i < partition.size(); ++i) partition[i] += other.partition[i];
  sum_delta += other.sum_delta;
  sum_abs_delta += other.sum_abs_delta;
  sum_sq_delta += other.sum_sq_delta;
  sum_abs_b += other.sum_abs_b;
  sum_sq_b += other.sum_sq_b;
  sum_sq_a += other.sum_sq_a;
  sum_ab += other.sum_ab;
  max_abs_delta = std::max(max_abs_delta, other.max_abs_delta);
  if (!other.ulp_histogram.empty()) ulp_histogram.resize(kUlpBins);
  for (std::size_t i = 0; i < other.ulp_histogram.size(); ++i) ulp_histogram[i] += other.ulp_histogram[i];
  ulp_max = std::max(ulp_max, other.ulp_max);
}

double ElementStats::pe() const { return ratio(exponent_mismatch, count); }
std::optional<double> ElementStats::pm(std::uint64_t min_count) const {
  if (exponent_mismatch == 0 || exponent_mismatch < min_count) return std::nullopt;
  return ratio(mismatch_large, exponent_mismatch);
}
std::optional<double> ElementStats::pw() const {
  if (match() == 0) return std::nullopt;
  return ratio(match_small, match());
}
double ElementStats::mean_error_signed() const { return ratio(sum_delta, static_cast<double>(finite())); }
double ElementStats::mean_error_abs() const { return ratio(sum_abs_delta, static_cast<double>(finite())); }
double ElementStats::relative_error() const {
  return finite() == 0 ? ratio(0.0, 0.0) : sum_abs_delta == 0 ? 0 : sum_delta / sum_abs_b;
}
double ElementStats::rel_l2() const {
  return finite() == 0 ? ratio(0.0, 0.0) : std::sqrt(relative(sum_sq_delta, sum_sq_b));
}
double ElementStats::nmse() const { return finite() == 0 ? ratio(0.0, 0.0) : relative(sum_sq_delta, sum_sq_b); }
double ElementStats::cosine() const {
  if (finite() == 0) return ratio(0.0, 0.0);
  if (sum_sq_a == 0 || sum_sq_b == 0) return sum_sq_a == sum_sq_b ? 1 : 0;
  return sum_ab / std::sqrt(sum_sq_a * sum_sq_b);
}
double ElementStats::share_bit_equal() const { return ratio(bit_equal, count); }
double ElementStats::share_sign_flips() const { return ratio(sign_flips, count); }

std::uint64_t ElementStats::ulp_sample() const {
  return std::accumulate(ulp_histogram.begin(), ulp_histogram.end(), std::uint64_t{0});
}
std::uint64_t ElementStats::ulp_quantile(double q) const {
  const std::uint64_t n = ulp_sample();
  if (n == 0) return 0;
  const auto rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(n))), 1, n);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < ulp_histogram.size(); ++i) {
    seen += ulp_histogram[i];
    if (seen >= rank) return std::min(detail::ulp_bin_top(i), ulp_max);
  }
  return ulp_max;
}

// Blocks of a fixed size are computed in any order and merged in theirs; a wave of blocks at a time bounds the memory
// for their histograms.
ElementStats element_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b,
                           const MetricParameters& parameters) {
  assert(a.size() == b.size());
  constexpr std::size_t kBlock = 1u << 16, kWave = 256;
  const std::size_t width = dtype_bits(dtype) / 8, n = a.size() / width, blocks = (n + kBlock - 1) / kBlock;
  const detail::RowPlan plan = detail::row_plan(dtype, parameters, false);
  ElementStats total;
  total.ulp_histogram.resize(kUlpBins);
  for (std::size_t wave = 0; wave < blocks; wave += kWave) {
    std::vector<ElementStats> part(std::min(kWave, blocks - wave));
    tbb::parallel_for(std::size_t{0}, part.size(), [&](std::size_t i) {
      const std::size_t first = (wave + i) * kBlock;
      const auto scratch = std::make_unique<detail::Scratch>();
      part[i].ulp_histogram.resize(kUlpBins);
      detail::add_row(detail::compare_row(plan, a.data() + first * width, b.data() + first * width,
                                          std::min(kBlock, n - first), *scratch),
                      part[i]);
      detail::drain_bins(*scratch, part[i].ulp_max, part[i].ulp_histogram);
    });
    for (const auto& p : part) total.merge(p);
  }
  return total;
}

}  // namespace concord
