// Internal to this floor: token tables from bytes, so that tests and fuzz targets need no files.
#pragma once
#include <string>
#include <vector>

#include "base/json.hpp"
#include "model/tokens.hpp"

namespace concord {

inline constexpr std::size_t kMaxTokens = 1u << 22;      // ids accepted from a file
inline constexpr std::size_t kMaxTokenBytes = 1u << 16;  // of one token

// One token as its file has it.
struct StoredToken {
  std::string text;      // stored bytes; empty: no token has this id
  bool literal = false;  // a control or added token, whose text is not encoded
  bool byte = false;     // SentencePiece: "<0xXX>" stands for one byte
};
struct StoredTokens {
  std::string kind;  // "gpt2", "llama"
  std::vector<StoredToken> tokens;
};
// tokenizer.ggml.* of GGUF metadata; kind "none" where the file has no tokenizer. Error codes: docs/formats.md.
Result<StoredTokens> tokens_from_gguf(const Json& metadata, const std::string& file);
// tokenizer.json of Hugging Face `tokenizers`.
Result<StoredTokens> tokens_from_json(const Json& json, const std::string& file);

// The bytes a token stands for, its encoding undone.
std::string byte_level_text(
    const std::string& stored);  // GPT-2's printable alphabet; characters outside it stay as they are
std::string sentencepiece_text(const std::string& stored);  // U+2581 is a space
// The byte of "<0xXX>" (two hexadecimal digits); -1 for any other text.
int byte_token_value(const std::string& stored);

}  // namespace concord
