// One row of both sides at a time: the kernels' counts and sums, and what is derived from them. Internal to this floor.
#pragma once
#include <cstddef>
#include <vector>

#include "compare/compare.hpp"
#include "compare/kernels.hpp"

namespace concord::detail {

// How the rows of one comparison are gone through.
struct RowPlan {
  DType dtype = DType::kF32;
  MetricParameters parameters;
  bool seed = false;  // whether the seed profile's figures are wanted
  const Kernels* kernels = nullptr;
  std::size_t step = 1, phase = 0;  // of the blocks of 16 elements, one in `step` stands for all in the histogram
};
RowPlan row_plan(DType dtype, const MetricParameters& parameters, bool seed, Isa isa = best_isa());

struct RowResult {
  RowState state;
  std::size_t n = 0;
  float seed_sum = 0;  // of |a - b|, in NumPy's order
  SeedCounts seed;
};
// Looks at each segment's |a - b| right after it was computed.
using DeltaSink = void (*)(const float* delta, std::size_t n, void* to);

// Both arrays hold n elements and need not be aligned. The distances go to `scratch.bins`.
RowResult compare_row(const RowPlan& plan, const std::byte* a, const std::byte* b, std::size_t n, Scratch& scratch,
                      DeltaSink sink = nullptr, void* to = nullptr);
void add_row(const RowResult& row, ElementStats& into);  // everything but the histogram
// The part of the seed's figures that its rule looks at: mean, Pe, Pm, Pw.
SeedStats seed_figures(DType dtype, const RowResult& row);
const SeedLiterals& seed_literals(DType dtype);

// The two counts that depend on tau_m and tau_w.
struct GapCounts {
  std::uint64_t mismatch_large = 0, match_small = 0;
};
GapCounts count_gaps(DType dtype, const std::byte* a, const std::byte* b, std::size_t n,
                     const MetricParameters& parameters);

// Moves the distances, none above ulp_max, into a histogram of kUlpBins entries.
void drain_bins(Scratch& scratch, std::uint64_t ulp_max, std::vector<std::uint64_t>& histogram);

std::size_t ulp_bin(std::uint32_t ulp);
std::uint64_t ulp_bin_top(std::size_t bin);  // largest distance in the bin

}  // namespace concord::detail
