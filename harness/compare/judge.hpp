// The decision rules of the profiles over one cell or chunk. Internal to this floor.
#pragma once
#include "compare/compare.hpp"

namespace concord::detail {

// Every rule refuses a cell with elements whose class (finite, infinity, NaN) differs, before it looks at any average.
CellVerdict judge_paper(const Profile& profile, const ElementStats& chunk);
CellVerdict judge_seed(const Profile& profile, const SeedStats& cell, std::uint64_t special);
CellVerdict judge_toploc(const Profile& profile, const ToplocStats& chunk, std::uint64_t special);
CellVerdict judge_calibrated(const CalibratedLimit& limit, const ElementStats& cell);

// Sets verdict, rule, metric, value and threshold from the counts, the first failure and the first cell, of any
// captured layer, with elements whose class differs (null: none), which refuses the whole whatever the rate. A rule set
// before says why nothing was judged.
void conclude(const Profile& profile, const CellVerdict* special, Comparison& comparison);

CellVerdict special_verdict(std::uint64_t special);

}  // namespace concord::detail
