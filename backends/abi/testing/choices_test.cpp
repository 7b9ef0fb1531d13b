// Operators whose results are indices, on the device under test: ARGMAX and SAMPLE by their definitions.
#include <algorithm>
#include <cmath>

#include "base/rng.hpp"
#include "bench.hpp"

namespace concord::testing {
namespace {

class Choices : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  Bench device_{subject()};
};
INSTANTIATE_TEST_SUITE_P(Dtypes, Choices, ::testing::ValuesIn(activation_dtypes()),
                         [](const auto& p) { return std::string(dtype_name(p.param)); });

TEST_P(Choices, ArgmaxTakesTheLowestIndexAmongEquals) {
  Values x = integers(81, 4 * 1000, 50);
  x[1000 + 17] = x[1000 + 900] = 60, x[2000] = 60, x[3999] = 60;
  concord_call a = make_call(CONCORD_OP_ARGMAX);
  a.n_in = a.n_out = 1, a.in[0] = device_.put(dtype(), {4, 1000}, x), a.out[0] = device_.put_i32({4}, {-1, -1, -1, -1});
  ASSERT_TRUE(device_.run(a).has_value());
  Values want;
  for (int r = 0; r < 4; ++r)
    want.push_back(static_cast<double>(std::max_element(x.begin() + r * 1000, x.begin() + r * 1000 + 1000) - x.begin() -
                                       r * 1000));
  EXPECT_EQ(want[1], 17), expect_equal(device_.get(a.out[0]), want, "argmax");
}

// The definition once more, by the harness's own random numbers.
std::int32_t sampled(std::span<const double> x, double scale, std::uint64_t seed, std::int32_t position) {
  const auto score = [&](std::size_t v) {
    return x[v] * scale - std::log(-std::log(uniform_open(seed, static_cast<std::uint64_t>(position), v)));
  };
  std::size_t best = 0;
  for (std::size_t v = 1; v < x.size(); ++v)
    if (score(v) > score(best)) best = v;
  return static_cast<std::int32_t>(best);
}

concord_call sample_call(Bench& bench, DType dtype, std::int64_t columns, const Values& x,
                         const std::vector<std::int32_t>& positions) {
  const auto rows = static_cast<std::int64_t>(positions.size());
  concord_call a = make_call(CONCORD_OP_SAMPLE);
  a.n_in = 2, a.n_out = 1, a.in[0] = bench.put(dtype, {rows, columns}, x), a.in[1] = bench.put_i32({rows}, positions);
  a.out[0] = bench.put_i32({rows}, std::vector<std::int32_t>(positions.size(), -1)), a.scale = 1;
  return a;
}

TEST_P(Choices, SampleDrawsByItsDefinition) {
  const std::vector<std::int32_t> positions{0, 7, 7, INT32_MAX, 131072};
  for (const std::int64_t n : {1, 33, 3001, 20011}) {
    const auto columns = static_cast<std::size_t>(n);
    const Values x = rounded(dtype(), noise(91, 5 * columns, 3));
    Bench bench(subject());
    concord_call a = sample_call(bench, dtype(), n, x, positions);
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{42}, 0xfedcba9876543210u})
      for (const double temperature : {0.7, 1.0, 1.5}) {
        a.seed = seed, a.scale = 1 / temperature;
        ASSERT_TRUE(bench.run(a).has_value());
        Values want;
        for (std::size_t t = 0; t < positions.size(); ++t)
          want.push_back(sampled(std::span(x).subspan(t * columns, columns), a.scale, seed, positions[t]));
        expect_equal(bench.get(a.out[0]), want, "sample");
      }
  }
}

TEST_P(Choices, SampleTakesTheLowestIndexAmongEqualScoresAndNanLast) {
  Bench bench(subject());
  const Values x{NAN, INFINITY, 1,   INFINITY, NAN, -INFINITY, NAN, -INFINITY,
                 NAN, NAN,      NAN, NAN,      NAN, -INFINITY, -2,  -INFINITY};
  const concord_call a = sample_call(bench, dtype(), 4, x, {1, 2, 3, 4});
  ASSERT_TRUE(bench.run(a).has_value());
  expect_equal(bench.get(a.out[0]), {1, 1, 0, 2}, "NaN and infinities");
  Values tied = integers(92, 4 * 1000, 50);  // beside such scores the noise is nothing
  tied[1000 + 17] = tied[1000 + 900] = 60, tied[2000] = 60, tied[3999] = 60;
  concord_call cold = sample_call(bench, dtype(), 1000, tied, {5, 5, 6, 7});
  cold.scale = 0x1p60;
  ASSERT_TRUE(bench.run(cold).has_value());
  Values want;
  for (int r = 0; r < 4; ++r)
    want.push_back(static_cast<double>(std::max_element(tied.begin() + r * 1000, tied.begin() + (r + 1) * 1000) -
                                       tied.begin() - r * 1000));
  expect_equal(bench.get(cold.out[0]), want, "ties");
}

TEST_P(Choices, ArgmaxIgnoresNan) {
  concord_call a = make_call(CONCORD_OP_ARGMAX);
  a.n_in = a.n_out = 1, a.in[0] = device_.put(dtype(), {2, 3}, {NAN, -1, 2, NAN, NAN, NAN}),
  a.out[0] = device_.put_i32({2}, {-1, -1});
  ASSERT_TRUE(device_.run(a).has_value());
  expect_equal(device_.get(a.out[0]), {2, 0}, "NaN");
}

}  // namespace
}  // namespace concord::testing
