// The inner loop of the comparison, shared by arrays and captures. Internal to this floor.
#pragma once
#include <cstddef>

#include "compare/compare.hpp"

namespace concord::detail {

// Adds n elements of both sides to `into`, in one pass and a fixed order. `into.ulp_histogram` is filled when it has
// kUlpBins entries and left alone when it is empty. Neither array need be aligned.
void accumulate(DType dtype, const std::byte* a, const std::byte* b, std::size_t n, const MetricParameters& parameters,
                ElementStats& into);

std::size_t ulp_bin(std::uint32_t ulp);
std::uint64_t ulp_bin_top(std::size_t bin);  // largest distance in the bin

}  // namespace concord::detail
