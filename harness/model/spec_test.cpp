#include <map>

#include "model/testing.hpp"

namespace concord {
namespace {

using testing_model::expect_error;
using testing_model::FakeCheckpoint;
using testing_model::TemporaryFolder;

Json config_json() {
  return Json::parse(
      R"({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16})");
}
ModelSpec spec_of(const Json& config) { return spec_from_hf_config(config, "config.json").value(); }

// A folder with a config.json and, apart from it, a checkpoint in memory that fits it until a test changes something.
struct Model {
  explicit Model(const Json& changes = Json::object()) {
    Json config = config_json();
    config.merge_patch(changes);
    folder.write("config.json", config.dump());
    spec = spec_of(config);
    checkpoint.add_all(spec);
  }
  Result<ModelSpec> check() const { return spec_from_path(folder.path(), checkpoint); }
  TemporaryFolder folder;
  ModelSpec spec;
  FakeCheckpoint checkpoint;
};

TEST(ExpectedTensors, EveryNameAndShapeOfALayer) {
  ModelSpec s = spec_of(config_json());
  s.layers = 1;
  s.qkv_bias = s.o_bias = s.mlp_bias = s.qk_norm = true;
  std::map<std::string, std::vector<std::int64_t>> got;
  for (const ExpectedTensor& t : expected_tensors(s)) got[t.name] = t.shape;
  const std::string l = "model.layers.0.";
  const std::map<std::string, std::vector<std::int64_t>> expected{{"model.embed_tokens.weight", {10, 8}},
                                                                  {"model.norm.weight", {8}},
                                                                  {"lm_head.weight", {10, 8}},
                                                                  {l + "input_layernorm.weight", {8}},
                                                                  {l + "post_attention_layernorm.weight", {8}},
                                                                  {l + "self_attn.q_proj.weight", {8, 8}},
                                                                  {l + "self_attn.q_proj.bias", {8}},
                                                                  {l + "self_attn.k_proj.weight", {4, 8}},
                                                                  {l + "self_attn.k_proj.bias", {4}},
                                                                  {l + "self_attn.v_proj.weight", {4, 8}},
                                                                  {l + "self_attn.v_proj.bias", {4}},
                                                                  {l + "self_attn.o_proj.weight", {8, 8}},
                                                                  {l + "self_attn.o_proj.bias", {8}},
                                                                  {l + "self_attn.q_norm.weight", {4}},
                                                                  {l + "self_attn.k_norm.weight", {4}},
                                                                  {l + "mlp.gate_proj.weight", {12, 8}},
                                                                  {l + "mlp.gate_proj.bias", {12}},
                                                                  {l + "mlp.up_proj.weight", {12, 8}},
                                                                  {l + "mlp.up_proj.bias", {12}},
                                                                  {l + "mlp.down_proj.weight", {8, 12}},
                                                                  {l + "mlp.down_proj.bias", {8}}};
  EXPECT_EQ(got, expected);
  for (const ExpectedTensor& t : expected_tensors(s)) EXPECT_EQ(t.matrix, t.shape.size() == 2) << t.name;
}

TEST(Parameters, CountsTiedEmbeddingsOnce) {
  ModelSpec s = spec_of(config_json());
  // per layer: 2 norms of 8, q 64, k and v 32 each, o 64, three MLP matrices of 96
  const std::int64_t layer = 16 + 64 + 64 + 64 + 288;
  EXPECT_EQ(s.parameters(), 80 + 2 * layer + 8 + 80);
  s.tied_embeddings = true;
  EXPECT_EQ(s.parameters(), 80 + 2 * layer + 8);
}

TEST(SpecFromPath, AFittingModelIsAccepted) {
  const Model m;
  const auto spec = m.check();
  ASSERT_TRUE(spec) << spec.error().to_string();
  EXPECT_EQ(spec->layers, 2);
  EXPECT_TRUE(spec_from_path(m.folder.path() / "model.safetensors", m.checkpoint));  // a file in the folder
}

TEST(SpecFromPath, NoConfiguration) {
  const TemporaryFolder folder;
  expect_error(spec_from_path(folder.path(), FakeCheckpoint()), "config.missing_file", "config.json");
}

TEST(SpecFromPath, BrokenConfiguration) {
  const TemporaryFolder folder;
  for (const auto& [text, code] : {std::pair{"{\"vocab_size\": NaN}", "config.syntax"},
                                   {"{\"a\": 1, \"a\": 2}", "config.duplicate_key"},
                                   {"", "config.syntax"}}) {
    folder.write("config.json", text);
    expect_error(spec_from_path(folder.path(), FakeCheckpoint()), code);
  }
}

TEST(SpecFromPath, MissingTensorsAreNamed) {
  Model m;
  m.checkpoint.remove("model.layers.1.mlp.up_proj.weight");
  expect_error(m.check(), "checkpoint.missing_tensor", "model.layers.1.mlp.up_proj.weight");
}

TEST(SpecFromPath, UntiedWithoutHead) {
  Model m;
  m.checkpoint.remove("lm_head.weight");
  expect_error(m.check(), "checkpoint.missing_tensor", "tie_word_embeddings");
}

TEST(SpecFromPath, WrongShapesNameBoth) {
  Model m;
  m.checkpoint.remove("model.layers.0.mlp.up_proj.weight").add("model.layers.0.mlp.up_proj.weight", {12, 7});
  expect_error(m.check(), "checkpoint.shape_mismatch", "[12, 7]");
  Model transposed;
  transposed.checkpoint.remove("model.layers.0.mlp.up_proj.weight").add("model.layers.0.mlp.up_proj.weight", {8, 12});
  expect_error(transposed.check(), "checkpoint.shape_mismatch", "transposed");
  Model vocabulary;
  vocabulary.checkpoint.remove("model.embed_tokens.weight").add("model.embed_tokens.weight", {11, 8});
  expect_error(vocabulary.check(), "checkpoint.shape_mismatch", "[10, 8]");
}

TEST(SpecFromPath, LayerCountsMustAgree) {
  Model more;
  more.checkpoint.add("model.layers.2.input_layernorm.weight", {8});
  expect_error(more.check(), "config.layer_count", "2 layers, the checkpoint holds 3");
  Model fewer;
  for (const ExpectedTensor& t : expected_tensors(fewer.spec))
    if (t.name.starts_with("model.layers.1.")) fewer.checkpoint.remove(t.name);
  expect_error(fewer.check(), "config.layer_count", "2 layers, the checkpoint holds 1");
}

TEST(SpecFromPath, AStoredTensorThatNothingReadsIsRefused) {
  Model m;
  m.checkpoint.add("model.layers.0.self_attn.q_proj.bias", {8});
  expect_error(m.check(), "config.unexpected_tensor", "model.layers.0.self_attn.q_proj.bias");
  Model buffer;
  buffer.checkpoint.add("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  EXPECT_TRUE(buffer.check());
}

TEST(SpecFromPath, TiedEmbeddingsMayBeStoredTwiceWhenEqual) {
  Model tied(Json{{"tie_word_embeddings", true}});
  EXPECT_TRUE(tied.check());
  tied.checkpoint.add("lm_head.weight", {10, 8});
  EXPECT_TRUE(tied.check());
  std::vector<float> other(80, 0.0f);
  other[79] = 1.0f;
  tied.checkpoint.remove("lm_head.weight").add("lm_head.weight", {10, 8}, other);
  expect_error(tied.check(), "config.contradiction", "lm_head.weight");
}

TEST(SpecFromPath, HostileLayerNumbersAreNotLayers) {
  for (const char* name : {"model.layers.99999999999999999999.x", "model.layers.9223372036854775807.x",
                           "model.layers.-1.x", "model.layers..x"}) {
    Model m;
    m.checkpoint.add(name, {1});
    expect_error(m.check(), "config.unexpected_tensor");
  }
}

}  // namespace
}  // namespace concord
