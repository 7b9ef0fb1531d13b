// The decision rules of the profiles over one cell or chunk. Internal to this floor.
#pragma once
#include <string_view>

#include "compare/compare.hpp"

namespace concord::detail {

// A decision without its words: there is one for every cell, and nearly none is ever shown.
struct Judgement {
  enum class Rest : std::uint8_t { kNone, kPaper, kSeed, kToploc, kSpecial };  // what follows the comparison in words
  bool accepted = false, pm_skipped = false, pw_skipped = false;
  Rest rest = Rest::kNone;
  std::string_view metric;
  const char* relation = "";
  double value = 0, threshold = 0;
  double more[2]{};  // seed: Pe and its limit; toploc: mean and median
};
CellVerdict describe(const Judgement& judgement, std::int64_t layer = 0, std::int32_t position = 0);

// Every rule refuses a cell with elements whose class (finite, infinity, NaN) differs, before it looks at any average.
Judgement judge_paper(const Profile& profile, const ElementStats& chunk);
Judgement judge_seed(const Profile& profile, const SeedStats& cell, std::uint64_t special);
Judgement judge_toploc(const Profile& profile, const ToplocStats& chunk, std::uint64_t special);
Judgement judge_calibrated(const CalibratedLimit& limit, const ElementStats& cell);

// Sets verdict, rule, metric, value and threshold from the counts, the first failure and the first cell, of any
// captured layer, with elements whose class differs (null: none), which refuses the whole whatever the rate. A rule set
// before says why nothing was judged.
void conclude(const Profile& profile, const CellVerdict* special, Comparison& comparison);

Judgement special_verdict(std::uint64_t special);

}  // namespace concord::detail
