#include "model/spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <unordered_set>

#include "base/tensor.hpp"
#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"
#include "model/spec_parse.hpp"

namespace concord {
namespace {

//                       name     class               qkv_bias attn_bias mlp_bias qk_norm head_dim window
constexpr std::array<Family, 3> kFamilies{{
    {"llama", "LlamaForCausalLM", false, true, true, false, false, false},
    {"qwen2", "Qwen2ForCausalLM", true, false, false, false, false, true},
    {"qwen3", "Qwen3ForCausalLM", false, true, false, true, true, true},
}};

void add_layer(const ModelSpec& s, std::int64_t layer, std::vector<ExpectedTensor>& out) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const auto vector = [&](const char* name, std::int64_t n) { out.push_back({prefix + name, {n}, false}); };
  const auto linear = [&](const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
    out.push_back({prefix + name + ".weight", {rows, cols}, true});
    if (bias) out.push_back({prefix + name + ".bias", {rows}, false});
  };
  const std::int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  vector("input_layernorm.weight", s.hidden);
  linear("self_attn.q_proj", q, s.hidden, s.qkv_bias);
  linear("self_attn.k_proj", kv, s.hidden, s.qkv_bias);
  linear("self_attn.v_proj", kv, s.hidden, s.qkv_bias);
  linear("self_attn.o_proj", s.hidden, q, s.o_bias);
  if (s.qk_norm) {
    vector("self_attn.q_norm.weight", s.head_dim);
    vector("self_attn.k_norm.weight", s.head_dim);
  }
  vector("post_attention_layernorm.weight", s.hidden);
  linear("mlp.gate_proj", s.intermediate, s.hidden, s.mlp_bias);
  linear("mlp.up_proj", s.intermediate, s.hidden, s.mlp_bias);
  linear("mlp.down_proj", s.hidden, s.intermediate, s.mlp_bias);
}

// The layer number in "model.layers.N." or "blk.N."; -1 for other names.
std::int64_t layer_of(std::string_view name) {
  for (const std::string_view prefix : {"model.layers.", "blk."}) {
    if (!name.starts_with(prefix)) continue;
    const std::string_view rest = name.substr(prefix.size());
    std::int64_t n = -1;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), n);
    if (error == std::errc{} && n >= 0 && n < 1'000'000'000 && end != rest.data() + rest.size() && *end == '.')
      return n;
  }
  return -1;
}

bool is_gguf(const Checkpoint& checkpoint) { return checkpoint.format().starts_with("gguf"); }

// Buffers that older exporters wrote beside the weights; every value in them follows from the configuration.
bool is_derived_buffer(std::string_view name) {
  constexpr std::string_view kSuffixes[] = {".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached",
                                            ".attention.bias", ".attention.masked_bias"};
  return name == "rope_freqs.weight" ||
         std::ranges::any_of(kSuffixes, [&](std::string_view s) { return name.ends_with(s); });
}

Status check_layer_count(const Checkpoint& checkpoint, const ModelSpec& spec, const std::string& file) {
  std::int64_t stored = 0;
  for (const TensorInfo& t : checkpoint.tensors()) stored = std::max(stored, layer_of(t.name) + 1);
  if (stored == 0 || stored == spec.layers) return {};  // none at all: the missing tensor's name says more
  return bad_input(
      "config.layer_count",
      fmt::format("the configuration has {} layers, the checkpoint holds {}; the two do not belong together, or a "
                  "part of the checkpoint is missing",
                  spec.layers, stored),
      file);
}

Status check_tensor(const Checkpoint& checkpoint, const HfTensors& tensors, const ExpectedTensor& expected,
                    const std::string& file) {
  const TensorInfo* found = tensors.info(expected.name);
  if (found == nullptr)
    return bad_input("checkpoint.missing_tensor",
                     fmt::format("the configuration asks for tensor \"{}\"{}, the checkpoint has none{}", expected.name,
                                 is_gguf(checkpoint) ? fmt::format(" (in GGUF: \"{}\")", gguf_name(expected.name)) : "",
                                 expected.name == "lm_head.weight" ? "; tie_word_embeddings is false or missing" : ""),
                     file);
  if (found->shape == expected.shape) return {};
  const Shape reversed(expected.shape.rbegin(), expected.shape.rend());
  return bad_input("checkpoint.shape_mismatch",
                   fmt::format("tensor \"{}\" has shape {}, the configuration asks for {}{}", printable(found->name),
                               shape_string(found->shape), shape_string(expected.shape),
                               found->shape == reversed ? "; it is stored transposed" : ""),
                   checkpoint.files()[found->file], found->offset);
}

// Tied embeddings may be stored twice, but only if both copies are the same.
Status check_tied_head(const Checkpoint& checkpoint, const std::string& file) {
  const TensorInfo *head = checkpoint.find("lm_head.weight"), *embedding = checkpoint.find("model.embed_tokens.weight");
  if (head == nullptr || embedding == nullptr) return {};
  const auto a = checkpoint.raw(*head), b = checkpoint.raw(*embedding);
  if (head->type == embedding->type && head->shape == embedding->shape && a.size() == b.size() &&
      std::memcmp(a.data(), b.data(), a.size()) == 0)
    return {};
  return bad_input(
      "config.contradiction",
      "tie_word_embeddings is true, but lm_head.weight is stored and differs from model.embed_tokens.weight; set "
      "it to false or remove the tensor",
      file);
}

// A stored tensor that no operator reads (a bias that the configuration denies, say) would silently be left out of the
// computation.
Status check_unexpected(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                        const std::string& file) {
  std::unordered_set<std::string> known{"lm_head.weight"};
  for (const ExpectedTensor& e : expected) known.insert(is_gguf(checkpoint) ? gguf_name(e.name) : e.name);
  std::size_t count = 0;
  const TensorInfo* first = nullptr;
  for (const TensorInfo& t : checkpoint.tensors()) {
    if (known.contains(t.name) || is_derived_buffer(t.name)) continue;
    if (count++ == 0) first = &t;
  }
  if (count == 0) return {};
  return bad_input("config.unexpected_tensor",
                   fmt::format("{} stored tensor(s) have no place in this architecture, the first is \"{}\"; check "
                               "model_type and the bias switches",
                               count, printable(first->name)),
                   file);
}

Status check_tensors(const Checkpoint& checkpoint, const ModelSpec& spec, const std::string& file) {
  CONCORD_CHECK(check_layer_count(checkpoint, spec, file));
  const std::vector<ExpectedTensor> expected = expected_tensors(spec);
  const HfTensors tensors(checkpoint, spec.heads, spec.kv_heads);
  for (const ExpectedTensor& e : expected) CONCORD_CHECK(check_tensor(checkpoint, tensors, e, file));
  if (spec.tied_embeddings) CONCORD_CHECK(check_tied_head(checkpoint, file));
  return check_unexpected(checkpoint, expected, file);
}

}  // namespace

const Family* find_family(std::string_view name) {
  const auto it = std::ranges::find(kFamilies, name, &Family::name);
  return it == kFamilies.end() ? nullptr : &*it;
}

std::unexpected<Error> unknown_architecture(const JsonFields& fields, const std::string& field,
                                            const std::string& found) {
  return fields.error("unknown_architecture", fmt::format("{} is \"{}\"; this build runs llama (LlamaForCausalLM), "
                                                          "qwen2 (Qwen2ForCausalLM) and qwen3 (Qwen3ForCausalLM)",
                                                          field, printable(found)));
}

Status check_consistency(const ModelSpec& s, const JsonFields& fields) {
  if (s.heads % s.kv_heads != 0)
    return fields.error("contradiction",
                        fmt::format("{} key/value heads do not divide {} query heads", s.kv_heads, s.heads));
  if (s.head_dim % 2 != 0)
    return fields.error("contradiction",
                        fmt::format("the head size {} is odd; rotary embeddings need pairs", s.head_dim));
  if (s.heads * s.head_dim > spec_limits::kHidden)
    return fields.error("out_of_range", fmt::format("{} heads of size {} are wider than {}", s.heads, s.head_dim,
                                                    spec_limits::kHidden));
  return {};
}

std::int64_t ModelSpec::parameters() const {
  ModelSpec one_layer = *this;
  one_layer.layers = 1;
  std::int64_t outside = 0, inside = 0;
  for (const ExpectedTensor& t : expected_tensors(one_layer))
    (layer_of(t.name) == 0 ? inside : outside) += element_count(t.shape);
  return outside + layers * inside;
}

std::vector<ExpectedTensor> expected_tensors(const ModelSpec& spec) {
  std::vector<ExpectedTensor> out;
  out.push_back({"model.embed_tokens.weight", {spec.vocab, spec.hidden}, true});
  for (std::int64_t i = 0; i < spec.layers; ++i) add_layer(spec, i, out);
  out.push_back({"model.norm.weight", {spec.hidden}, false});
  if (!spec.tied_embeddings) out.push_back({"lm_head.weight", {spec.vocab, spec.hidden}, true});
  return out;
}

Result<ModelSpec> spec_from_path(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  if (is_gguf(checkpoint)) {
    CONCORD_TRY(ModelSpec spec, spec_from_gguf(checkpoint));
    CONCORD_CHECK(check_tensors(checkpoint, spec, checkpoint.files()[0]));
    return spec;
  }
  std::error_code ignored;
  const auto folder = std::filesystem::is_directory(path, ignored) ? path : path.parent_path();
  const std::string file = (folder / "config.json").string();
  if (!std::filesystem::exists(file, ignored))
    return bad_input("config.missing_file", "no config.json stands beside the weights; put the model's own one there",
                     file);
  CONCORD_TRY(const Json config, read_json(file, "config", 16u << 20));
  CONCORD_TRY(ModelSpec spec, spec_from_hf_config(config, file));
  CONCORD_CHECK(check_tensors(checkpoint, spec, file));
  return spec;
}

}  // namespace concord
