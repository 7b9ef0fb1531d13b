// The token table: ids to text, and a fingerprint that tells one vocabulary from another. Does not tokenise text (scripts/make_workload.py does),
// except for byte-level models, where a byte is a token.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord {

class Checkpoint;
struct StoredTokens;  // model/tokens_parse.hpp

class TokenTable {
 public:
  // From a GGUF's tokenizer.ggml.tokens, a folder's tokenizer.json, or config.json's "concord_tokenizer": "bytes".
  // A model without any of them gives a table of kind "none" that shows ids as <123>.
  // Errors tokens.*: docs/formats.md.
  static Result<TokenTable> load(const std::filesystem::path& model, const Checkpoint& checkpoint);
  static TokenTable bytes();
  static TokenTable from_stored(const StoredTokens& stored);

  const std::string& kind() const { return kind_; }  // "bytes", "gpt2", "llama", "none"
  std::size_t size() const { return tokens_.size(); }
  // The bytes that a sequence of ids stands for; unknown ids appear as <123>. May be invalid UTF-8 in the middle of a character.
  std::string text(std::span<const std::int32_t> ids) const;
  // SHA-256 (hex) over all tokens in id order, each as u32 little-endian length + its stored UTF-8 bytes; what workload files carry.
  const std::string& sha256() const { return sha256_; }
  // Byte-level tables only: one id per byte. Error workload.needs_token_ids otherwise.
  Result<std::vector<std::int32_t>> encode(const std::string& text) const;

 private:
  std::string kind_ = "none", sha256_;
  std::vector<std::string> tokens_;
};

// The fingerprint of stored tokens in id order (an id without a token is an empty string).
std::string token_fingerprint(std::span<const std::string> stored);

}  // namespace concord
