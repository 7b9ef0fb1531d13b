#include <cmath>

#include "model/testing.hpp"

namespace concord {
namespace {

using testing_model::expect_error;
using testing_model::FakeCheckpoint;

// Metadata and tensors of a small `arch` model that fits itself until a test changes something.
FakeCheckpoint model(const std::string& arch = "llama", const Json& changes = Json::object()) {
  FakeCheckpoint c("gguf v3");
  ModelSpec s{.architecture = arch,
              .hidden = 16,
              .intermediate = 24,
              .layers = 2,
              .heads = 2,
              .kv_heads = 1,
              .head_dim = 8,
              .vocab = 10};
  s.qkv_bias = arch == "qwen2";
  s.qk_norm = arch == "qwen3";
  c.add_all(s);
  Json m = Json{{"general.architecture", arch},
                {arch + ".embedding_length", 16},
                {arch + ".feed_forward_length", 24},
                {arch + ".block_count", 2},
                {arch + ".attention.head_count", 2},
                {arch + ".attention.head_count_kv", 1},
                {arch + ".attention.layer_norm_rms_epsilon", static_cast<double>(1e-5f)},
                {arch + ".context_length", 64}};
  for (const auto& [key, value] : changes.items()) {
    if (value.is_null())
      m.erase(key);
    else
      m[key] = value;
  }
  c.meta() = m;
  return c;
}
Result<ModelSpec> parse(const Json& changes) { return spec_from_gguf(model("llama", changes)); }

TEST(GgufConfig, ReadsEveryArchitecture) {
  for (const char* arch : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(arch);
    const auto spec = spec_from_path("x.gguf", model(arch));
    ASSERT_TRUE(spec) << spec.error().to_string();
    EXPECT_EQ(spec->architecture, arch);
    EXPECT_EQ(spec->head_dim, 8);
    EXPECT_EQ(spec->kv_heads, 1);
    EXPECT_EQ(spec->vocab, 10);
    EXPECT_EQ(spec->rms_norm_eps, static_cast<double>(1e-5f));  // exactly the stored float32
    EXPECT_FALSE(spec->tied_embeddings);
    EXPECT_EQ(spec->qkv_bias, std::string(arch) == "qwen2");
    EXPECT_EQ(spec->qk_norm, std::string(arch) == "qwen3");
    EXPECT_EQ(spec->rope.theta, 10000.0);
  }
}

TEST(GgufConfig, TensorsSayWhatMetadataLeavesOut) {
  FakeCheckpoint c = model();
  c.remove("output.weight").add("blk.0.attn_q.bias", {16});
  const ModelSpec s = spec_from_gguf(c).value();
  EXPECT_TRUE(s.tied_embeddings);
  EXPECT_TRUE(s.qkv_bias);
  expect_error(spec_from_path("x.gguf", c), "checkpoint.missing_tensor", "blk.0.attn_k.bias");
}

TEST(GgufConfig, RopeScalingKinds) {
  const ModelSpec linear = parse({{"llama.rope.scaling.type", "linear"}, {"llama.rope.scaling.factor", 4.0}}).value();
  EXPECT_EQ(linear.rope.kind, RopeSpec::Kind::kLinear);
  EXPECT_EQ(linear.rope.factor, 4.0);
  EXPECT_EQ(parse({{"llama.rope.scale_linear", 2.0}})->rope.kind, RopeSpec::Kind::kLinear);
  const ModelSpec yarn = parse({{"llama.rope.scaling.type", "yarn"},
                                {"llama.rope.scaling.factor", 4.0},
                                {"llama.rope.scaling.original_context_length", 16},
                                {"llama.rope.freq_base", 500.0}})
                             .value();
  EXPECT_EQ(yarn.rope.kind, RopeSpec::Kind::kYarn);
  EXPECT_EQ(yarn.rope.original_max_positions, 16);
  EXPECT_EQ(yarn.rope.theta, 500.0);
  EXPECT_DOUBLE_EQ(yarn.rope.attention_factor, 0.1 * std::log(4.0) + 1.0);
}

TEST(GgufConfig, RopeDivisorsAreRead) {
  FakeCheckpoint c = model();
  c.add("rope_freqs.weight", {4}, {1, 1, 8, 32});
  const auto spec = spec_from_path("x.gguf", c);
  ASSERT_TRUE(spec) << spec.error().to_string();
  EXPECT_EQ(spec->rope.divisors, (std::vector<double>{1, 1, 8, 32}));
  c.remove("rope_freqs.weight").add("rope_freqs.weight", {3}, {1, 1, 1});
  expect_error(spec_from_gguf(c), "checkpoint.shape_mismatch", "rope_freqs.weight");
  c.remove("rope_freqs.weight").add("rope_freqs.weight", {4}, {1, 1, 0, 1});
  expect_error(spec_from_gguf(c), "config.out_of_range", "rope_freqs.weight[2]");
}

struct Refusal {
  const char* changes;
  const char* code;
  const char* fragment;
};
constexpr Refusal kRefusals[] = {
    {R"({"general.architecture": null})", "config.missing_field", "general.architecture"},
    {R"({"general.architecture": 3})", "config.wrong_type", "general.architecture"},
    {R"({"general.architecture": "gemma"})", "config.unknown_architecture", "gemma"},
    {R"({"llama.embedding_length": null})", "config.missing_field", "embedding_length"},
    {R"({"llama.feed_forward_length": [24, 24]})", "config.wrong_type", "feed_forward_length"},
    {R"({"llama.block_count": 0})", "config.out_of_range", "block_count"},
    {R"({"llama.block_count": 4294967295})", "config.out_of_range", "block_count"},
    {R"({"llama.attention.head_count": 0})", "config.out_of_range", "head_count"},
    {R"({"llama.attention.head_count": 3})", "config.contradiction", "not a multiple"},
    {R"({"llama.attention.head_count_kv": 3})", "config.contradiction", "do not divide"},
    {R"({"llama.attention.head_count_kv": [1, 1]})", "config.wrong_type", "head_count_kv"},
    {R"({"llama.attention.key_length": 7})", "config.contradiction", "odd"},
    {R"({"llama.attention.value_length": 4})", "config.unsupported", "value_length"},
    {R"({"llama.rope.dimension_count": 4})", "config.unsupported", "dimension_count"},
    {R"({"llama.attention.layer_norm_rms_epsilon": null})", "config.missing_field", "epsilon"},
    {R"({"llama.attention.layer_norm_rms_epsilon": 0})", "config.out_of_range", "epsilon"},
    {R"({"llama.context_length": null})", "config.missing_field", "context_length"},
    {R"({"llama.expert_count": 8})", "config.unsupported", "expert_count"},
    {R"({"llama.attention.sliding_window": 4096})", "config.unsupported", "sliding_window"},
    {R"({"llama.attention.causal": false})", "config.unsupported", "causal"},
    {R"({"llama.vocab_size": 11})", "config.contradiction", "vocab_size"},
    {R"({"llama.rope.scaling.type": "longrope"})", "config.unsupported", "longrope"},
    {R"({"llama.rope.scaling.type": "linear"})", "config.missing_field", "factor"},
    {R"({"llama.rope.scaling.attn_factor": 1.5})", "config.unsupported", "attn_factor"},
    {R"({"llama.rope.scaling.yarn_log_multiplier": 0.1})", "config.unsupported", "yarn_log_multiplier"},
    {R"({"llama.rope.freq_base": 0})", "config.out_of_range", "theta"},
};

TEST(GgufConfig, WrongMetadataIsRefusedByName) {
  for (const Refusal& r : kRefusals) {
    SCOPED_TRACE(r.changes);
    expect_error(parse(Json::parse(r.changes)), r.code, r.fragment);
  }
}

TEST(GgufConfig, NumbersThatAreNotFinite) {
  expect_error(parse({{"llama.attention.layer_norm_rms_epsilon", std::nan("")}}), "config.wrong_type", "epsilon");
  expect_error(parse({{"llama.rope.freq_base", HUGE_VAL}}), "config.wrong_type", "freq_base");
}

TEST(GgufConfig, TheEmbeddingGivesTheVocabulary) {
  FakeCheckpoint c = model();
  c.remove("token_embd.weight");
  expect_error(spec_from_gguf(c), "checkpoint.missing_tensor", "token_embd.weight");
  c.add("token_embd.weight", {160});
  expect_error(spec_from_gguf(c), "checkpoint.shape_mismatch", "token_embd.weight");
}

TEST(GgufConfig, TensorsAreCheckedUnderTheirOwnNames) {
  FakeCheckpoint c = model();
  c.remove("blk.1.ffn_up.weight");
  expect_error(spec_from_path("x.gguf", c), "checkpoint.missing_tensor", "blk.1.ffn_up.weight");
  FakeCheckpoint more = model();
  more.add("blk.7.ffn_up.weight", {24, 16});
  expect_error(spec_from_path("x.gguf", more), "config.layer_count", "holds 8");
  FakeCheckpoint extra = model();
  extra.add("blk.1.ffn_gate_exps.weight", {24, 16});
  expect_error(spec_from_path("x.gguf", extra), "config.unexpected_tensor", "ffn_gate_exps");
}

}  // namespace
}  // namespace concord
