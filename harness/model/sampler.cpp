#include "model/sampler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/rng.hpp"

namespace concord {
namespace {

constexpr double kIneligible = -std::numeric_limits<double>::infinity();

// Over a whole vocabulary, for every token: loops without branches, which the compiler turns into vector code.
constexpr std::size_t kLanes = 16;

// The largest logit; NaN is passed over.
float largest(std::span<const float> v) {
  std::array<float, kLanes> lane;
  lane.fill(-std::numeric_limits<float>::infinity());
  std::size_t i = 0;
  for (; i + kLanes <= v.size(); i += kLanes)
    for (std::size_t l = 0; l < kLanes; ++l) lane[l] = v[i + l] > lane[l] ? v[i + l] : lane[l];
  for (; i < v.size(); ++i) lane[0] = v[i] > lane[0] ? v[i] : lane[0];
  return *std::ranges::max_element(lane);
}

std::int64_t count_above(std::span<const float> v, float limit) {
  std::uint32_t n = 0;
  for (const float x : v) n += x > limit;
  return n;
}

Status check_finite(std::span<const float> logits, std::int64_t position) {
  constexpr float kMost = std::numeric_limits<float>::max();
  std::uint32_t good = 0, finite = 0;  // a NaN is in no comparison
  for (const float v : logits) good += v <= kMost, finite += v <= kMost && v >= -kMost;
  if (good == logits.size() && finite > 0) return {};
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity())
      return fail(ErrorKind::kConformance, "sampler.not_finite",
                  fmt::format("logit of id {} at position {} is {}", i, position, logits[i]));
  }
  return fail(ErrorKind::kConformance, "sampler.not_finite", fmt::format("no finite logit at position {}", position));
}

// The ids that top_k and top_p leave, in order of falling logit (lower id first among equals).
std::vector<std::int32_t> eligible(const SamplerSpec& s, std::span<const float> logits) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](std::int32_t x, std::int32_t y) {
    const float a = logits[static_cast<std::size_t>(x)], b = logits[static_cast<std::size_t>(y)];
    return a != b ? a > b : x < y;
  };
  const std::size_t keep = s.top_k > 0 ? std::min(ids.size(), static_cast<std::size_t>(s.top_k)) : ids.size();
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(keep), ids.end(), before);
  ids.resize(keep);
  if (s.top_p >= 1.0) return ids;
  const double top = logits[static_cast<std::size_t>(ids[0])];
  std::vector<double> weight;
  for (std::int32_t id : ids) weight.push_back(std::exp((logits[static_cast<std::size_t>(id)] - top) / s.temperature));
  const double target = s.top_p * std::accumulate(weight.begin(), weight.end(), 0.0);
  double sum = 0;
  std::size_t n = 0;
  while (n < ids.size() && sum < target) sum += weight[n++];
  ids.resize(std::max<std::size_t>(n, 1));
  return ids;
}

// The score of every id under a sampler that draws; the largest one is its choice. Greedy: the logits themselves.
std::vector<double> scores(const SamplerSpec& s, std::span<const float> logits, std::int64_t position) {
  std::vector<double> out(logits.size(), kIneligible);
  const double scale = 1 / s.temperature;  // as the operator SAMPLE has it, so that a device and this draw alike
  for (std::int32_t id : eligible(s, logits)) {
    const double u = uniform_open(s.seed, static_cast<std::uint64_t>(position), static_cast<std::uint64_t>(id));
    out[static_cast<std::size_t>(id)] = logits[static_cast<std::size_t>(id)] * scale - std::log(-std::log(u));
  }
  return out;
}

std::int32_t first_largest(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::find(logits, largest(logits)) - logits.begin());
}

TokenMargin greedy_margin(std::span<const float> logits, float mine) {
  TokenMargin out{.best = first_largest(logits)};
  const bool chosen_by_nobody = mine == -std::numeric_limits<float>::infinity();
  out.margin = static_cast<double>(logits[static_cast<std::size_t>(out.best)]) - static_cast<double>(mine);
  out.rank = chosen_by_nobody ? static_cast<std::int64_t>(logits.size()) : count_above(logits, mine);
  return out;
}

}  // namespace

Result<std::int32_t> choose_token(const SamplerSpec& sampler, std::span<const float> logits, std::int64_t position) {
  CONCORD_CHECK(check_finite(logits, position));
  if (sampler.kind == SamplerSpec::Kind::kGreedy) return first_largest(logits);
  const auto all = scores(sampler, logits, position);
  return static_cast<std::int32_t>(std::max_element(all.begin(), all.end()) - all.begin());  // the first of equals
}

Result<TokenMargin> token_margin(const SamplerSpec& sampler, std::span<const float> logits, std::int64_t position,
                                 std::int32_t emitted) {
  CONCORD_CHECK(check_finite(logits, position));
  if (emitted < 0 || static_cast<std::size_t>(emitted) >= logits.size())
    return bad_input("workload.token_out_of_range", fmt::format("emitted token {} is not below {}", emitted, logits.size()));
  if (sampler.kind == SamplerSpec::Kind::kGreedy) return greedy_margin(logits, logits[static_cast<std::size_t>(emitted)]);
  const auto all = scores(sampler, logits, position);
  const auto best = std::max_element(all.begin(), all.end());
  const double mine = all[static_cast<std::size_t>(emitted)];
  TokenMargin out{.best = static_cast<std::int32_t>(best - all.begin())};
  out.margin = mine == kIneligible ? std::numeric_limits<double>::infinity() : *best - mine;
  out.rank = mine == kIneligible ? static_cast<std::int64_t>(all.size())
                                 : std::count_if(all.begin(), all.end(), [&](double v) { return v > mine; });
  return out;
}

}  // namespace concord
