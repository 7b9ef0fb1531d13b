#include "model/sampler.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "model/precision.hpp"

namespace concord {
namespace {

SamplerSpec sampling(double temperature, std::int64_t top_k, double top_p, std::uint64_t seed) {
  return {.kind = SamplerSpec::Kind::kSample, .temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = seed};
}

TEST(Sampler, GreedyTakesTheLargestLogitAndTheLowestIdAmongEquals) {
  EXPECT_EQ(*choose_token({}, std::vector<float>{1, 3, 3, -5}, 0), 1);
  EXPECT_EQ(*choose_token({}, std::vector<float>{-3, -1, -2}, 7), 1);
  EXPECT_EQ(*choose_token({}, std::vector<float>{-0.0f, 0.0f}, 7), 0);
}

// Gumbel-max draws from softmax(logits / T). With n draws a frequency has standard deviation sqrt(p (1 - p) / n); 5 of them is a one-in-a-million event, and the draws are
// fixed by the seed, so the test cannot flicker.
TEST(Sampler, DrawsFromTheSoftmaxAtItsTemperature) {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, -1.0f};
  constexpr int kDraws = 200000;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::vector<int> count(logits.size());
    for (int i = 0; i < kDraws; ++i) ++count[static_cast<std::size_t>(*choose_token(sampling(temperature, 0, 1.0, 42), logits, i))];
    double sum = 0;
    for (const float l : logits) sum += std::exp(l / temperature);
    for (std::size_t v = 0; v < logits.size(); ++v) {
      const double p = std::exp(logits[v] / temperature) / sum;
      EXPECT_NEAR(count[v] / static_cast<double>(kDraws), p, 5 * std::sqrt(p * (1 - p) / kDraws)) << "T " << temperature << ", id " << v;
    }
  }
}

TEST(Sampler, NoiseIsKeyedBySeedPositionAndIdAlone) {
  const std::vector<float> logits(100, 0.0f);
  const auto a = *choose_token(sampling(1, 0, 1, 1), logits, 5);
  EXPECT_EQ(*choose_token(sampling(1, 0, 1, 1), logits, 5), a);
  int moved_by_seed = 0, moved_by_position = 0;
  for (int i = 0; i < 50; ++i) {
    moved_by_seed += *choose_token(sampling(1, 0, 1, static_cast<std::uint64_t>(i) + 2), logits, 5) != a;
    moved_by_position += *choose_token(sampling(1, 0, 1, 1), logits, 6 + i) != a;
  }
  EXPECT_GT(moved_by_seed, 40);
  EXPECT_GT(moved_by_position, 40);
}

TEST(Sampler, TopKAndTopPMakeTheRestIneligible) {
  const std::vector<float> logits{3, 2, 1, 0};  // softmax 0.644, 0.237, 0.087, 0.032
  for (int i = 0; i < 500; ++i) {
    EXPECT_LE(*choose_token(sampling(1, 2, 1.0, 9), logits, i), 1);
    EXPECT_EQ(*choose_token(sampling(1, 0, 0.6, 9), logits, i), 0);   // the first already has 0.644
    EXPECT_LE(*choose_token(sampling(1, 0, 0.7, 9), logits, i), 1);   // the second is needed to reach 0.7
    EXPECT_LE(*choose_token(sampling(1, 3, 0.999, 9), logits, i), 2);
  }
  EXPECT_TRUE(std::isinf(token_margin(sampling(1, 2, 1, 9), logits, 0, 2)->margin));
  EXPECT_EQ(token_margin(sampling(1, 2, 1, 9), logits, 0, 2)->rank, 4);
}

TEST(Sampler, TheMarginOfTheOwnChoiceIsZeroAndOfOthersPositive) {
  const std::vector<float> logits{0.1f, 2.5f, 2.4f, -1};
  const auto own = *token_margin({}, logits, 3, 1);
  EXPECT_EQ(own.margin, 0);
  EXPECT_EQ(own.rank, 0);
  const auto second = *token_margin({}, logits, 3, 2);
  EXPECT_DOUBLE_EQ(second.margin, static_cast<double>(2.5f) - static_cast<double>(2.4f));
  EXPECT_EQ(second.rank, 1);
  EXPECT_EQ(second.best, 1);
  for (int i = 0; i < 200; ++i) {
    const SamplerSpec s = sampling(0.8, 3, 0.95, 77);
    const auto token = *choose_token(s, logits, i);
    EXPECT_EQ(token_margin(s, logits, i, token)->margin, 0);
    EXPECT_GT(token_margin(s, logits, i, 3)->margin, 0);
  }
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& bad : {std::vector<float>{1, nan}, {inf, 0}, {-inf, -inf}}) {
    EXPECT_EQ(choose_token({}, bad, 0).error().code, "sampler.not_finite");
    EXPECT_EQ(token_margin({}, bad, 0, 0).error().code, "sampler.not_finite");
  }
  EXPECT_EQ(*choose_token({}, std::vector<float>{-inf, 0}, 0), 1);
  EXPECT_EQ(token_margin({}, std::vector<float>{0, 0}, 0, 2).error().code, "workload.token_out_of_range");
}

TEST(RunPrecision, NamesSurviveTheRoundTripAndDefaultsAreFilledIn) {
  const std::pair<const char*, const char*> names[] = {{"f32", "f32/f32/f32"},
                                                       {"bf16", "bf16/bf16/bf16"},
                                                       {"int4-g128-sym", "int4-g128-sym/bf16/bf16"},
                                                       {"int8/f16", "int8/f16/f16"},
                                                       {"f32/f64", "f32/f64/f64"},
                                                       {"f32/f32/f16", "f32/f32/f16"}};
  for (const auto& [given, canonical] : names) {
    const auto p = RunPrecision::parse(given);
    ASSERT_TRUE(p) << given;
    EXPECT_EQ(p->name(), canonical);
    EXPECT_EQ(RunPrecision::parse(p->name())->name(), canonical);
  }
  for (const char* bad : {"", "f33", "f32/int8", "f32/f32/f32/f32", "int4", "int4-g64-sym"}) EXPECT_FALSE(RunPrecision::parse(bad)) << bad;
  EXPECT_EQ(RunPrecision::parse("f32/f64")->capture_dtype(), DType::kF32);
  EXPECT_EQ(RunPrecision::parse("int4-g32-sym/f16")->unquantized().name(), "f16");
}

}  // namespace
}  // namespace concord
