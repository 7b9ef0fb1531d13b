// config.json of Hugging Face. Defaults where a field is missing are those of Transformers' configuration classes.
#include <fmt/format.h>

#include <algorithm>

#include "model/spec_parse.hpp"

namespace concord {
namespace {

using namespace spec_limits;

Result<const Family*> family_of(const JsonFields& c) {
  CONCORD_TRY(const std::string type, c.string_or("model_type", ""));
  std::vector<std::string> classes;
  if (c.has("architectures")) {
    CONCORD_TRY(classes, c.strings("architectures"));
  }
  if (type.empty() && classes.empty())
    return c.error("missing_field", "neither \"model_type\" nor \"architectures\" says what this model is");
  if (classes.size() > 1) return unknown_architecture(c, "architectures", fmt::format("{} entries", classes.size()));
  if (!type.empty() && find_family(type) == nullptr) return unknown_architecture(c, "model_type", type);
  const Family* by_class = nullptr;
  for (const char* name : {"llama", "qwen2", "qwen3"})
    if (!classes.empty() && find_family(name)->architecture == classes[0]) by_class = find_family(name);
  if (!classes.empty() && by_class == nullptr) return unknown_architecture(c, "architectures", classes[0]);
  if (type.empty()) return by_class;
  if (by_class != nullptr && by_class->name != type)
    return c.error("contradiction",
                   fmt::format("model_type is \"{}\" but architectures says \"{}\"", type, classes[0]));
  return find_family(type);
}

Status read_sizes(const JsonFields& c, const Family& family, ModelSpec& s) {
  CONCORD_TRY(s.vocab, c.integer("vocab_size", 1, kVocab));
  CONCORD_TRY(s.hidden, c.integer("hidden_size", 1, kHidden));
  CONCORD_TRY(s.intermediate, c.integer("intermediate_size", 1, kIntermediate));
  CONCORD_TRY(s.layers, c.integer("num_hidden_layers", 1, kLayers));
  CONCORD_TRY(s.heads, c.integer("num_attention_heads", 1, kHeads));
  // null means one per query head for all three; only Llama may leave it out (the Qwen classes would take 32).
  if (family.name != "llama" && !c.json().contains("num_key_value_heads"))
    CONCORD_CHECK(c.integer("num_key_value_heads"));
  CONCORD_TRY(s.kv_heads, c.integer_or("num_key_value_heads", s.heads, 1, kHeads));
  CONCORD_TRY(s.max_positions, c.integer("max_position_embeddings", 1, kPositions));
  if (family.explicit_head_dim || c.has("head_dim")) {
    CONCORD_TRY(s.head_dim, c.integer("head_dim", 1, kHeadDim));
    return {};
  }
  if (s.hidden % s.heads != 0)
    return c.error("contradiction",
                   fmt::format("hidden_size {} is not a multiple of num_attention_heads {}, and head_dim is not given",
                               s.hidden, s.heads));
  s.head_dim = s.hidden / s.heads;
  return {};
}

Status read_switches(const JsonFields& c, const Family& family, ModelSpec& s) {
  CONCORD_TRY(s.tied_embeddings, c.boolean_or("tie_word_embeddings", false));
  CONCORD_TRY(const bool attention_bias, c.boolean_or("attention_bias", false));
  CONCORD_TRY(const bool mlp_bias, c.boolean_or("mlp_bias", false));
  s.qkv_bias = family.qkv_bias || (family.attention_bias && attention_bias);
  s.o_bias = family.attention_bias && attention_bias;
  s.mlp_bias = family.mlp_bias && mlp_bias;
  s.qk_norm = family.qk_norm;
  CONCORD_TRY(s.rms_norm_eps, c.number_or("rms_norm_eps", 1e-6));
  if (!(s.rms_norm_eps > 0.0 && s.rms_norm_eps < 1.0))
    return c.error("out_of_range", fmt::format("field \"rms_norm_eps\" must be in (0, 1), found {}", s.rms_norm_eps));
  return {};
}

Status read_dtype(const JsonFields& c, ModelSpec& s) {
  CONCORD_TRY(const std::string older, c.string_or("torch_dtype", ""));
  CONCORD_TRY(const std::string newer, c.string_or("dtype", older));
  if (!older.empty() && newer != older)
    return c.error("contradiction", fmt::format("torch_dtype is \"{}\" but dtype is \"{}\"", older, newer));
  s.stored_dtype = newer.starts_with("torch.") ? newer.substr(6) : newer;
  return {};
}

// layer_types, where given, decides; else layers from max_window_layers on have the window.
Status check_windows(const JsonFields& c, const ModelSpec& s) {
  CONCORD_TRY(const bool use, c.boolean_or("use_sliding_window", false));
  CONCORD_TRY(const std::int64_t window, c.integer_or("sliding_window", 4096, 1, INT64_MAX));
  CONCORD_TRY(const std::int64_t first, c.integer_or("max_window_layers", 28, 0, INT64_MAX));
  bool affected = use && first < s.layers;
  if (c.has("layer_types")) {
    CONCORD_TRY(const std::vector<std::string> types, c.strings("layer_types"));
    if (static_cast<std::int64_t>(types.size()) != s.layers)
      return c.error("contradiction",
                     fmt::format("layer_types has {} entries, num_hidden_layers is {}", types.size(), s.layers));
    for (const std::string& t : types)
      if (t != "full_attention" && t != "sliding_attention")
        return c.error("unsupported", fmt::format("layer_types names \"{}\"; only full_attention is supported", t));
    affected = std::ranges::count(types, "sliding_attention") > 0;
    if (affected && !use)
      return c.error("contradiction", "layer_types names sliding_attention, but use_sliding_window is not true");
  }
  if (affected && window < s.max_positions)
    return c.error(
        "unsupported",
        fmt::format("a sliding window of {} is in use (use_sliding_window true); only full attention is supported",
                    window));
  return {};
}

Status check_supported(const JsonFields& c, const Family& family, const ModelSpec& s) {
  CONCORD_TRY(const std::string act, c.string_or("hidden_act", "silu"));
  if (act != "silu")
    return c.error("unsupported", fmt::format("hidden_act \"{}\" is not supported; only \"silu\" is", act));
  if (c.has("quantization_config")) {
    CONCORD_TRY(const JsonFields q, c.object("quantization_config"));
    CONCORD_TRY(const std::string method, q.string_or("quant_method", "unnamed"));
    return c.error(
        "unsupported",
        fmt::format(
            "quantization_config is present (quant_method \"{}\"): this checkpoint holds packed weights; use the "
            "unquantised one, Concord quantises by itself",
            method));
  }
  CONCORD_TRY(const bool encoder, c.boolean_or("is_encoder_decoder", false));
  if (encoder) return c.error("unsupported", "is_encoder_decoder is true; only decoder-only models are supported");
  return family.sliding_window ? check_windows(c, s) : Status{};
}

}  // namespace

Result<ModelSpec> spec_from_hf_config(const Json& config, const std::string& file) {
  CONCORD_TRY(const JsonFields fields, JsonFields::from(config, file, "config"));
  CONCORD_TRY(const Family* family, family_of(fields));
  ModelSpec spec;
  spec.architecture = family->name;
  CONCORD_CHECK(read_sizes(fields, *family, spec));
  CONCORD_CHECK(read_switches(fields, *family, spec));
  CONCORD_CHECK(read_dtype(fields, spec));
  CONCORD_CHECK(check_consistency(spec, fields));
  CONCORD_CHECK(check_supported(fields, *family, spec));
  CONCORD_TRY(spec.rope, rope_from_hf_config(fields, spec.max_positions));
  return spec;
}

}  // namespace concord
