// What verillm-experiments computes with NumPy for one cell, bit for bit: differences in the arrays' own dtype,
// literals rounded to it, the mean by NumPy's pairwise summation. Definitions and what is wrong with them:
// docs/metrics.md.
#include <cassert>
#include <cmath>
#include <memory>

#include "compare/accumulate.hpp"

namespace concord {
namespace {

struct Tally {
  const detail::SeedLiterals& lit;
  SeedStats counts;
  float largest = 0;
};

void count_deltas(const float* delta, std::size_t n, void* to) {
  Tally& t = *static_cast<Tally*>(to);
  SeedStats& s = t.counts;
  for (std::size_t i = 0; i < n; ++i) {
    const float d = delta[i];
    s.exact += d == 0;
    s.match_large += d > t.lit.fifth;
    s.match_small += d > 0 && d <= t.lit.fifth;
    s.mismatch_large += d > 5;
    s.mismatch_small += d > t.lit.fifth && d <= 5;
    t.largest = std::isnan(t.largest) || t.largest > d ? t.largest : d;  // a NaN stays, as in np.max
  }
}

}  // namespace

SeedStats seed_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b) {
  assert(a.size() == b.size());
  const std::size_t n = a.size() * 8 / dtype_bits(dtype);
  const auto scratch = std::make_unique<detail::Scratch>();
  Tally tally{detail::seed_literals(dtype), {}};
  const auto row =
      detail::compare_row(detail::row_plan(dtype, {}, true), a.data(), b.data(), n, *scratch, count_deltas, &tally);
  SeedStats s = detail::seed_figures(dtype, row);
  s.exact = tally.counts.exact;
  s.match_large = tally.counts.match_large;
  s.match_small = tally.counts.match_small;
  s.mismatch_large = tally.counts.mismatch_large;
  s.mismatch_small = tally.counts.mismatch_small;
  s.max_error = tally.largest;
  return s;
}

}  // namespace concord
