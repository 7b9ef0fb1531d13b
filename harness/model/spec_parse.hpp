// Internal to this floor: what the readers of config.json and of GGUF metadata share.
#pragma once
#include <cstdint>
#include <string>

#include "base/json.hpp"
#include "model/spec.hpp"

namespace concord {

// Largest values accepted from a file. Several times what the largest published dense models have, and small enough
// that no product of two of them, nor the number of expected tensors, can overflow or exhaust memory. docs/models.md
// lists them.
namespace spec_limits {
inline constexpr std::int64_t kHidden = 1 << 20, kIntermediate = 1 << 22, kLayers = 4096, kHeads = 1 << 14,
                              kHeadDim = 1 << 14, kVocab = 1 << 24, kPositions = 1 << 30;
}  // namespace spec_limits

// What one architecture has, whatever the file format.
struct Family {
  std::string_view name;          // ModelSpec::architecture, model_type, general.architecture
  std::string_view architecture;  // config.json's architectures[0]
  bool qkv_bias;                  // always has biases on q, k and v
  bool attention_bias;            // config.json's attention_bias switches the biases of q, k, v and o
  bool mlp_bias;                  // config.json's mlp_bias switches the biases of gate, up and down
  bool qk_norm;                   // RMSNorm over each head of q and k
  bool explicit_head_dim;         // head size is not hidden / heads, so it must be given
  bool sliding_window;            // may have layers with a sliding window
};
const Family* find_family(std::string_view name);  // nullptr when unknown
// config.unknown_architecture: names what was found and what is known.
std::unexpected<Error> unknown_architecture(const JsonFields& fields, const std::string& field,
                                            const std::string& found);

// What must hold between the fields whatever the format: kv_heads divides heads, even head_dim, widths within limits
// (config.contradiction, config.out_of_range).
Status check_consistency(const ModelSpec& spec, const JsonFields& fields);

// The rope_scaling / rope_parameters / rope_theta fields of config.json.
Result<RopeSpec> rope_from_hf_config(const JsonFields& config, std::int64_t max_positions);
// <prefix>.rope.* of GGUF metadata (`prefix` is the architecture's name).
Result<RopeSpec> rope_from_gguf(const JsonFields& metadata, const std::string& prefix, std::int64_t max_positions);

// Transformers' rule for YaRN: get_mscale(factor, mscale) / get_mscale(factor, mscale_all_dim) when both are non-zero,
// else get_mscale(factor, 1), where get_mscale(s, m) = 1 for s <= 1, else 0.1 m ln(s) + 1.
double yarn_attention_factor(double factor, double mscale, double mscale_all_dim);
// Ranges of the numbers, whatever the format (config.out_of_range, config.contradiction).
Status check_rope(const RopeSpec& rope, const JsonFields& fields);

}  // namespace concord
