#include "conformance/suite/coverage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.hpp"

namespace concord::conformance {
namespace {

using Combination = std::vector<std::uint32_t>;
constexpr std::size_t kMaxPairValues = 512, kMaxPairs = 20'000;  // of one workload: bounds the time that pairs take

std::unexpected<Error> too_many(const std::string& what) { return bad_input("suite.too_many_cases", what); }

Result<std::vector<Combination>> product(const std::vector<std::size_t>& sizes, std::size_t limit) {
  std::size_t total = 1;
  for (const std::size_t n : sizes) {
    total *= n;  // cannot overflow: both factors are below 2^32 before the check
    if (total > limit) return too_many(fmt::format("more than {} combinations", limit));
  }
  std::vector<Combination> out(total, Combination(sizes.size()));
  for (std::size_t i = 0; i < total; ++i)
    for (std::size_t k = sizes.size(), rest = i; k-- > 0; rest /= sizes[k]) out[i][k] = static_cast<std::uint32_t>(rest % sizes[k]);
  return out;
}

// Each list is walked in a circle; list k moves on by k at every turn, so that lists of one length, or of a length that divides another's, do not march in step.
std::vector<Combination> each(const std::vector<std::size_t>& sizes) {
  std::vector<Combination> out(std::ranges::max(sizes), Combination(sizes.size()));
  for (std::size_t i = 0; i < out.size(); ++i)
    for (std::size_t k = 0; k < sizes.size(); ++k) out[i][k] = static_cast<std::uint32_t>((i + k * (i / sizes[k])) % sizes[k]);
  return out;
}

// Greedy: begin with the first pair that is not covered, then give every other list the value that covers most new pairs with what is chosen already (among
// equals the one used least, then the first).
class PairCover {
 public:
  explicit PairCover(const std::vector<std::size_t>& sizes) : sizes_(sizes) {
    for (const std::size_t n : sizes) offsets_.push_back(values_), values_ += n;
    covered_.assign(values_ * values_, false);
    used_.assign(values_, 0);
  }

  std::vector<Combination> run() {
    std::vector<Combination> out;
    for (std::size_t a = 0; a < sizes_.size(); ++a)
      for (std::size_t b = a + 1; b < sizes_.size(); ++b)
        for (std::uint32_t i = 0; i < sizes_[a]; ++i)
          for (std::uint32_t j = 0; j < sizes_[b]; ++j)
            if (!covered_[at(a, i, b, j)]) out.push_back(combination({a, i}, {b, j}));
    return out;
  }

 private:
  using Choice = std::pair<std::size_t, std::uint32_t>;  // list, index
  std::size_t at(std::size_t a, std::uint32_t i, std::size_t b, std::uint32_t j) const {
    return (offsets_[a] + i) * values_ + offsets_[b] + j;
  }

  Combination combination(Choice first, Choice second) {
    std::vector<Choice> chosen{first, second};
    for (std::size_t k = 0; k < sizes_.size(); ++k)
      if (k != first.first && k != second.first) chosen.emplace_back(k, best(k, chosen));
    Combination out(sizes_.size());
    for (const auto& [list, index] : chosen) {
      out[list] = index;
      ++used_[offsets_[list] + index];
      for (const auto& [other, other_index] : chosen) covered_[at(list, index, other, other_index)] = true;
    }
    return out;
  }

  std::uint32_t best(std::size_t list, const std::vector<Choice>& chosen) const {
    std::uint32_t found = 0;
    std::pair<std::size_t, std::int64_t> found_score{0, 0};
    for (std::uint32_t i = 0; i < sizes_[list]; ++i) {
      std::size_t fresh = 0;
      for (const auto& [other, index] : chosen) fresh += !covered_[at(list, i, other, index)];
      const std::pair<std::size_t, std::int64_t> score{fresh, -used_[offsets_[list] + i]};
      if (i == 0 || score > found_score) found = i, found_score = score;
    }
    return found;
  }

  const std::vector<std::size_t>& sizes_;
  std::vector<std::size_t> offsets_;
  std::size_t values_ = 0;
  std::vector<bool> covered_;
  std::vector<std::int64_t> used_;
};

Result<std::vector<Combination>> pairs(const std::vector<std::size_t>& sizes, std::size_t limit) {
  std::size_t values = 0, all_pairs = 0;
  for (const std::size_t n : sizes) all_pairs += values * n, values += n;
  if (values > kMaxPairValues || all_pairs > kMaxPairs)
    return too_many(fmt::format("pairs of {} values, {} of them; at most {} values and {} pairs", values, all_pairs, kMaxPairValues, kMaxPairs));
  std::vector<Combination> out = PairCover(sizes).run();
  if (out.size() > limit) return too_many(fmt::format("more than {} combinations", limit));
  return out;
}

}  // namespace

Result<Cover> cover_from_name(const std::string& name) {
  if (name == "product") return Cover::kProduct;
  if (name == "pairs") return Cover::kPairs;
  if (name == "each") return Cover::kEach;
  return bad_input("suite.out_of_range", fmt::format("\"{}\" is no way to cover; expected product, pairs or each", printable(name)));
}

Result<std::vector<Combination>> combinations(Cover cover, const std::vector<std::size_t>& sizes, std::size_t limit) {
  if (sizes.empty() || std::ranges::find(sizes, 0u) != sizes.end()) return bad_input("suite.out_of_range", "a list without values");
  if (std::ranges::max(sizes) > limit) return too_many(fmt::format("more than {} values in a list", limit));
  if (cover == Cover::kEach) return each(sizes);
  return cover == Cover::kPairs && sizes.size() > 2 ? pairs(sizes, limit) : product(sizes, limit);
}

}  // namespace concord::conformance
