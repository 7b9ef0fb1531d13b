#include "model/tokens_parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"

namespace concord {
namespace {

// tokenizer.ggml.token_type (llama.h, llama_token_type).
constexpr std::int64_t kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6, kTypeCount = 7;

// GPT-2's byte alphabet (openai/gpt-2, src/encoder.py, bytes_to_unicode): printable bytes are themselves, the other 68
// become U+0100, U+0101, ...
constexpr unsigned kAlphabetEnd = 0x144;
constexpr std::array<int, kAlphabetEnd> make_alphabet() {
  std::array<int, kAlphabetEnd> byte_of{};
  byte_of.fill(-1);
  unsigned next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable_byte = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    byte_of[printable_byte ? static_cast<unsigned>(b) : next++] = b;
  }
  return byte_of;
}
constexpr std::array<int, kAlphabetEnd> kByteOf = make_alphabet();

Status check_size(const JsonFields& fields, std::int64_t id, const std::string& text) {
  if (text.size() > kMaxTokenBytes)
    return fields.error("too_long",
                        fmt::format("token {} has {} bytes, at most {} are accepted", id, text.size(), kMaxTokenBytes));
  return {};
}

// Sets tokens[id], refusing an id that another text holds already.
Status place(const JsonFields& fields, std::int64_t id, const std::string& text, StoredTokens& out) {
  if (id < 0 || id >= static_cast<std::int64_t>(kMaxTokens))
    return fields.error("out_of_range",
                        fmt::format("token \"{}\" has id {}, ids must be in [0, {})", printable(text), id, kMaxTokens));
  CONCORD_CHECK(check_size(fields, id, text));
  const auto i = static_cast<std::size_t>(id);
  if (i >= out.tokens.size()) out.tokens.resize(i + 1);
  if (!out.tokens[i].text.empty() && out.tokens[i].text != text)
    return fields.error("duplicate_id", fmt::format("id {} is both \"{}\" and \"{}\"", id,
                                                    printable(out.tokens[i].text), printable(text)));
  out.tokens[i].text = text;
  return {};
}

Result<std::int64_t> token_id(const JsonFields& fields, const std::string& text, const Json& value) {
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() ||
                                                  value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  if (!fits)
    return fields.error("wrong_type", fmt::format("the id of token \"{}\" must be an integer, found {}",
                                                  printable(text), value.type_name()));
  return value.get<std::int64_t>();
}

// model.vocab: {"text": id} (BPE) or [["text", score], ...] in id order (Unigram).
Status read_vocab(const JsonFields& model, StoredTokens& out) {
  if (!model.has("vocab")) return model.error("missing_field", "field \"model.vocab\" is missing");
  const Json& vocab = model.raw("vocab");
  if (vocab.is_object()) {
    for (const auto& [text, value] : vocab.items()) {
      CONCORD_TRY(const std::int64_t id, token_id(model, text, value));
      CONCORD_CHECK(place(model, id, text, out));
    }
    return {};
  }
  if (!vocab.is_array()) return model.error("wrong_type", "field \"model.vocab\" must be an object or an array");
  std::int64_t id = 0;
  for (const Json& pair : vocab) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string())
      return model.error("wrong_type", fmt::format("model.vocab[{}] must be [text, score]", id));
    CONCORD_CHECK(place(model, id++, pair[0].get<std::string>(), out));
  }
  return {};
}

Status read_added(const JsonFields& root, StoredTokens& out) {
  if (!root.has("added_tokens")) return {};
  CONCORD_TRY(const std::vector<JsonFields> added, root.objects("added_tokens"));
  for (const JsonFields& token : added) {
    CONCORD_TRY(const std::string text, token.string("content"));
    CONCORD_TRY(const std::int64_t id, token.integer("id"));
    const Json& vocab = root.raw("model")["vocab"];
    if (vocab.is_object() && vocab.contains(text) && vocab[text] != id)
      return token.error("contradiction", fmt::format("token \"{}\" has id {} in added_tokens and {} in model.vocab",
                                                      printable(text), id, vocab[text].dump()));
    CONCORD_CHECK(place(token, id, text, out));
    out.tokens[static_cast<std::size_t>(id)].literal = true;
  }
  return {};
}

// True when `value` is {"type": TYPE} or a sequence that contains one.
bool mentions_type(const Json& value, const std::string& type, int depth = 0) {
  if (depth > 8) return false;
  if (value.is_array())
    return std::ranges::any_of(value, [&](const Json& v) { return mentions_type(v, type, depth + 1); });
  if (!value.is_object()) return false;
  if (value.contains("type") && value["type"] == type) return true;
  return std::ranges::any_of(value,
                             [&](const Json& v) { return v.is_structured() && mentions_type(v, type, depth + 1); });
}

Result<std::string> json_kind(const JsonFields& root, const JsonFields& model) {
  CONCORD_TRY(const bool byte_fallback, model.boolean_or("byte_fallback", false));
  if (byte_fallback) return "llama";
  CONCORD_TRY(const std::string type, model.string_or("type", "BPE"));
  const auto byte_level = [&](const char* part) {
    return root.has(part) && mentions_type(root.raw(part), "ByteLevel");
  };
  if (type == "BPE" && (byte_level("decoder") || byte_level("pre_tokenizer"))) return "gpt2";
  return root.error(
      "unknown_kind",
      fmt::format("tokenizer model \"{}\" is neither byte-level BPE nor a SentencePiece vocabulary with byte fallback",
                  printable(type)));
}

Status read_gguf_types(const JsonFields& m, StoredTokens& out) {
  if (!m.has("tokenizer.ggml.token_type")) {
    for (StoredToken& t : out.tokens) t.byte = out.kind == "llama" && byte_token_value(t.text) >= 0;
    return {};
  }
  CONCORD_TRY(const std::vector<std::int64_t> types, m.integers("tokenizer.ggml.token_type", 0, kTypeCount - 1));
  if (types.size() != out.tokens.size())
    return m.error("type_count", fmt::format("tokenizer.ggml.token_type has {} entries, tokenizer.ggml.tokens has {}",
                                             types.size(), out.tokens.size()));
  for (std::size_t i = 0; i < types.size(); ++i) {
    StoredToken& t = out.tokens[i];
    t.literal = types[i] == kControl || types[i] == kUserDefined || types[i] == kUnknown;
    t.byte = types[i] == kByte && out.kind == "llama";
    if (t.byte && byte_token_value(t.text) < 0)
      return m.error("bad_byte_token", fmt::format("token {} is marked as a byte, but its text is \"{}\", not <0xXX>",
                                                   i, printable(t.text)));
  }
  return {};
}

}  // namespace

int byte_token_value(const std::string& stored) {
  if (stored.size() != 6 || !stored.starts_with("<0x") || stored[5] != '>') return -1;
  const auto bytes = from_hex(std::string_view(stored).substr(3, 2));
  return bytes ? static_cast<int>((*bytes)[0]) : -1;
}

std::string byte_level_text(const std::string& stored) {
  std::string out;
  for (std::size_t i = 0; i < stored.size();) {
    const auto lead = static_cast<unsigned char>(stored[i]);
    const bool two = lead >= 0xc2 && lead <= 0xdf && i + 1 < stored.size() &&
                     (static_cast<unsigned char>(stored[i + 1]) & 0xc0) == 0x80;
    const unsigned code = two ? (lead & 0x1fu) << 6 | (static_cast<unsigned char>(stored[i + 1]) & 0x3fu) : lead;
    const std::size_t length = two ? 2 : 1;
    const int byte = (lead < 0x80 || two) && code < kAlphabetEnd ? kByteOf[code] : -1;
    if (byte >= 0)
      out += static_cast<char>(byte);
    else
      out.append(stored, i, length);
    i += length;
  }
  return out;
}

std::string sentencepiece_text(const std::string& stored) {
  constexpr std::string_view kMark = "\xe2\x96\x81";  // U+2581
  std::string out;
  for (std::size_t i = 0; i < stored.size();) {
    const bool mark = std::string_view(stored).substr(i, 3) == kMark;
    out += mark ? ' ' : stored[i];
    i += mark ? 3 : 1;
  }
  return out;
}

Result<StoredTokens> tokens_from_gguf(const Json& metadata, const std::string& file) {
  CONCORD_TRY(const JsonFields m, JsonFields::from(metadata, file, "tokens"));
  CONCORD_TRY(const std::string model, m.string_or("tokenizer.ggml.model", "none"));
  StoredTokens out{.kind = model, .tokens = {}};
  if (model == "none" || model == "no_vocab") return StoredTokens{.kind = "none", .tokens = {}};
  if (model != "gpt2" && model != "llama")
    return m.error("unknown_kind",
                   fmt::format("tokenizer.ggml.model \"{}\" is not one of gpt2, llama", printable(model)));
  CONCORD_TRY(const std::vector<std::string> texts, m.strings("tokenizer.ggml.tokens"));
  if (texts.empty()) return m.error("empty", "tokenizer.ggml.tokens holds no token");
  if (texts.size() > kMaxTokens)
    return m.error("out_of_range", fmt::format("{} tokens, at most {} are accepted", texts.size(), kMaxTokens));
  out.tokens.resize(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CONCORD_CHECK(check_size(m, static_cast<std::int64_t>(i), texts[i]));
    out.tokens[i].text = texts[i];
  }
  CONCORD_CHECK(read_gguf_types(m, out));
  return out;
}

Result<StoredTokens> tokens_from_json(const Json& json, const std::string& file) {
  CONCORD_TRY(const JsonFields root, JsonFields::from(json, file, "tokens"));
  CONCORD_TRY(const JsonFields model, root.object("model"));
  StoredTokens out;
  CONCORD_TRY(out.kind, json_kind(root, model));
  CONCORD_CHECK(read_vocab(model, out));
  CONCORD_CHECK(read_added(root, out));
  if (out.tokens.empty()) return root.error("empty", "model.vocab holds no token");
  for (StoredToken& t : out.tokens) t.byte = out.kind == "llama" && !t.literal && byte_token_value(t.text) >= 0;
  return out;
}

}  // namespace concord
