// What a decoder-only transformer is made of, read from config.json or GGUF metadata. Knows no device and holds no weights.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"

namespace concord {

class Checkpoint;

// Rotary position embedding with its scaling rule, formulas as in Hugging Face Transformers' modeling_rope_utils.py.
struct RopeSpec {
  enum class Kind { kDefault, kLinear, kLlama3, kYarn };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;   // llama3
  std::int64_t original_max_positions = 0;                // llama3, yarn [positions]
  double beta_fast = 32.0, beta_slow = 1.0;               // yarn
  bool truncate = true;                                   // yarn
  double attention_factor = 1.0;                          // multiplies cos and sin; resolved by the parser (yarn), else 1
  std::vector<double> divisors;                           // GGUF's rope_freqs.weight: dim/2 values that divide the frequencies; empty: none

  // The dim/2 inverse frequencies in float64, scaling applied. dim is the head size.
  std::vector<double> inverse_frequencies(std::int64_t dim) const;
};

struct ModelSpec {
  std::string architecture;      // "llama", "qwen2", "qwen3"
  std::int64_t hidden = 0, intermediate = 0, layers = 0;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t vocab = 0, max_positions = 0;
  double rms_norm_eps = 1e-6;
  bool tied_embeddings = false;  // lm_head is the embedding matrix
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;          // qwen3: RMSNorm over head_dim on q and k before the rotary embedding
  RopeSpec rope;
  std::string stored_dtype;      // what the configuration declares ("bfloat16"), informative

  std::int64_t parameters() const;  // number of weights, tied embeddings counted once
};

// config.json of Hugging Face. Refuses by name: config.unknown_architecture, config.contradiction (kv heads that do not divide heads, odd head size,
// tie and untied, ...), config.unsupported (hidden_act other than silu, sliding window in use, rope types other than the four, quantization_config),
// and JsonFields' config.missing_field, config.wrong_type, config.out_of_range.
Result<ModelSpec> spec_from_hf_config(const Json& config, const std::string& file);
// The metadata of a GGUF file (general.architecture llama, qwen2, qwen3). Same error codes. Needs the tensor list for what metadata leaves out (tied
// embeddings: no output.weight; biases; q/k norms; vocabulary from token_embd's shape).
Result<ModelSpec> spec_from_gguf(const Checkpoint& checkpoint);
// The model in a folder (config.json) or a GGUF file, with its tensors' presence and shapes checked against the specification
// (checkpoint.missing_tensor, checkpoint.shape_mismatch, config.layer_count when more or fewer layers are stored than configured,
// config.unexpected_tensor when a stored tensor has no place in the architecture, config.contradiction when tied embeddings are stored twice and
// differ, config.missing_file).
Result<ModelSpec> spec_from_path(const std::filesystem::path& path, const Checkpoint& checkpoint);

// One tensor that a specification asks for, by Hugging Face name.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  bool matrix = false;  // a linear layer or embedding (quantisable); else a norm or bias vector
};
std::vector<ExpectedTensor> expected_tensors(const ModelSpec& spec);

}  // namespace concord
