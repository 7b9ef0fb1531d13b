#include "model/tokens.hpp"

#include <fmt/format.h>

#include "base/json.hpp"
#include "checkpoint/checkpoint.hpp"
#include "digest/digest.hpp"
#include "model/tokens_parse.hpp"

namespace concord {
namespace {

constexpr std::size_t kTokenizerFileLimit = 64u << 20;

std::string shown(const StoredToken& t, const std::string& kind) {
  if (t.byte) return std::string(1, static_cast<char>(byte_token_value(t.text)));
  if (t.literal) return t.text;
  return kind == "gpt2" ? byte_level_text(t.text) : sentencepiece_text(t.text);
}

// What config.json says about the tokenizer: "bytes" or nothing.
Result<std::string> declared_kind(const std::filesystem::path& folder) {
  const std::string file = (folder / "config.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::string{};
  CONCORD_TRY(const Json config, read_json(file, "config", 16u << 20));
  CONCORD_TRY(const JsonFields fields, JsonFields::from(config, file, "tokens"));
  CONCORD_TRY(const std::string kind, fields.string_or("concord_tokenizer", ""));
  if (!kind.empty() && kind != "bytes")
    return fields.error("unknown_kind",
                        fmt::format("concord_tokenizer is \"{}\"; the only value known is \"bytes\"", kind));
  return kind;
}

}  // namespace

std::string token_fingerprint(std::span<const std::string> stored) {
  Hasher hasher;
  for (const std::string& t : stored) hasher.u32(static_cast<std::uint32_t>(t.size())).update(t);
  return hex(hasher.finish());
}

TokenTable TokenTable::from_stored(const StoredTokens& stored) {
  TokenTable table;
  table.kind_ = stored.kind;
  if (stored.kind == "none") return table;
  std::vector<std::string> raw;
  raw.reserve(stored.tokens.size());
  for (const StoredToken& t : stored.tokens) {
    raw.push_back(t.text);
    table.tokens_.push_back(shown(t, stored.kind));
  }
  table.sha256_ = token_fingerprint(raw);
  return table;
}

TokenTable TokenTable::bytes() {
  TokenTable table;
  table.kind_ = "bytes";
  for (int b = 0; b < 256; ++b) table.tokens_.emplace_back(1, static_cast<char>(b));
  table.sha256_ = token_fingerprint(table.tokens_);
  return table;
}

Result<TokenTable> TokenTable::load(const std::filesystem::path& model, const Checkpoint& checkpoint) {
  if (checkpoint.format().starts_with("gguf")) {
    CONCORD_TRY(const StoredTokens stored, tokens_from_gguf(checkpoint.metadata(), checkpoint.files()[0]));
    return from_stored(stored);
  }
  std::error_code ignored;
  const auto folder = std::filesystem::is_directory(model, ignored) ? model : model.parent_path();
  const std::string file = (folder / "tokenizer.json").string();
  const bool has_file = std::filesystem::exists(file, ignored);
  CONCORD_TRY(const std::string declared, declared_kind(folder));
  if (declared == "bytes" && has_file)
    return bad_input(
        "tokens.contradiction",
        "config.json says \"concord_tokenizer\": \"bytes\", but a tokenizer.json stands beside it; keep one", file);
  if (declared == "bytes") return bytes();
  if (!has_file) return TokenTable{};
  CONCORD_TRY(const Json json, read_json(file, "tokens", kTokenizerFileLimit));
  CONCORD_TRY(const StoredTokens stored, tokens_from_json(json, file));
  return from_stored(stored);
}

std::string TokenTable::text(std::span<const std::int32_t> ids) const {
  std::string out;
  for (const std::int32_t id : ids) {
    const bool known =
        id >= 0 && static_cast<std::size_t>(id) < tokens_.size() && !tokens_[static_cast<std::size_t>(id)].empty();
    if (known)
      out += tokens_[static_cast<std::size_t>(id)];
    else
      out += fmt::format("<{}>", id);
  }
  return out;
}

Result<std::vector<std::int32_t>> TokenTable::encode(const std::string& text) const {
  if (kind_ != "bytes")
    return bad_input("workload.needs_token_ids",
                     fmt::format("text can be turned into ids only for byte-level models; this one's tokenizer is "
                                 "\"{}\". Make the workload file with "
                                 "scripts/make_workload.py",
                                 kind_));
  std::vector<std::int32_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

}  // namespace concord
