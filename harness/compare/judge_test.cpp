// Decision rules: strict and inclusive borders, the three seed branches, specials, conclusions over all cells, Wilson
// intervals.
#include "compare/judge.hpp"

#include <limits>

#include "compare/testing.hpp"

namespace concord {
namespace {
using namespace detail;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// 1000 elements, of which `x` are exponent mismatches (`large` with a large gap); `small` of the others have a small
// gap.
ElementStats chunk(std::uint64_t x, std::uint64_t large, std::uint64_t small, double mean = 0) {
  ElementStats s;
  s.count = 1000;
  s.exponent_mismatch = x;
  s.mismatch_large = large;
  s.match_small = small;
  s.sum_delta = mean * 1000;
  s.sum_abs_b = s.sum_sq_b = 1000;
  return s;
}
Profile paper() { return Profile{}; }

TEST(JudgePaper, EveryThreshold) {
  const Profile p = paper();
  EXPECT_TRUE(judge_paper(p, chunk(49, 40, 900)).accepted);
  EXPECT_EQ(judge_paper(p, chunk(50, 50, 950)).metric, "Pe") << "0.05 is not below 0.05";
  EXPECT_EQ(judge_paper(p, chunk(40, 30, 960)).metric, "Pm") << "0.75 is not above 0.75";
  EXPECT_TRUE(judge_paper(p, chunk(40, 31, 960)).accepted);
  EXPECT_EQ(judge_paper(p, chunk(0, 0, 800)).metric, "Pw") << "0.80 is not above 0.80";
  EXPECT_TRUE(judge_paper(p, chunk(0, 0, 801)).accepted);
  EXPECT_TRUE(judge_paper(p, chunk(0, 0, 1000, 0.01)).accepted) << "the interval is closed";
  EXPECT_TRUE(judge_paper(p, chunk(0, 0, 1000, -0.01)).accepted);
  EXPECT_EQ(judge_paper(p, chunk(0, 0, 1000, 0.0101)).metric, "mean_error");
  EXPECT_EQ(judge_paper(p, chunk(0, 0, 1000, -0.0101)).metric, "mean_error");
}

TEST(JudgePaper, PmBelowThirtyMismatchesIsSkippedAndSaidSo) {
  const auto few = judge_paper(paper(), chunk(29, 0, 960));
  EXPECT_TRUE(few.accepted);
  EXPECT_TRUE(few.pm_skipped);
  EXPECT_NE(describe(few).rule.find("Pm not applicable"), std::string::npos);
  const auto enough = judge_paper(paper(), chunk(30, 0, 960));
  EXPECT_FALSE(enough.accepted);
  EXPECT_FALSE(enough.pm_skipped);
}

TEST(JudgePaper, SpecialBeatsEverything) {
  auto s = chunk(0, 0, 999);
  s.special = 1;
  const auto v = judge_paper(paper(), s);
  EXPECT_FALSE(v.accepted);
  EXPECT_EQ(v.metric, "special");
  EXPECT_EQ(v.value, 1);
}

TEST(JudgePaper, NothingFiniteIsRefused) { EXPECT_FALSE(judge_paper(paper(), ElementStats{}).accepted); }

SeedStats seed(double mean, double pe, double pm = 0, double pw = 0) {
  SeedStats s;
  s.mean_error = mean;
  s.pe = pe;
  s.pm = pm;
  s.pw = pw;
  return s;
}

TEST(JudgeSeed, Branches) {
  const Profile p;
  EXPECT_TRUE(judge_seed(p, seed(9.9e-7, 1), 0).accepted) << "first branch: Pe is not looked at";
  EXPECT_FALSE(judge_seed(p, seed(1e-6, 1), 0).accepted) << "strictly below";
  EXPECT_TRUE(judge_seed(p, seed(0.00999, 0.0499), 0).accepted) << "second branch";
  EXPECT_EQ(judge_seed(p, seed(0.01, 0), 0).metric, "mean_error");
  EXPECT_EQ(judge_seed(p, seed(0.005, 0.05), 0).metric, "Pe");
  EXPECT_FALSE(judge_seed(p, seed(kNan, 0), 0).accepted);
  // Even impossible shares reach the third branch only where the second has passed.
  EXPECT_FALSE(judge_seed(p, seed(0.005, 0.05, 1, 1), 0).accepted);
  EXPECT_FALSE(judge_seed(p, seed(0.01, 0.01, 1, 1), 0).accepted);
  EXPECT_EQ(judge_seed(p, seed(0, 0), 3).metric, "special");
}

TEST(JudgeToploc, LimitsAreInclusive) {
  const Profile p;
  const auto judge = [&](std::uint64_t mismatches, double mean, double median) {
    return judge_toploc(p, {128, mismatches, mean, median}, 0);
  };
  EXPECT_TRUE(judge(38, 10, 8).accepted);
  EXPECT_EQ(judge(39, 0, 0).metric, "exponent_mismatches");
  EXPECT_EQ(judge(38, 10.01, 0).metric, "mantissa_mean");
  EXPECT_EQ(judge(38, 10, 9).metric, "mantissa_median");
  EXPECT_EQ(judge_toploc(p, {128, 0, 0, 0}, 1).metric, "special");
}

TEST(JudgeCalibrated, Limits) {
  CalibratedLimit l{"f32", "*", 1e-3, std::numeric_limits<double>::infinity(), ""};
  auto s = chunk(0, 0, 1000);
  s.sum_sq_delta = 1e-6 * 1000;
  EXPECT_TRUE(judge_calibrated(l, s).accepted);
  s.sum_sq_delta *= 1.01;
  EXPECT_EQ(judge_calibrated(l, s).metric, "rel_l2");
  EXPECT_FALSE(judge_calibrated(l, ElementStats{}).accepted) << "NaN is within no limit";
  l = {"f32", "*", std::numeric_limits<double>::infinity(), 4, ""};
  s.ulp_histogram.assign(kUlpBins, 0);
  s.ulp_histogram[4] = 1000;
  s.ulp_max = 4;
  EXPECT_TRUE(judge_calibrated(l, s).accepted);
  s.ulp_histogram[5] = 20;
  s.count += 20;
  s.ulp_max = 5;
  EXPECT_EQ(judge_calibrated(l, s).metric, "ulp_p99");
}

Comparison counted(std::uint64_t accepted, std::uint64_t cells) {
  Comparison c;
  c.cells = cells;
  c.accepted = accepted;
  c.unit = "cell";
  if (accepted < cells) c.first_failure = CellVerdict{8, 3, false, false, "Pe", 0.06, 0.05, "Pe 0.06 >= 0.05"};
  return c;
}

TEST(Conclude, Rate) {
  Profile p;
  auto c = counted(19, 20);
  conclude(p, nullptr, c);
  EXPECT_EQ(c.verdict, Verdict::kAccept) << "0.95 is enough";
  p.accept_rate_strict = true;
  c = counted(19, 20);
  conclude(p, nullptr, c);
  EXPECT_EQ(c.verdict, Verdict::kReject) << "the seed wants more than 0.95";
  EXPECT_EQ(c.metric, "Pe");
  EXPECT_EQ(c.value, 0.06);
  EXPECT_NE(c.rule.find("layer 8 position 3: Pe 0.06 >= 0.05"), std::string::npos) << c.rule;
}

TEST(Conclude, NothingJudgedIsInconclusive) {
  Comparison c;
  conclude(Profile{}, nullptr, c);
  EXPECT_EQ(c.verdict, Verdict::kInconclusive);
  EXPECT_NE(c.rule.find("too few samples"), std::string::npos);
}

TEST(Conclude, SpecialRefusesWhateverTheRate) {
  auto special = describe(special_verdict(2), 16);
  auto c = counted(1000, 1000);
  conclude(Profile{}, &special, c);
  EXPECT_EQ(c.verdict, Verdict::kReject);
  EXPECT_EQ(c.metric, "special");
  ASSERT_TRUE(c.first_failure);
  EXPECT_EQ(c.first_failure->layer, 16);
  Comparison nothing;
  conclude(Profile{}, &special, nothing);
  EXPECT_EQ(nothing.verdict, Verdict::kReject);
}

TEST(Conclude, AgreeingNanProveNothing) {
  auto c = counted(20, 20);
  for (std::uint64_t n : {1, 2, 1000}) {
    c = counted(20, 20);
    c.total.both_nonfinite = n;
    conclude(Profile{}, nullptr, c);
    EXPECT_EQ(c.verdict, Verdict::kInconclusive);
  }
  c = counted(2, 20);
  c.total.both_nonfinite = 1;
  conclude(Profile{}, nullptr, c);
  EXPECT_EQ(c.verdict, Verdict::kReject);
}

// Figures from the closed form evaluated independently (Python, 50 digits).
TEST(Wilson, KnownValues) {
  const struct {
    std::uint64_t k, n;
    double low, high;
  } kCases[] = {
      {0, 10, 0, 0.2775327998628892},
      {10, 10, 0.7224672001371107, 1},
      {5, 10, 0.2365930905125639, 0.7634069094874360},
      {8, 10, 0.4901624715366417, 0.9433178485456247},
      {95, 100, 0.8882495307680808, 0.9784563208456320},
      {988, 1000, 0.9791427315245017, 0.9931223521935964},
      {1, 1, 0.2065493143772373, 1},
      {81, 263, 0.2552885198782742, 0.3662095769828000},
      {15, 148, 0.0623863995307362, 0.1604872417233080},
  };
  for (const auto& c : kCases) {
    const Interval i = wilson95(c.k, c.n);
    EXPECT_NEAR(i.low, c.low, 1e-12) << c.k << "/" << c.n;
    EXPECT_NEAR(i.high, c.high, 1e-12) << c.k << "/" << c.n;
  }
  EXPECT_EQ(wilson95(0, 0).low, 0);
  EXPECT_EQ(wilson95(0, 0).high, 1);
}

}  // namespace
}  // namespace concord
