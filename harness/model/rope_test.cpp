#include <cmath>

#include "model/spec_parse.hpp"
#include "model/testing.hpp"

namespace concord {
namespace {

using testing_model::expect_error;

Json golden() { return read_json(CONCORD_SOURCE_DIR "/fixtures/golden/rope/rope.json").value(); }

// `config` must outlive nothing: the specification is copied out.
Result<RopeSpec> parse(const Json& config, std::int64_t max_positions = 64) {
  return rope_from_hf_config(JsonFields::from(config, "config.json", "config").value(), max_positions);
}
Json scaling(Json fields) { return {{"rope_scaling", std::move(fields)}}; }

// Both are float64 evaluations of one formula; they differ by the order of a few roundings and by pow().
constexpr double kRelative = 64 * 0x1p-53;

TEST(Rope, FrequenciesAndAttentionFactorsEqualTheGoldenOnes) {
  const Json cases = golden()["cases"];
  ASSERT_EQ(cases.size(), 12u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto rope = parse({{"rope_parameters", c["rope_parameters"]}}, c["max_positions"]);
    ASSERT_TRUE(rope) << rope.error().to_string();
    EXPECT_NEAR(rope->attention_factor, c["attention_factor"].get<double>(), 1e-15);
    const auto expected = c["frequencies"].get<std::vector<double>>();
    const std::vector<double> got = rope->inverse_frequencies(c["head_dim"]);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], expected[i] * kRelative) << i;
  }
}

TEST(Rope, NothingGivenNullAndEmptyAllMeanDefault) {
  for (const Json& config :
       {Json::object(), Json{{"rope_scaling", nullptr}}, Json{{"rope_scaling", Json::object()}},
        Json{{"rope_parameters", Json::object()}}, Json{{"rope_parameters", nullptr}, {"rope_scaling", nullptr}}}) {
    const auto rope = parse(config);
    ASSERT_TRUE(rope) << rope.error().to_string();
    EXPECT_EQ(rope->kind, RopeSpec::Kind::kDefault);
    EXPECT_EQ(rope->theta, 10000.0);
  }
}

TEST(Rope, TypeAndRopeTypeAreOneField) {
  EXPECT_EQ(parse(scaling({{"type", "linear"}, {"factor", 2.0}}))->kind, RopeSpec::Kind::kLinear);
  EXPECT_EQ(parse(scaling({{"rope_type", "linear"}, {"factor", 2}}))->factor, 2.0);
  EXPECT_EQ(parse(scaling({{"rope_type", "linear"}, {"type", "linear"}, {"factor", 2.0}}))->kind,
            RopeSpec::Kind::kLinear);
  expect_error(parse(scaling({{"rope_type", "linear"}, {"type", "yarn"}, {"factor", 2.0}})), "config.contradiction",
               "rope_type is \"linear\"");
}

TEST(Rope, ThetaMayStandInEitherPlaceButNotDisagree) {
  EXPECT_EQ(parse({{"rope_theta", 5e5}})->theta, 5e5);
  EXPECT_EQ(parse({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}})->theta, 1e6);
  EXPECT_EQ(parse({{"rope_theta", 1e6}, {"rope_parameters", {{"rope_theta", 1e6}}}})->theta, 1e6);
  expect_error(parse({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 1e6}}}}), "config.contradiction",
               "rope_theta");
}

TEST(Rope, OriginalPositionsMayStandOutside) {
  const Json inside = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  EXPECT_EQ(parse(scaling(inside))->original_max_positions, 16);
  EXPECT_EQ(parse({{"original_max_position_embeddings", 32}, {"rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}}})
                ->original_max_positions,
            32);
  EXPECT_EQ(parse(scaling({{"rope_type", "yarn"}, {"factor", 4.0}}), 64)->original_max_positions, 64);
  expect_error(parse({{"original_max_position_embeddings", 32}, {"rope_scaling", inside}}), "config.contradiction",
               "original_max_position_embeddings");
}

TEST(Rope, YarnAttentionFactorRules) {
  const double plain = 0.1 * std::log(40.0) + 1.0;
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40.0, 0.0, 0.0), plain);
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40.0, 0.707, 0.0), plain);  // both or neither
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40.0, 1.0, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(yarn_attention_factor(1.0, 0.0, 0.0), 1.0);
}

TEST(Rope, DivisorsDivide) {
  RopeSpec rope;
  const std::vector<double> plain = rope.inverse_frequencies(4);
  rope.divisors = {2.0, 8.0};
  EXPECT_EQ(rope.inverse_frequencies(4), (std::vector<double>{plain[0] / 2, plain[1] / 8}));
}

struct Refusal {
  const char* json;
  const char* code;
  const char* fragment;
};
constexpr Refusal kRefusals[] = {
    {R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})", "config.unsupported", "\"dynamic\""},
    {R"({"rope_scaling": {"rope_type": "longrope"}})", "config.unsupported", "\"longrope\""},
    {R"({"rope_scaling": {"type": "mrope"}})", "config.unsupported", "\"mrope\""},
    {R"({"rope_scaling": {"rope_type": 3}})", "config.wrong_type", "rope_scaling.rope_type"},
    {R"({"rope_scaling": "linear"})", "config.wrong_type", "rope_scaling"},
    {R"({"rope_scaling": []})", "config.wrong_type", "rope_scaling"},
    {R"({"rope_scaling": {"rope_type": "linear"}})", "config.missing_field", "rope_scaling.factor"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": "4"}})", "config.wrong_type", "rope_scaling.factor"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 0.5}})", "config.out_of_range", "factor"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 2, "beta_fast": 3}})", "config.contradiction", "beta_fast"},
    {R"({"rope_scaling": {"factor": 4.0}})", "config.contradiction", "\"default\""},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 2, "facto": 3}})", "config.unknown_field", "facto"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "linear", "factor": 4}})",
     "config.contradiction", "differ"},
    {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})", "config.unsupported", "full_attention"},
    {R"({"partial_rotary_factor": 0.5})", "config.unsupported", "partial_rotary_factor"},
    {R"({"rope_parameters": {"partial_rotary_factor": 0.25}})", "config.unsupported", "partial_rotary_factor"},
    {R"({"rope_theta": 0})", "config.out_of_range", "theta"},
    {R"({"rope_theta": 1})", "config.out_of_range", "theta"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}})",
     "config.missing_field", "original_max"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 16}})",
     "config.contradiction", "low_freq_factor"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 0, "high_freq_factor": 4, "original_max_position_embeddings": 16}})",
     "config.out_of_range", "low_freq_factor"},
    {R"({"rope_scaling": {"rope_type": "yarn"}})", "config.missing_field", "factor"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}})", "config.contradiction",
     "beta_slow"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_slow": -1}})", "config.out_of_range", "beta_slow"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "attention_factor": -1}})", "config.out_of_range",
     "attention_factor"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": 1}})", "config.wrong_type", "truncate"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0}})",
     "config.out_of_range", "original_max"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 16.0}})",
     "config.wrong_type", "original_max"},
};

TEST(Rope, WrongSettingsAreRefusedByName) {
  for (const Refusal& r : kRefusals) {
    SCOPED_TRACE(r.json);
    const Json config = Json::parse(r.json);
    expect_error(parse(config), r.code, r.fragment);
  }
}

}  // namespace
}  // namespace concord
