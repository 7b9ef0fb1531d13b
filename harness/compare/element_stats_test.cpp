// The bit-level quantities against NumPy in float64, against cases worked out by hand, and by their properties.
#include <tbb/global_control.h>

#include <limits>

#include "compare/accumulate.hpp"
#include "compare/testing.hpp"

namespace concord {
namespace {
using namespace testing;

constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

ElementStats stats(DType dtype, const std::vector<double>& a, const std::vector<double>& b,
                   const MetricParameters& p = {}) {
  return element_stats(dtype, from_doubles(dtype, a), from_doubles(dtype, b), p);
}
std::uint64_t partition_sum(const ElementStats& s) {
  std::uint64_t sum = s.special;
  for (auto p : s.partition) sum += p;
  return sum;
}
void expect_identical(const ElementStats& x, const ElementStats& y) {
  EXPECT_EQ(x.partition, y.partition);
  EXPECT_EQ(x.ulp_histogram, y.ulp_histogram);
  const auto row = [](const ElementStats& s) {
    return std::vector<double>{s.sum_delta, s.sum_abs_delta, s.sum_sq_delta, s.sum_abs_b,
                               s.sum_sq_b,  s.sum_sq_a,      s.sum_ab,       s.max_abs_delta};
  };
  const auto p = row(x), q = row(y);
  for (std::size_t i = 0; i < p.size(); ++i) expect_same_bits(p[i], q[i], "sum " + std::to_string(i));
}

// Relative 1e-12 of the sum of the magnitudes: n roundings of 2^-53 each stay below it for these lengths. Signed sums
// are judged on the same scale.
void expect_sums(const ElementStats& s, const Json& want, const std::string& name) {
  const auto near = [&](double got, const char* key, double scale) {
    EXPECT_NEAR(got, want[key].get<double>(), 1e-12 * scale) << name << " " << key;
  };
  near(s.sum_delta, "delta", want["abs_delta"].get<double>());
  near(s.sum_abs_delta, "abs_delta", want["abs_delta"].get<double>());
  near(s.sum_sq_delta, "sq_delta", want["sq_delta"].get<double>());
  near(s.sum_abs_b, "abs_b", want["abs_b"].get<double>());
  near(s.sum_sq_b, "sq_b", want["sq_b"].get<double>());
  near(s.sum_sq_a, "sq_a", want["sq_a"].get<double>());
  near(s.sum_ab, "ab", std::sqrt(want["sq_a"].get<double>() * want["sq_b"].get<double>()));
}

void expect_quantile(const ElementStats& s, double q, std::uint64_t exact, const std::string& name) {
  const auto got = s.ulp_quantile(q);
  EXPECT_GE(got, exact) << name;
  EXPECT_LE(static_cast<double>(got), static_cast<double>(exact) * 1.125) << name;
  if (exact < 256) {
    EXPECT_EQ(got, exact) << name;
  }
}

TEST(ElementStats, EqualsNumpyInFloat64) {
  const Json file = golden("numpy.json");
  ASSERT_GE(file["cases"].size(), 40u);
  for (const auto& c : file["cases"]) {
    const std::string name = c["name"];
    const DType dtype = *dtype_from_name(c["dtype"].get<std::string>());
    const auto s = element_stats(dtype, bytes_from_hex(dtype, c["a"]), bytes_from_hex(dtype, c["b"]));
    const Json& e = c["elements"];
    const auto count = [&](std::uint64_t got, const char* key) {
      EXPECT_EQ(got, e[key].get<std::uint64_t>()) << name << " " << key;
    };
    count(s.count, "count");
    count(s.special, "special");
    count(s.both_nonfinite, "both_nonfinite");
    count(s.bit_equal, "bit_equal");
    count(s.sign_flips, "sign_flips");
    count(s.exponent_mismatch, "exponent_mismatch");
    count(s.mismatch_large, "mismatch_large");
    count(s.match_small, "match_small");
    count(s.ulp_max, "ulp_max");
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_EQ(s.partition[i], e["partition"][i].get<std::uint64_t>()) << name << " partition " << i;
    expect_sums(s, e["sums"], name);
    expect_same_bits(s.max_abs_delta, double_from_hex(e["max_abs_delta"]), name + " max_abs_delta");
    expect_quantile(s, 0.5, e["ulp_p50"], name);
    expect_quantile(s, 0.99, e["ulp_p99"], name);
  }
}

// a = (1, 2, 3, -4), b = (1, 2.5, 4, 4):
//   1 | 1     exact
//   2 | 2.5   exponents equal, mantissas 0 and 1/4: d = 0.25 > 1/16
//   3 | 4     exponents differ, mantissas 1/2 and 0: d = 0.5 >= 1/2
//  -4 | 4     signs differ, d = 0; |delta| = 8
TEST(ElementStats, TinyCaseByHand) {
  for (DType dtype : kFloats) {
    const auto s = stats(dtype, {1, 2, 3, -4}, {1, 2.5, 4, 4});
    EXPECT_EQ(s.exponent_mismatch, 2u);
    EXPECT_EQ(s.sign_flips, 1u);
    EXPECT_EQ(s.mismatch_large, 1u);
    EXPECT_EQ(s.match_small, 1u);
    EXPECT_EQ(s.partition, (std::array<std::uint64_t, 5>{1, 0, 1, 1, 1}));
    EXPECT_EQ(s.pe(), 0.5);
    EXPECT_EQ(s.pm(), std::nullopt) << "two mismatches are too few";
    EXPECT_EQ(s.pm(2), 0.5);
    EXPECT_EQ(s.pw(), 0.5);
    EXPECT_EQ(s.mean_error_signed(), (0 - 0.5 - 1 - 8) / 4);
    EXPECT_EQ(s.mean_error_abs(), 9.5 / 4);
    EXPECT_EQ(s.relative_error(), -9.5 / 11.5);
    EXPECT_EQ(s.nmse(), (0.25 + 1 + 64) / (1 + 6.25 + 16 + 16));
    EXPECT_EQ(s.rel_l2(), std::sqrt(65.25 / 39.25));
    EXPECT_EQ(s.cosine(), (1 + 5 + 12 - 16) / std::sqrt(30 * 39.25));
    EXPECT_EQ(s.share_bit_equal(), 0.25);
    EXPECT_EQ(s.share_sign_flips(), 0.25);
    EXPECT_EQ(s.max_abs_delta, 8);
  }
}

// d_i is a raw mantissa gap over 2^p; >= and <= are inclusive.
TEST(ElementStats, ThresholdsOfMantissaGapsAreInclusive) {
  for (DType dtype : kFloats) {
    EXPECT_EQ(stats(dtype, {1.0625}, {1.0}).match_small, 1u);
    EXPECT_EQ(stats(dtype, {1.0625 + 1.0 / 128}, {1.0}).match_small, 0u);
    EXPECT_EQ(stats(dtype, {1.5}, {2.0}).mismatch_large, 1u);
    EXPECT_EQ(stats(dtype, {1.5 - 1.0 / 128}, {2.0}).mismatch_large, 0u);
    EXPECT_EQ(stats(dtype, {1.25}, {2.0}, {0.25, 0}).mismatch_large, 1u);
    EXPECT_EQ(stats(dtype, {1.0 + 1.0 / 128}, {1.0}, {0.5, 0}).match_small, 0u);
  }
}

TEST(ElementStats, PartitionBordersByHand) {
  const auto s = stats(DType::kF32, {0, 1.2, 1.5, 4, 16.5, 4}, {-0.0, 1.0, 1.2, 8.5, 15.5, 9});
  // 0|-0 exact; 0.2 as floats is 1.2f - 1 = 0.2000000477 > 0.2; 0.3; 4.5; 1; 5 (not above 5)
  EXPECT_EQ(s.partition, (std::array<std::uint64_t, 5>{1, 0, 2, 3, 0}));
}

TEST(ElementStats, UlpDistancesByHand) {
  const auto one = std::vector<std::uint32_t>{0x3f800000, 0x00000001, 0x80000000, 0x3f800000, 0x80000003};
  const auto two = std::vector<std::uint32_t>{0x3f800005, 0x80000002, 0x00000000, 0xbf800000, 0x00000000};
  const auto s = element_stats(DType::kF32, as_bytes(one), as_bytes(two));  // 5, 3, 0, 2 * 0x3f800000, 3
  EXPECT_EQ(s.ulp_max, 0x7f000000u);
  EXPECT_EQ(s.ulp_quantile(0.5), 3u);
  EXPECT_EQ(s.ulp_quantile(0.8), 5u);
  EXPECT_EQ(s.ulp_quantile(0.2), 0u);
  EXPECT_EQ(s.ulp_quantile(1.0), 0x7f000000u);
  EXPECT_EQ(s.sign_flips, 2u);
  EXPECT_EQ(s.partition[0], 1u) << "-0 and +0 are equal";
}

TEST(ElementStats, UlpBinsTileTheRange) {
  EXPECT_EQ(detail::ulp_bin_top(kUlpBins - 1), 0xffffffffu);
  std::uint64_t low = 0;
  for (std::size_t bin = 0; bin < kUlpBins; ++bin) {
    const auto top = detail::ulp_bin_top(bin);
    ASSERT_GE(top, low);
    EXPECT_EQ(detail::ulp_bin(static_cast<std::uint32_t>(low)), bin);
    EXPECT_EQ(detail::ulp_bin(static_cast<std::uint32_t>(top)), bin);
    EXPECT_LE(static_cast<double>(top), static_cast<double>(low) * 1.125);
    low = top + 1;
  }
}

TEST(ElementStats, SignedZerosAreEqualAndNoSignMismatch) {
  for (DType dtype : kFloats) {
    const auto s = stats(dtype, {0.0, -0.0, 0.0, -0.0}, {-0.0, 0.0, 0.0, -0.0});
    EXPECT_EQ(s.exponent_mismatch + s.sign_flips + s.ulp_max, 0u);
    EXPECT_EQ(s.bit_equal, 2u);
    EXPECT_EQ(s.partition[0], 4u);
    EXPECT_EQ(s.rel_l2(), 0);
    EXPECT_EQ(s.cosine(), 1);
    // A zero has no sign against any number: -0 against a positive denormal is its mantissa away, as +0 is.
    const double tiny = dtype == DType::kF16 ? 0x1p-24 : dtype == DType::kF32 ? 0x1p-149 : 0x1p-133;
    for (double zero : {0.0, -0.0}) {
      const auto z = stats(dtype, {zero}, {tiny});
      EXPECT_EQ(z.exponent_mismatch, 0u);
      EXPECT_EQ(z.sign_flips, 0u);
      EXPECT_EQ(z.ulp_max, 1u);
    }
  }
}

TEST(ElementStats, ClassesThatDifferAreSpecialAndNeverAveraged) {
  for (DType dtype : kFloats) {
    const auto s = stats(dtype, {kInf, kInf, kNan, 1, 2, kNan, kInf}, {1, -kInf, kInf, kNan, 2, kNan, kInf});
    EXPECT_EQ(s.special, 4u);
    EXPECT_EQ(s.both_nonfinite, 2u);
    EXPECT_EQ(s.finite(), 1u);
    EXPECT_EQ(s.sum_sq_b, 4);
    EXPECT_EQ(s.sum_delta, 0);
    EXPECT_EQ(s.mean_error_signed(), 0);
    EXPECT_EQ(s.exponent_mismatch, 0u);
    EXPECT_EQ(s.match(), 3u);
    EXPECT_EQ(s.match_small, 3u);
    EXPECT_EQ(s.partition[0], 3u);
    EXPECT_EQ(partition_sum(s), s.count);
  }
}

TEST(ElementStats, NanOfAnyPayloadAndSignAgree) {
  const auto s = element_stats(DType::kF32, as_bytes<std::uint32_t>({0x7fc00000, 0xffc00000}),
                               as_bytes<std::uint32_t>({0xffc12345, 0x7f800001}));
  EXPECT_EQ(s.special, 0u);
  EXPECT_EQ(s.both_nonfinite, 2u);
  EXPECT_EQ(s.bit_equal, 0u);
  EXPECT_EQ(s.ulp_max, 0u);
  EXPECT_EQ(s.pe(), 0);
  EXPECT_EQ(s.pw(), 1);
  EXPECT_TRUE(std::isnan(s.rel_l2())) << "nothing finite to measure";
}

TEST(ElementStats, ZeroReference) {
  const auto s = stats(DType::kF32, {1, 0}, {0, 0});
  EXPECT_EQ(s.rel_l2(), kInf);
  EXPECT_EQ(s.nmse(), kInf);
  EXPECT_EQ(s.cosine(), 0);
  EXPECT_EQ(s.relative_error(), kInf);
}

TEST(ElementStats, NothingIsNotAgreement) {
  const auto s = element_stats(DType::kF32, {}, {});
  EXPECT_EQ(s.count, 0u);
  EXPECT_TRUE(std::isnan(s.pe()));
  EXPECT_EQ(s.pw(), std::nullopt);
  EXPECT_EQ(s.pm(0), std::nullopt);
  EXPECT_TRUE(std::isnan(s.rel_l2()));
  EXPECT_TRUE(std::isnan(s.cosine()));
  EXPECT_FALSE(s.pe() < 0.05);
}

// --- properties over seeded random input ---------------------------------------------------------------------------

TEST(ElementStatsProperty, EqualArraysAgreeEntirely) {
  for (DType dtype : kFloats) {
    for (const Pair& p : {noisy_pair(dtype, 3000, 0.1, 1), random_bits_pair(dtype, 3000, 2)}) {
      const auto s = element_stats(dtype, p.a, p.a);
      EXPECT_EQ(s.pe(), 0);
      EXPECT_EQ(s.pw(), 1);
      EXPECT_EQ(s.special, 0u);
      EXPECT_EQ(s.share_bit_equal(), 1);
      EXPECT_EQ(s.ulp_max, 0u);
      EXPECT_EQ(s.rel_l2(), 0);
      EXPECT_EQ(s.cosine(), 1);
      EXPECT_EQ(s.partition[0], s.count);
    }
  }
}

TEST(ElementStatsProperty, SymmetricWhereItShouldBe) {
  for (DType dtype : kFloats) {
    for (const Pair& p : {noisy_pair(dtype, 5000, 0.05, 3), random_bits_pair(dtype, 5000, 4)}) {
      const auto s = element_stats(dtype, p.a, p.b), t = element_stats(dtype, p.b, p.a);
      EXPECT_EQ(s.pe(), t.pe());
      EXPECT_EQ(s.pm(), t.pm());
      EXPECT_EQ(s.pw(), t.pw());
      EXPECT_EQ(s.special, t.special);
      EXPECT_EQ(s.partition, t.partition);
      EXPECT_EQ(s.ulp_histogram, t.ulp_histogram);
      EXPECT_EQ(s.sum_abs_delta, t.sum_abs_delta);
      EXPECT_EQ(s.sum_delta, -t.sum_delta);
      // Formed from b * b and b * d, so that each side rounds its own way.
      EXPECT_NEAR(s.sum_ab, t.sum_ab, 1e-12 * std::sqrt(s.sum_sq_a * s.sum_sq_b));
      EXPECT_EQ(s.max_abs_delta, t.max_abs_delta);
    }
  }
}

TEST(ElementStatsProperty, BothNegativePairsEqualTheirMirror) {
  for (DType dtype : kFloats) {
    const Pair p = noisy_pair(dtype, 2000, 0.05, 5);
    std::vector<double> a(2000), b(2000);
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] = std::fabs(load_as_f64(dtype, p.a.data(), i));
      b[i] = std::fabs(load_as_f64(dtype, p.b.data(), i));
    }
    const auto positive = stats(dtype, a, b);
    for (auto* v : {&a, &b})
      for (double& x : *v) x = -x;
    const auto negative = stats(dtype, a, b);
    EXPECT_GT(positive.exponent_mismatch, 0u);
    EXPECT_EQ(positive.exponent_mismatch, negative.exponent_mismatch);
    EXPECT_EQ(positive.mismatch_large, negative.mismatch_large);
    EXPECT_EQ(positive.match_small, negative.match_small);
    EXPECT_EQ(positive.ulp_histogram, negative.ulp_histogram);
    EXPECT_EQ(positive.sum_delta, -negative.sum_delta);
    EXPECT_EQ(negative.sign_flips, 0u);
  }
}

TEST(ElementStatsProperty, PartitionAndHistogramSumToN) {
  for (DType dtype : kFloats) {
    for (std::size_t n : {1, 2, 7, 8, 9, 1023, 1024, 1025, 70000}) {
      const Pair p = random_bits_pair(dtype, n, n);
      const auto s = element_stats(dtype, p.a, p.b);
      EXPECT_EQ(s.count, n);
      EXPECT_EQ(partition_sum(s), n);
      std::uint64_t bins = 0;
      for (auto b : s.ulp_histogram) bins += b;
      EXPECT_EQ(bins + s.special, n);
      EXPECT_EQ(s.match() + s.exponent_mismatch + s.special, n);
    }
  }
}

TEST(ElementStatsProperty, IndependentOfTheThreadCountAndOfAlignment) {
  for (DType dtype : kFloats) {
    const Pair p = noisy_pair(dtype, 300'001, 1e-3, 6);
    const auto once = [&](std::size_t threads) {
      tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      return element_stats(dtype, p.a, p.b);
    };
    const auto one = once(1);
    EXPECT_GT(one.sum_abs_delta, 0);
    for (std::size_t threads : {2, 5}) expect_identical(one, once(threads));
    std::vector<std::byte> shifted(p.a.size() + 1);
    std::copy(p.a.begin(), p.a.end(), shifted.begin() + 1);
    expect_identical(one, element_stats(dtype, std::span(shifted).subspan(1), p.b));
  }
}

}  // namespace
}  // namespace concord
