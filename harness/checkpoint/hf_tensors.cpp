// Hugging Face names over any checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"

namespace concord {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

// Names outside the layers, whole. From gguf-py's tensor_mapping.py for llama, qwen2 and qwen3.
constexpr std::array<NamePair, 4> kTopNames{{
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"model.rope_freqs", "rope_freqs"},
}};
// model.layers.N.LEFT -> blk.N.RIGHT
constexpr std::array<NamePair, 11> kLayerNames{{
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
}};

template <std::size_t N>
std::string_view lookup(const std::array<NamePair, N>& table, std::string_view name) {
  const auto it = std::ranges::find(table, name, &NamePair::first);
  return it == table.end() ? std::string_view{} : it->second;
}

// Which rows of a q_proj or k_proj llama.cpp's converter has moved: empty for any other name.
enum class Rows { kAsStored, kQuery, kKey };
Rows rows_of(const std::string& hf_name) {
  if (hf_name.find(".self_attn.q_proj.") != std::string::npos) return Rows::kQuery;
  if (hf_name.find(".self_attn.k_proj.") != std::string::npos) return Rows::kKey;
  return Rows::kAsStored;
}

// The converter stores each head's rows as [d/2, 2] (rotary pairs side by side); Hugging Face has [2, d/2] (halves).
// convert_hf_to_gguf.py, LlamaModel.permute, inverted: row h*d + s*d/2 + j comes from row h*d + 2*j + s.
std::int64_t stored_row(std::int64_t row, std::int64_t rows, std::int64_t heads) {
  const std::int64_t d = rows / heads, in_head = row % d, half = in_head / (d / 2), j = in_head % (d / 2);
  return row - in_head + 2 * j + half;
}

}  // namespace

std::string gguf_name(const std::string& hf_name) {
  const auto dot = hf_name.rfind('.');
  if (dot == std::string::npos) return {};
  const std::string_view stem = std::string_view(hf_name).substr(0, dot),
                         suffix = std::string_view(hf_name).substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return {};
  if (const auto top = lookup(kTopNames, stem); !top.empty()) return std::string(top) + std::string(suffix);
  constexpr std::string_view kPrefix = "model.layers.";
  if (!stem.starts_with(kPrefix)) return {};
  const std::string_view rest = stem.substr(kPrefix.size());
  const auto number_end = rest.find('.');
  const std::string_view number = rest.substr(0, number_end);
  const bool digits = !number.empty() && number.size() <= 9 &&
                      number.find_first_not_of("0123456789") == std::string_view::npos &&
                      (number.size() == 1 || number[0] != '0');
  if (number_end == std::string_view::npos || !digits) return {};
  const auto layer = lookup(kLayerNames, rest.substr(number_end + 1));
  return layer.empty() ? std::string{} : fmt::format("blk.{}.{}{}", number, layer, suffix);
}

HfTensors::HfTensors(const Checkpoint& checkpoint, std::int64_t heads, std::int64_t kv_heads)
    : checkpoint_(checkpoint), heads_(heads), kv_heads_(kv_heads), gguf_(checkpoint.format().starts_with("gguf")) {
  const Json& metadata = checkpoint.metadata();
  const auto architecture = metadata.find("general.architecture");
  permuted_ = gguf_ && architecture != metadata.end() && architecture->is_string() &&
              architecture->get_ref<const std::string&>() == "llama";
}

const TensorInfo* HfTensors::info(const std::string& hf_name) const {
  return checkpoint_.find(gguf_ ? gguf_name(hf_name) : hf_name);
}

bool HfTensors::has(const std::string& hf_name) const { return info(hf_name) != nullptr; }

Result<const TensorInfo*> HfTensors::find(const std::string& hf_name, const Shape& expected) const {
  const TensorInfo* tensor = info(hf_name);
  const std::string stored_name = gguf_ ? gguf_name(hf_name) : hf_name;
  if (tensor == nullptr)
    return bad_input("checkpoint.missing_tensor",
                     fmt::format("the model needs tensor \"{}\"{}, the checkpoint has none", printable(hf_name),
                                 gguf_ ? fmt::format(" (in GGUF: \"{}\")", stored_name) : ""),
                     checkpoint_.files()[0]);
  if (tensor->shape != expected)
    return bad_input("checkpoint.shape_mismatch",
                     fmt::format("tensor \"{}\" has shape {}, the model needs {}", printable(tensor->name),
                                 shape_string(tensor->shape), shape_string(expected)),
                     checkpoint_.files()[tensor->file], tensor->offset);
  CONCORD_CHECK(checkpoint_.unchanged());
  return tensor;
}

Result<std::int64_t> HfTensors::permuted_heads(const std::string& hf_name, const TensorInfo& tensor) const {
  const Rows rows = permuted_ ? rows_of(hf_name) : Rows::kAsStored;
  if (rows == Rows::kAsStored || tensor.elements == 0) return 0;
  const std::int64_t heads = rows == Rows::kQuery ? heads_ : kv_heads_;
  if (heads <= 0 || tensor.shape[0] % (2 * heads) != 0)
    return bad_input("checkpoint.bad_heads",
                     fmt::format("the {} rows of tensor \"{}\" are not {} heads of an even size", tensor.shape[0],
                                 printable(tensor.name), heads),
                     checkpoint_.files()[tensor.file], tensor.offset);
  return heads;
}

Result<std::vector<float>> HfTensors::read(const std::string& hf_name, const Shape& expected) const {
  CONCORD_TRY(const TensorInfo* tensor, find(hf_name, expected));
  std::vector<float> stored(tensor->elements);
  CONCORD_CHECK(checkpoint_.read_f32(*tensor, 0, tensor->elements, stored.data()));
  CONCORD_TRY(const std::int64_t heads, permuted_heads(hf_name, *tensor));
  if (heads == 0) return stored;
  std::vector<float> out(stored.size());
  const std::int64_t rows = expected[0], width = static_cast<std::int64_t>(stored.size()) / rows;
  for (std::int64_t row = 0; row < rows; ++row)
    std::copy_n(stored.begin() + stored_row(row, rows, heads) * width, width, out.begin() + row * width);
  return out;
}

Result<HfMatrix> HfTensors::matrix(const std::string& hf_name, const Shape& expected) const {
  HfMatrix out;
  out.checkpoint_ = &checkpoint_;
  CONCORD_TRY(out.info_, find(hf_name, expected));
  if (expected.size() != 2)
    return fail(ErrorKind::kInternal, "checkpoint.bad_range", fmt::format("{} is no matrix", printable(hf_name)));
  CONCORD_TRY(out.heads_, permuted_heads(hf_name, *out.info_));
  return out;
}

Status HfMatrix::read_rows(std::int64_t begin, std::int64_t end, float* out) const {
  const std::int64_t rows = info_->shape[0], width = info_->shape[1];
  const auto read = [&](std::int64_t row, std::int64_t count, float* to) {
    return checkpoint_->read_f32(*info_, static_cast<std::uint64_t>(row * width),
                                 static_cast<std::uint64_t>(count * width), to);
  };
  if (heads_ == 0) return read(begin, end - begin, out);
  for (std::int64_t row = begin; row < end; ++row)
    CONCORD_CHECK(read(stored_row(row, rows, heads_), 1, out + (row - begin) * width));
  return {};
}

std::span<const std::byte> HfMatrix::stored_in_order() const {
  return heads_ == 0 ? checkpoint_->raw(*info_) : std::span<const std::byte>{};
}

}  // namespace concord
