// The seed profile's figures, bit for bit against NumPy (fixtures/golden/metrics/numpy.json).
#include <limits>

#include "compare/testing.hpp"

namespace concord {
namespace {
using namespace testing;

TEST(SeedStats, EqualsNumpyBitForBit) {
  const Json file = golden("numpy.json");
  ASSERT_GE(file["cases"].size(), 40u);
  for (const auto& c : file["cases"]) {
    const std::string name = c["name"];
    const DType dtype = *dtype_from_name(c["dtype"].get<std::string>());
    const auto s = seed_stats(dtype, bytes_from_hex(dtype, c["a"]), bytes_from_hex(dtype, c["b"]));
    const Json& want = c["seed"];
    const auto number = [&](double got, const char* key) {
      expect_same_bits(got, double_from_hex(want[key]), name + " " + key);
    };
    number(s.mean_error, "mean_error");
    number(s.max_error, "max_error");
    number(s.pe, "pe");
    number(s.pm, "pm");
    number(s.pw, "pw");
    const auto count = [&](std::uint64_t got, const char* key) {
      EXPECT_EQ(got, want[key].get<std::uint64_t>()) << name << " " << key;
    };
    count(s.exact, "exact");
    count(s.match_large, "match_large");
    count(s.match_small, "match_small");
    count(s.mismatch_large, "mismatch_large");
    count(s.mismatch_small, "mismatch_small");
  }
}

TEST(SeedStats, TinyCaseByHand) {
  const auto s = seed_stats(DType::kF32, from_doubles(DType::kF32, {1, 2, -3, 10}),
                            from_doubles(DType::kF32, {1, 2.5, 3, 10.125}));
  EXPECT_EQ(s.mean_error, (0 + 0.5 + 6 + 0.125) / 4);
  EXPECT_EQ(s.max_error, 6);
  EXPECT_EQ(s.pe, 0) << "the sign flip of 3 is invisible";
  EXPECT_EQ(s.pm, 0.75);
  EXPECT_EQ(s.pw, 0.25);
  EXPECT_EQ(s.exact, 1u);
  EXPECT_EQ(s.match_large, 2u);
  EXPECT_EQ(s.match_small, 1u);
  EXPECT_EQ(s.mismatch_large, 1u);
  EXPECT_EQ(s.mismatch_small, 1u);
}

// In float16 the literal 1e-7 is 2 * 2^-24 and 1e-5 is 168 * 2^-24: the borders are those, not the decimal ones.
TEST(SeedStats, HalfLiteralsAreRoundedToHalf) {
  const auto at = [](double d) {
    return seed_stats(DType::kF16, from_doubles(DType::kF16, {d}), from_doubles(DType::kF16, {0}));
  };
  EXPECT_EQ(at(0x1p-24).pw, 1);
  EXPECT_EQ(at(0x2p-24).pw, 0);
  EXPECT_EQ(at(168 * 0x1p-24).pm, 0);
  EXPECT_EQ(at(169 * 0x1p-24).pm, 1);
}

TEST(SeedStats, NanReachesMeanAndMaximum) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (DType dtype : kFloats) {
    const auto s = seed_stats(dtype, from_doubles(dtype, {1, nan, 9}), from_doubles(dtype, {1, 1, 1}));
    EXPECT_TRUE(std::isnan(s.mean_error));
    EXPECT_TRUE(std::isnan(s.max_error));
    EXPECT_EQ(s.exact, 1u);
    EXPECT_EQ(s.mismatch_large, 1u);
  }
}

// Pm and Pw are shares of disjoint events, so "Pm > 0.75 and Pw > 0.50" never holds.
TEST(SeedStatsProperty, PmAndPwNeverAddUpToMoreThanOne) {
  for (DType dtype : kFloats) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const Pair p = noisy_pair(dtype, 777, std::ldexp(1.0, -static_cast<int>(seed)), seed);
      const auto s = seed_stats(dtype, p.a, p.b);
      EXPECT_LE(s.pm + s.pw, 1 + 1e-15);
      EXPECT_FALSE(s.pm > 0.75 && s.pw > 0.50);
    }
  }
}

}  // namespace
}  // namespace concord
