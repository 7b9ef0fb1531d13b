// A specification from GGUF metadata, with the tensor list for what the metadata leaves out. Keys: ggml's docs/gguf.md
// and llama.cpp's src/llama-arch.cpp. Numbers that GGUF stores as float32 are taken at exactly their float32 value.
#include <fmt/format.h>

#include <cmath>

#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"
#include "model/spec_parse.hpp"

namespace concord {
namespace {

using namespace spec_limits;

Status read_sizes(const JsonFields& m, const std::string& arch, ModelSpec& s) {
  CONCORD_TRY(s.hidden, m.integer(arch + ".embedding_length", 1, kHidden));
  CONCORD_TRY(s.intermediate, m.integer(arch + ".feed_forward_length", 1, kIntermediate));
  CONCORD_TRY(s.layers, m.integer(arch + ".block_count", 1, kLayers));
  CONCORD_TRY(s.heads, m.integer(arch + ".attention.head_count", 1, kHeads));
  CONCORD_TRY(s.kv_heads, m.integer_or(arch + ".attention.head_count_kv", s.heads, 1, kHeads));
  CONCORD_TRY(s.max_positions, m.integer(arch + ".context_length", 1, kPositions));
  CONCORD_TRY(s.rms_norm_eps, m.number(arch + ".attention.layer_norm_rms_epsilon"));
  if (!(s.rms_norm_eps > 0.0 && s.rms_norm_eps < 1.0))
    return m.error(
        "out_of_range",
        fmt::format("field \"{}.attention.layer_norm_rms_epsilon\" must be in (0, 1), found {}", arch, s.rms_norm_eps));
  return {};
}

Status read_head_dim(const JsonFields& m, const std::string& arch, ModelSpec& s) {
  const std::string key = arch + ".attention.key_length", value = arch + ".attention.value_length",
                    rotary = arch + ".rope.dimension_count";
  if (!m.has(key) && s.hidden % s.heads != 0)
    return m.error("contradiction",
                   fmt::format("embedding_length {} is not a multiple of head_count {}, and {} is not given", s.hidden,
                               s.heads, key));
  CONCORD_TRY(s.head_dim, m.integer_or(key, s.hidden / s.heads, 1, kHeadDim));
  for (const std::string& other : {value, rotary}) {
    CONCORD_TRY(const std::int64_t found, m.integer_or(other, s.head_dim, 1, kHeadDim));
    if (found != s.head_dim)
      return m.error("unsupported", fmt::format("{} is {}, the head size is {}; only equal sizes are supported", other,
                                                found, s.head_dim));
  }
  return {};
}

// Metadata that turns the architecture into another one.
Status check_supported(const JsonFields& m, const std::string& arch) {
  constexpr const char* kMustBeAbsentOrZero[] = {
      ".expert_count", ".attention.sliding_window", ".embedding_scale",        ".residual_scale",
      ".logit_scale",  ".attention.scale",          ".attn_logit_softcapping", ".final_logit_softcapping"};
  for (const char* suffix : kMustBeAbsentOrZero) {
    CONCORD_TRY(const double found, m.number_or(arch + suffix, 0.0));
    if (found != 0.0)
      return m.error("unsupported", fmt::format("{}{} is {}; models with it are not supported", arch, suffix, found));
  }
  CONCORD_TRY(const bool causal, m.boolean_or(arch + ".attention.causal", true));
  if (!causal) return m.error("unsupported", arch + ".attention.causal is false; only causal attention is supported");
  return {};
}

Status read_vocabulary(const Checkpoint& checkpoint, const JsonFields& m, const std::string& arch, ModelSpec& s) {
  const TensorInfo* embedding = checkpoint.find("token_embd.weight");
  if (embedding == nullptr)
    return bad_input("checkpoint.missing_tensor",
                     "tensor \"token_embd.weight\" is missing; the vocabulary's size is taken from it", m.file());
  if (embedding->shape.size() != 2 || embedding->shape[0] < 1 || embedding->shape[0] > kVocab)
    return bad_input(
        "checkpoint.shape_mismatch",
        fmt::format("tensor \"token_embd.weight\" has shape {}, expected [vocabulary, {}] with at most {} rows",
                    shape_string(embedding->shape), s.hidden, kVocab),
        m.file(), embedding->offset);
  s.vocab = embedding->shape[0];
  s.stored_dtype = embedding->type;
  CONCORD_TRY(const std::int64_t declared, m.integer_or(arch + ".vocab_size", s.vocab, 1, kVocab));
  if (declared != s.vocab)
    return m.error("contradiction",
                   fmt::format("{}.vocab_size is {}, but token_embd.weight has {} rows", arch, declared, s.vocab));
  return {};
}

// Llama 3's frequency scaling, which llama.cpp stores as one divisor per frequency.
Status read_rope_divisors(const Checkpoint& checkpoint, const JsonFields& m, ModelSpec& s) {
  const TensorInfo* tensor = checkpoint.find("rope_freqs.weight");
  if (tensor == nullptr) return {};
  if (tensor->type != "F32" || tensor->shape != Shape{s.head_dim / 2})
    return bad_input("checkpoint.shape_mismatch",
                     fmt::format("tensor \"rope_freqs.weight\" is {} {}, expected F32 [{}]", tensor->type,
                                 shape_string(tensor->shape), s.head_dim / 2),
                     m.file(), tensor->offset);
  std::vector<float> values(static_cast<std::size_t>(s.head_dim / 2));
  CONCORD_CHECK(checkpoint.read_f32(*tensor, 0, values.size(), values.data()));
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!(values[i] >= 1e-6f && values[i] <= 1e6f))
      return m.error("out_of_range",
                     fmt::format("rope_freqs.weight[{}] must be in [1e-6, 1e6], found {}", i, values[i]));
  s.rope.divisors.assign(values.begin(), values.end());
  return {};
}

}  // namespace

Result<ModelSpec> spec_from_gguf(const Checkpoint& checkpoint) {
  const std::string file = checkpoint.files().empty() ? std::string{} : checkpoint.files()[0];
  CONCORD_TRY(const JsonFields m, JsonFields::from(checkpoint.metadata(), file, "config"));
  CONCORD_TRY(const std::string arch, m.string("general.architecture"));
  const Family* family = find_family(arch);
  if (family == nullptr) return unknown_architecture(m, "general.architecture", arch);
  ModelSpec spec;
  spec.architecture = family->name;
  CONCORD_CHECK(read_sizes(m, arch, spec));
  CONCORD_CHECK(read_head_dim(m, arch, spec));
  CONCORD_CHECK(check_supported(m, arch));
  CONCORD_CHECK(read_vocabulary(checkpoint, m, arch, spec));
  const auto stored = [&](const char* name) { return checkpoint.find(name) != nullptr; };
  spec.tied_embeddings = !stored("output.weight");
  spec.qkv_bias = family->qkv_bias || stored("blk.0.attn_q.bias");
  spec.o_bias = stored("blk.0.attn_output.bias");
  spec.mlp_bias = stored("blk.0.ffn_gate.bias");
  spec.qk_norm = family->qk_norm;
  CONCORD_CHECK(check_consistency(spec, m));
  CONCORD_TRY(spec.rope, rope_from_gguf(m, arch, spec.max_positions));
  CONCORD_CHECK(read_rope_divisors(checkpoint, m, spec));
  return spec;
}

}  // namespace concord
