// Which combinations of several lists of values are taken: all of them, every pair of values of two lists, or every value of each list.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord::conformance {

enum class Cover {
  kProduct,  // every combination
  kPairs,    // for every two lists, every pair of their values stands in some combination
  kEach,     // every value of every list stands in some combination; as many combinations as the longest list has values
};
Result<Cover> cover_from_name(const std::string& name);

// sizes[i] values in list i, none empty. Returns indices, one per list. A fixed function of its arguments: case ids depend on it.
// Errors: suite.too_many_cases when there would be more than `limit`, or when pairs of too many values are asked for.
Result<std::vector<std::vector<std::uint32_t>>> combinations(Cover cover, const std::vector<std::size_t>& sizes, std::size_t limit);

}  // namespace concord::conformance
