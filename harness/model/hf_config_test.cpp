#include <map>

#include "model/testing.hpp"

namespace concord {
namespace {

using testing_model::expect_error;

const char* const kLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 32,
  "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 64})";

// The base configuration with fields replaced, added or (null) removed.
Json with(const Json& changes, const Json& base = Json::parse(kLlama)) {
  Json out = base;
  out.merge_patch(changes);
  return out;
}
Json qwen(const char* type, Json changes = Json::object()) {
  const bool three = std::string(type) == "qwen3";
  Json base = with({{"model_type", type},
                    {"architectures", {three ? "Qwen3ForCausalLM" : "Qwen2ForCausalLM"}},
                    {"num_key_value_heads", 1}});
  if (three) base["head_dim"] = 8;
  return with(changes, base);
}
Result<ModelSpec> parse(const Json& config) { return spec_from_hf_config(config, "config.json"); }

TEST(HfConfig, EveryGoldenModelIsRead) {
  const std::filesystem::path folder = CONCORD_SOURCE_DIR "/fixtures/golden/models";
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().string());
    const auto checkpoint = Checkpoint::open(entry.path());
    ASSERT_TRUE(checkpoint) << checkpoint.error().to_string();
    const auto spec = spec_from_path(entry.path(), **checkpoint);
    ASSERT_TRUE(spec) << spec.error().to_string();
    EXPECT_EQ(spec->vocab, 96);
    EXPECT_EQ(spec->layers, 3);
    ++seen;
  }
  EXPECT_GE(seen, 8);
}

TEST(HfConfig, LlamaDefaultsAreTransformersOwn) {
  const ModelSpec s = parse(Json::parse(kLlama)).value();
  EXPECT_EQ(s.architecture, "llama");
  EXPECT_EQ(s.kv_heads, 2);
  EXPECT_EQ(s.head_dim, 16);
  EXPECT_EQ(s.rms_norm_eps, 1e-6);
  EXPECT_FALSE(s.tied_embeddings || s.qkv_bias || s.o_bias || s.mlp_bias || s.qk_norm);
}

TEST(HfConfig, BiasesFollowTheArchitecture) {
  const ModelSpec llama = parse(with({{"attention_bias", true}, {"mlp_bias", true}})).value();
  EXPECT_TRUE(llama.qkv_bias && llama.o_bias && llama.mlp_bias);
  const ModelSpec qwen2 = parse(qwen("qwen2")).value();
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.o_bias || qwen2.mlp_bias || qwen2.qk_norm);
  const ModelSpec qwen3 = parse(qwen("qwen3", {{"attention_bias", true}})).value();
  EXPECT_TRUE(qwen3.qkv_bias && qwen3.o_bias && qwen3.qk_norm);
  EXPECT_FALSE(qwen3.mlp_bias);
}

TEST(HfConfig, HeadSizeMayDifferFromHiddenOverHeads) {
  const ModelSpec s = parse(qwen("qwen3", {{"head_dim", 64}})).value();
  EXPECT_EQ(s.head_dim, 64);
  EXPECT_EQ(expected_tensors(s)[2].shape, (std::vector<std::int64_t>{128, 32}));  // q_proj
}

TEST(HfConfig, DtypeUnderEitherName) {
  EXPECT_EQ(parse(with({{"torch_dtype", "bfloat16"}}))->stored_dtype, "bfloat16");
  EXPECT_EQ(parse(with({{"dtype", "torch.float16"}}))->stored_dtype, "float16");
  expect_error(parse(with({{"dtype", "float16"}, {"torch_dtype", "bfloat16"}})), "config.contradiction", "torch_dtype");
}

TEST(HfConfig, ArchitectureFromEitherField) {
  EXPECT_EQ(parse(with({{"architectures", nullptr}}))->architecture, "llama");
  EXPECT_EQ(parse(with({{"model_type", nullptr}}))->architecture, "llama");
  expect_error(parse(with({{"architectures", nullptr}, {"model_type", nullptr}})), "config.missing_field",
               "model_type");
}

TEST(HfConfig, AWindowThatReachesNoLayerIsHarmless) {
  EXPECT_TRUE(parse(qwen("qwen2", {{"use_sliding_window", false}, {"sliding_window", 8}, {"max_window_layers", 0}})));
  EXPECT_TRUE(parse(qwen("qwen2", {{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 3}})));
  EXPECT_TRUE(parse(qwen("qwen2", {{"use_sliding_window", true}, {"sliding_window", 64}, {"max_window_layers", 0}})));
  EXPECT_TRUE(parse(qwen("qwen3", {{"layer_types", {"full_attention", "full_attention", "full_attention"}}})));
}

struct Refusal {
  const char* change;  // JSON merge patch over the Llama configuration
  const char* code;
  const char* fragment;
};
constexpr Refusal kRefusals[] = {
    {R"({"model_type": "mistral", "architectures": ["MistralForCausalLM"]})", "config.unknown_architecture", "mistral"},
    {R"({"model_type": "mistral"})", "config.unknown_architecture", "mistral"},
    {R"({"architectures": ["LlamaModel"]})", "config.unknown_architecture", "LlamaModel"},
    {R"({"architectures": ["LlamaForCausalLM", "Qwen2ForCausalLM"]})", "config.unknown_architecture", "2 entries"},
    {R"({"architectures": ["Qwen2ForCausalLM"]})", "config.contradiction", "model_type is \"llama\""},
    {R"({"architectures": "LlamaForCausalLM"})", "config.wrong_type", "architectures"},
    {R"({"model_type": 7})", "config.wrong_type", "model_type"},
    {R"({"vocab_size": null})", "config.missing_field", "vocab_size"},
    {R"({"hidden_size": null})", "config.missing_field", "hidden_size"},
    {R"({"intermediate_size": null})", "config.missing_field", "intermediate_size"},
    {R"({"num_hidden_layers": null})", "config.missing_field", "num_hidden_layers"},
    {R"({"num_attention_heads": null})", "config.missing_field", "num_attention_heads"},
    {R"({"max_position_embeddings": null})", "config.missing_field", "max_position_embeddings"},
    {R"({"num_attention_heads": 0})", "config.out_of_range", "num_attention_heads"},
    {R"({"num_attention_heads": -2})", "config.out_of_range", "num_attention_heads"},
    {R"({"num_key_value_heads": 0})", "config.out_of_range", "num_key_value_heads"},
    {R"({"hidden_size": 32.0})", "config.wrong_type", "hidden_size"},
    {R"({"hidden_size": "32"})", "config.wrong_type", "hidden_size"},
    {R"({"hidden_size": 1048577})", "config.out_of_range", "hidden_size"},
    {R"({"hidden_size": 18446744073709551615})", "config.wrong_type", "hidden_size"},
    {R"({"vocab_size": 1e30})", "config.wrong_type", "vocab_size"},
    {R"({"num_hidden_layers": 1000000})", "config.out_of_range", "num_hidden_layers"},
    {R"({"num_attention_heads": 4, "num_key_value_heads": 3})", "config.contradiction", "do not divide"},
    {R"({"num_attention_heads": 2, "num_key_value_heads": 4})", "config.contradiction", "do not divide"},
    {R"({"num_attention_heads": 3})", "config.contradiction", "not a multiple"},
    {R"({"head_dim": 15})", "config.contradiction", "odd"},
    {R"({"num_attention_heads": 16384, "head_dim": 16384, "num_key_value_heads": 1})", "config.out_of_range", "wider"},
    {R"({"hidden_act": "gelu"})", "config.unsupported", "gelu"},
    {R"({"rms_norm_eps": 0})", "config.out_of_range", "rms_norm_eps"},
    {R"({"rms_norm_eps": -1e-6})", "config.out_of_range", "rms_norm_eps"},
    {R"({"rms_norm_eps": "1e-6"})", "config.wrong_type", "rms_norm_eps"},
    {R"({"tie_word_embeddings": 1})", "config.wrong_type", "tie_word_embeddings"},
    {R"({"attention_bias": "no"})", "config.wrong_type", "attention_bias"},
    {R"({"quantization_config": {"quant_method": "awq", "bits": 4}})", "config.unsupported", "awq"},
    {R"({"is_encoder_decoder": true})", "config.unsupported", "is_encoder_decoder"},
    {R"({"partial_rotary_factor": 0.5})", "config.unsupported", "partial_rotary_factor"},
};

TEST(HfConfig, WrongFieldsAreRefusedByName) {
  for (const Refusal& r : kRefusals) {
    SCOPED_TRACE(r.change);
    const Json config = with(Json::parse(r.change));
    const auto spec = parse(config);
    expect_error(spec, r.code, r.fragment);
    EXPECT_EQ(spec.error().file, "config.json");
  }
}

TEST(HfConfig, WrongQwenFieldsAreRefusedByName) {
  expect_error(parse(qwen("qwen3", {{"head_dim", nullptr}})), "config.missing_field", "head_dim");
  expect_error(parse(qwen("qwen2", {{"num_key_value_heads", nullptr}})), "config.missing_field", "num_key_value_heads");
  expect_error(parse(qwen("qwen2", {{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 2}})),
               "config.unsupported", "sliding window of 8");
  expect_error(parse(qwen("qwen2", {{"layer_types", {"full_attention"}}})), "config.contradiction",
               "layer_types has 1");
  expect_error(parse(qwen("qwen2", {{"layer_types", {"full_attention", "linear_attention", "full_attention"}}})),
               "config.unsupported", "linear_attention");
  const Json sliding = {"full_attention", "sliding_attention", "full_attention"};
  expect_error(parse(qwen("qwen3", {{"layer_types", sliding}})), "config.contradiction", "use_sliding_window");
  expect_error(parse(qwen("qwen3", {{"layer_types", sliding}, {"use_sliding_window", true}, {"sliding_window", 4}})),
               "config.unsupported", "sliding window");
}

TEST(HfConfig, TheDocumentMustBeAnObject) { expect_error(parse(Json::array()), "config.wrong_type", "object"); }

}  // namespace
}  // namespace concord
