// Rotary embedding settings as config.json and GGUF write them.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <set>

#include "model/spec_parse.hpp"

namespace concord {
namespace {

using Kind = RopeSpec::Kind;

struct RopeType {
  std::string_view name;
  Kind kind;
  std::set<std::string> fields;  // besides kCommonFields
};
const std::array<RopeType, 4>& rope_types() {
  static const std::array<RopeType, 4> kTypes{{
      {"default", Kind::kDefault, {}},
      {"linear", Kind::kLinear, {"factor"}},
      {"llama3", Kind::kLlama3, {"factor", "low_freq_factor", "high_freq_factor"}},
      {"yarn",
       Kind::kYarn,
       {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}},
  }};
  return kTypes;
}
// Fields that change nothing, or are read for every type. `finetuned` is a note that published YaRN models carry.
const std::set<std::string> kCommonFields{
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "finetuned"};

Result<const RopeType*> rope_type(const JsonFields& scaling, const std::string& where) {
  CONCORD_TRY(const std::string newer, scaling.string_or("rope_type", ""));
  CONCORD_TRY(const std::string older, scaling.string_or("type", ""));
  if (!newer.empty() && !older.empty() && newer != older)
    return scaling.error("contradiction", fmt::format("{}.rope_type is \"{}\" but {}.type is \"{}\"; keep one", where,
                                                      newer, where, older));
  const std::string name = !newer.empty() ? newer : !older.empty() ? older : "default";
  for (const RopeType& t : rope_types())
    if (t.name == name) return &t;
  return scaling.error("unsupported",
                       fmt::format("{}.rope_type \"{}\" is not one of default, linear, llama3, yarn", where, name));
}

// A number that would change the result if it were not read must not be ignored.
Status check_scaling_fields(const JsonFields& scaling, const RopeType& type, const std::string& where) {
  for (const auto& [key, value] : scaling.json().items()) {
    if (value.is_null() || kCommonFields.contains(key) || type.fields.contains(key)) continue;
    if (value.is_object())
      return scaling.error(
          "unsupported",
          fmt::format("{}.{} is an object: rotary settings per layer type are not supported", where, key));
    for (const RopeType& t : rope_types())
      if (t.fields.contains(key))
        return scaling.error(
            "contradiction",
            fmt::format("{}.{} is given, but the rope type is \"{}\", which does not use it", where, key, type.name));
    return scaling.error("unknown_field",
                         fmt::format("{}.{} is not known for rope type \"{}\"", where, key, type.name));
  }
  return {};
}

Status check_partial(const JsonFields& fields) {
  CONCORD_TRY(const double partial, fields.number_or("partial_rotary_factor", 1.0));
  if (partial == 1.0) return {};
  return fields.error(
      "unsupported",
      fmt::format("partial_rotary_factor {} rotates only a part of each head; only 1.0 is supported", partial));
}

// The object with the settings: rope_parameters (newer) or rope_scaling (older). null and {} both mean "no scaling".
struct Scaling {
  std::string where;
  const Json* value;
};
Result<Scaling> scaling_object(const JsonFields& config) {
  static const Json kNone = Json::object();
  const auto given = [&](const char* key) { return config.has(key) && !config.raw(key).empty(); };
  const bool newer = given("rope_parameters"), older = given("rope_scaling");
  if (newer && older && config.raw("rope_parameters") != config.raw("rope_scaling"))
    return config.error("contradiction", "rope_parameters and rope_scaling are both given and differ; keep one");
  if (newer) return Scaling{"rope_parameters", &config.raw("rope_parameters")};
  if (older) return Scaling{"rope_scaling", &config.raw("rope_scaling")};
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (config.has(key) && !config.raw(key).is_object())
      return config.error("wrong_type", fmt::format("{} must be an object or null", key));
  return Scaling{"rope_scaling", &kNone};
}

Result<double> rope_theta(const JsonFields& config, const JsonFields& scaling, const std::string& where) {
  CONCORD_TRY(const double outer, config.number_or("rope_theta", 10000.0));
  CONCORD_TRY(const double inner, scaling.number_or("rope_theta", outer));
  if (config.has("rope_theta") && inner != outer)
    return config.error("contradiction", fmt::format("rope_theta is {} but {}.rope_theta is {}", outer, where, inner));
  return inner;
}

// 0 when neither place gives it.
Result<std::int64_t> original_positions(const JsonFields& config, const JsonFields& scaling, const std::string& where) {
  const std::string key = "original_max_position_embeddings";
  CONCORD_TRY(const std::int64_t outer, config.integer_or(key, 0, 1, spec_limits::kPositions));
  CONCORD_TRY(const std::int64_t inner, scaling.integer_or(key, outer, 1, spec_limits::kPositions));
  if (outer != 0 && inner != outer)
    return config.error("contradiction", fmt::format("{} is {} but {}.{} is {}", key, outer, where, key, inner));
  return inner;
}

Status read_llama3(const JsonFields& scaling, RopeSpec& rope) {
  CONCORD_TRY(rope.factor, scaling.number("factor"));
  CONCORD_TRY(rope.low_freq_factor, scaling.number("low_freq_factor"));
  CONCORD_TRY(rope.high_freq_factor, scaling.number("high_freq_factor"));
  if (rope.original_max_positions == 0) CONCORD_CHECK(scaling.integer("original_max_position_embeddings"));
  return {};
}

Status read_yarn(const JsonFields& scaling, std::int64_t max_positions, RopeSpec& rope) {
  if (!scaling.has("factor") && rope.original_max_positions > 0) {
    rope.factor = static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  } else {
    CONCORD_TRY(rope.factor, scaling.number("factor"));
  }
  if (rope.original_max_positions == 0) rope.original_max_positions = max_positions;
  CONCORD_TRY(const double fast, scaling.number_or("beta_fast", 32.0));
  CONCORD_TRY(const double slow, scaling.number_or("beta_slow", 1.0));
  rope.beta_fast = fast == 0.0 ? 32.0 : fast;  // Transformers: `or 32`, `or 1`
  rope.beta_slow = slow == 0.0 ? 1.0 : slow;
  CONCORD_TRY(rope.truncate, scaling.boolean_or("truncate", true));
  CONCORD_TRY(const double mscale, scaling.number_or("mscale", 0.0));
  CONCORD_TRY(const double mscale_all_dim, scaling.number_or("mscale_all_dim", 0.0));
  CONCORD_TRY(rope.attention_factor,
              scaling.number_or("attention_factor", yarn_attention_factor(rope.factor, mscale, mscale_all_dim)));
  return {};
}

std::unexpected<Error> out_of_range(const JsonFields& fields, std::string_view name, std::string_view rule,
                                    double found) {
  return fields.error("out_of_range", fmt::format("rope: {} must be {}, found {}", name, rule, found));
}

// llama.cpp's settings that have no counterpart here; any other value than the neutral one is refused.
Status check_gguf_extras(const JsonFields& metadata, const std::string& rope) {
  constexpr std::pair<const char*, double> kNeutral[] = {{"scaling.attn_factor", 1.0},
                                                         {"scaling.yarn_log_multiplier", 0.0},
                                                         {"scaling.yarn_ext_factor", 1.0},
                                                         {"scaling.yarn_attn_factor", 1.0}};
  for (const auto& [key, neutral] : kNeutral) {
    CONCORD_TRY(const double found, metadata.number_or(rope + key, neutral));
    if (found != neutral)
      return metadata.error("unsupported", fmt::format("{}{} is {}; only {} is supported", rope, key, found, neutral));
  }
  return {};
}

}  // namespace

Status check_rope(const RopeSpec& r, const JsonFields& fields) {
  constexpr double kMost = 1e15;
  if (!(r.theta > 1.0 && r.theta <= kMost)) return out_of_range(fields, "theta", "in (1, 1e15]", r.theta);
  if (!(r.factor >= 1.0 && r.factor <= kMost)) return out_of_range(fields, "factor", "in [1, 1e15]", r.factor);
  if (!(r.attention_factor > 0.0 && r.attention_factor <= 1e6))
    return out_of_range(fields, "attention_factor", "in (0, 1e6]", r.attention_factor);
  if (!(r.low_freq_factor > 0.0 && r.low_freq_factor <= kMost))
    return out_of_range(fields, "low_freq_factor", "in (0, 1e15]", r.low_freq_factor);
  if (!(r.high_freq_factor > 0.0 && r.high_freq_factor <= kMost))
    return out_of_range(fields, "high_freq_factor", "in (0, 1e15]", r.high_freq_factor);
  if (!(r.beta_fast > 0.0 && r.beta_fast <= kMost))
    return out_of_range(fields, "beta_fast", "in (0, 1e15]", r.beta_fast);
  if (!(r.beta_slow > 0.0 && r.beta_slow <= kMost))
    return out_of_range(fields, "beta_slow", "in (0, 1e15]", r.beta_slow);
  if (r.low_freq_factor >= r.high_freq_factor)
    return fields.error("contradiction", fmt::format("rope: low_freq_factor {} must be below high_freq_factor {}",
                                                     r.low_freq_factor, r.high_freq_factor));
  if (r.beta_slow >= r.beta_fast)
    return fields.error("contradiction",
                        fmt::format("rope: beta_slow {} must be below beta_fast {}", r.beta_slow, r.beta_fast));
  return {};
}

Result<RopeSpec> rope_from_hf_config(const JsonFields& config, std::int64_t max_positions) {
  CONCORD_TRY(const Scaling found, scaling_object(config));
  CONCORD_TRY(const JsonFields scaling, JsonFields::from(*found.value, config.file(), "config", found.where));
  CONCORD_TRY(const RopeType* type, rope_type(scaling, found.where));
  CONCORD_CHECK(check_partial(config));
  CONCORD_CHECK(check_partial(scaling));
  CONCORD_CHECK(check_scaling_fields(scaling, *type, found.where));
  RopeSpec rope;
  rope.kind = type->kind;
  CONCORD_TRY(rope.theta, rope_theta(config, scaling, found.where));
  CONCORD_TRY(const std::int64_t original, original_positions(config, scaling, found.where));
  if (rope.kind == Kind::kLlama3 || rope.kind == Kind::kYarn) rope.original_max_positions = original;
  if (rope.kind == Kind::kLinear) {
    CONCORD_TRY(rope.factor, scaling.number("factor"));
  }
  if (rope.kind == Kind::kLlama3) CONCORD_CHECK(read_llama3(scaling, rope));
  if (rope.kind == Kind::kYarn) CONCORD_CHECK(read_yarn(scaling, max_positions, rope));
  CONCORD_CHECK(check_rope(rope, config));
  return rope;
}

Result<RopeSpec> rope_from_gguf(const JsonFields& metadata, const std::string& prefix, std::int64_t max_positions) {
  const std::string rope_key = prefix + ".rope.";
  RopeSpec rope;
  CONCORD_TRY(rope.theta, metadata.number_or(rope_key + "freq_base", 10000.0));
  CONCORD_TRY(const std::string type, metadata.string_or(rope_key + "scaling.type", "none"));
  if (type == "linear")
    rope.kind = Kind::kLinear;
  else if (type == "yarn")
    rope.kind = Kind::kYarn;
  else if (type != "none")
    return metadata.error("unsupported",
                          fmt::format("{}scaling.type \"{}\" is not one of none, linear, yarn", rope_key, type));
  const std::string original = rope_key + "scaling.original_context_length";
  if (rope.kind != Kind::kDefault) {
    CONCORD_TRY(rope.factor, metadata.number(rope_key + "scaling.factor"));
  } else if (metadata.has(rope_key + "scale_linear")) {  // written by old converters
    rope.kind = Kind::kLinear;
    CONCORD_TRY(rope.factor, metadata.number(rope_key + "scale_linear"));
  }
  CONCORD_CHECK(check_gguf_extras(metadata, rope_key));
  if (rope.kind == Kind::kYarn) {
    CONCORD_TRY(rope.original_max_positions, metadata.integer_or(original, max_positions, 1, spec_limits::kPositions));
    CONCORD_TRY(rope.beta_fast, metadata.number_or(rope_key + "scaling.yarn_beta_fast", 32.0));
    CONCORD_TRY(rope.beta_slow, metadata.number_or(rope_key + "scaling.yarn_beta_slow", 1.0));
    rope.attention_factor = yarn_attention_factor(rope.factor, 0.0, 0.0);
  }
  CONCORD_CHECK(check_rope(rope, metadata));
  return rope;
}

}  // namespace concord
