#include "digest/digest.hpp"
#include "model/testing.hpp"
#include "model/tokens_parse.hpp"

namespace concord {
namespace {

using testing_model::expect_error;
using testing_model::FakeCheckpoint;
using testing_model::TemporaryFolder;

Result<TokenTable> from_json(const Json& json) {
  CONCORD_TRY(const StoredTokens stored, tokens_from_json(json, "tokenizer.json"));
  return TokenTable::from_stored(stored);
}
Result<TokenTable> from_gguf(const Json& metadata) {
  CONCORD_TRY(const StoredTokens stored, tokens_from_gguf(metadata, "m.gguf"));
  return TokenTable::from_stored(stored);
}
Json byte_level(Json vocab, Json added = Json::array()) {
  return {{"model", {{"type", "BPE"}, {"vocab", std::move(vocab)}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"added_tokens", std::move(added)}};
}
Json added(const char* text, Json id) { return {{"content", text}, {"id", std::move(id)}}; }

TEST(Tokens, ByteTableIsTheOneOfTheWorkloadScript) {
  const TokenTable t = TokenTable::bytes();
  EXPECT_EQ(t.kind(), "bytes");
  EXPECT_EQ(t.size(), 256u);
  EXPECT_EQ(
      t.sha256(),
      "0864c10eb9f122e7b9dfef5a287f4fb7c610b310847c0c41656e0656a9b0b03e");  // in suites/workloads/byte-prompts.json
  const std::string text("h\0\xff", 3);
  const auto ids = t.encode(text).value();
  EXPECT_EQ(ids, (std::vector<std::int32_t>{104, 0, 255}));
  EXPECT_EQ(t.text(ids), text);
}

TEST(Tokens, FingerprintFramesEveryToken) {
  // 01 00 00 00 'a' 00 00 00 00 02 00 00 00 'b' 'c'
  const std::string framed("\x01\0\0\0a\0\0\0\0\x02\0\0\0bc", 15);
  EXPECT_EQ(token_fingerprint(std::vector<std::string>{"a", "", "bc"}), sha256_hex(framed));
  EXPECT_NE(token_fingerprint(std::vector<std::string>{"ab", "c"}),
            token_fingerprint(std::vector<std::string>{"a", "bc"}));
  const TokenTable t = from_json(byte_level({{"a", 0}, {"bc", 2}})).value();  // id 1 has no token
  EXPECT_EQ(t.sha256(), sha256_hex(framed));
  EXPECT_EQ(t.text(std::vector<std::int32_t>{0, 1, 2, 3, -1}), "a<1>bc<3><-1>");
}

TEST(Tokens, ByteLevelTextIsUndone) {
  EXPECT_EQ(byte_level_text("\u0120the"), " the");
  EXPECT_EQ(byte_level_text("\u010a"), "\n");
  EXPECT_EQ(byte_level_text("\u0100"), std::string(1, '\0'));
  EXPECT_EQ(byte_level_text("\u00c3\u00a9"), "\xc3\xa9");      // the two bytes of é
  EXPECT_EQ(byte_level_text("\u0143"), "\xad");                // the last one of the alphabet
  EXPECT_EQ(byte_level_text("\u2581x \xff"), "\u2581x \xff");  // outside it: as it is
}

TEST(Tokens, EveryByteHasOneLetterInTheAlphabet) {
  std::string all;
  for (unsigned code = 0; code < 0x144; ++code) {
    std::string letter;
    if (code < 0x80)
      letter += static_cast<char>(code);
    else
      letter = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    const std::string byte = byte_level_text(letter);
    if (byte.size() == 1 && (code > 0x20 && code != 0x7f)) all += byte;
  }
  EXPECT_EQ(all.size(), 256u);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
}

TEST(Tokens, SentencePieceTextIsUndone) {
  EXPECT_EQ(sentencepiece_text("\u2581a\u2581"), " a ");
  EXPECT_EQ(byte_token_value("<0x0A>"), 10);
  for (const char* text : {"<0x-1>", "<0x1>", "<0x123>", "<0xZZ>", "0x0A", "<0X0A>", "<0x0A", ""})
    EXPECT_EQ(byte_token_value(text), -1) << text;
}

TEST(Tokens, AddedTokensAreLiteral) {
  const TokenTable t = from_json(byte_level({{"\u0120a", 0}}, {added("\u0120x", 1), added("\u0120a", 0)})).value();
  EXPECT_EQ(t.kind(), "gpt2");
  EXPECT_EQ(t.text(std::vector<std::int32_t>{1}), "\u0120x");
}

TEST(Tokens, ByteFallbackVocabularies) {
  const Json bpe = Json::parse(
      R"({"model": {"type": "BPE", "byte_fallback": true, "vocab": {"<unk>": 0, "<0xC3>": 1, "\u2581hi": 2}},
    "added_tokens": [{"content": "<unk>", "id": 0}]})");
  const Json unigram = Json::parse(
      R"({"model": {"type": "Unigram", "byte_fallback": true, "vocab": [["<unk>", 0], ["<0xC3>", -1], ["\u2581hi", -2.5]]},
    "added_tokens": [{"content": "<unk>", "id": 0}]})");
  for (const Json& json : {bpe, unigram}) {
    const TokenTable t = from_json(json).value();
    EXPECT_EQ(t.kind(), "llama");
    EXPECT_EQ(t.text(std::vector<std::int32_t>{0, 1, 2}), "<unk>\xc3 hi");
  }
  EXPECT_EQ(from_json(bpe)->sha256(), from_json(unigram)->sha256());
}

TEST(Tokens, GgufKinds) {
  const TokenTable gpt2 = from_gguf({{"tokenizer.ggml.model", "gpt2"},
                                     {"tokenizer.ggml.tokens", {"\u0120a", "<|x|>", "\u0120b"}},
                                     {"tokenizer.ggml.token_type", {1, 3, 4}}})
                              .value();
  EXPECT_EQ(gpt2.text(std::vector<std::int32_t>{0, 1, 2}), " a<|x|>\u0120b");
  const Json llama = {{"tokenizer.ggml.model", "llama"}, {"tokenizer.ggml.tokens", {"<unk>", "<0x41>", "\u2581b"}}};
  EXPECT_EQ(from_gguf(llama)->text(std::vector<std::int32_t>{0, 1, 2}), "<unk>A b");  // byte tokens by their form
  Json typed = llama;
  typed["tokenizer.ggml.token_type"] = {2, 6, 1};
  EXPECT_EQ(from_gguf(typed)->text(std::vector<std::int32_t>{0, 1, 2}), "<unk>A b");
  typed["tokenizer.ggml.token_type"] = {2, 1, 1};
  EXPECT_EQ(from_gguf(typed)->text(std::vector<std::int32_t>{1}), "<0x41>");
  for (const Json& none : {Json::object(), Json{{"tokenizer.ggml.model", "no_vocab"}}}) {
    EXPECT_EQ(from_gguf(none)->kind(), "none");
    EXPECT_EQ(from_gguf(none)->sha256(), "");
    EXPECT_EQ(from_gguf(none)->text(std::vector<std::int32_t>{7}), "<7>");
  }
}

TEST(Tokens, GgufTokensAreBytesAndNeedNotBeUtf8) {
  const TokenTable t = from_gguf({{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.tokens", {"\xff\xfe"}}}).value();
  EXPECT_EQ(t.text(std::vector<std::int32_t>{0}), "\xff\xfe");
}

TEST(Tokens, OnlyByteLevelTablesEncode) {
  expect_error(from_json(byte_level({{"a", 0}}))->encode("a"), "workload.needs_token_ids", "make_workload.py");
}

struct Refusal {
  const char* json;
  const char* code;
  const char* fragment;
};
constexpr Refusal kJsonRefusals[] = {
    {R"([])", "tokens.wrong_type", "object"},
    {R"({})", "tokens.missing_field", "model"},
    {R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})", "tokens.unknown_kind", "WordPiece"},
    {R"({"model": {"type": "BPE", "vocab": {"a": 0}}})", "tokens.unknown_kind", "BPE"},
    {R"({"model": {"byte_fallback": true}})", "tokens.missing_field", "model.vocab"},
    {R"({"model": {"byte_fallback": true, "vocab": "abc"}})", "tokens.wrong_type", "model.vocab"},
    {R"({"model": {"byte_fallback": true, "vocab": {}}})", "tokens.empty", "no token"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0, "b": 0}}})", "tokens.duplicate_id", "id 0"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": -1}}})", "tokens.out_of_range", "-1"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 4194304}}})", "tokens.out_of_range", "4194304"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 18446744073709551615}}})", "tokens.wrong_type", "integer"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 1.0}}})", "tokens.wrong_type", "integer"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": "0"}}})", "tokens.wrong_type", "integer"},
    {R"({"model": {"byte_fallback": true, "vocab": [["a"]]}})", "tokens.wrong_type", "[text, score]"},
    {R"({"model": {"byte_fallback": true, "vocab": [[7, 0.5]]}})", "tokens.wrong_type", "[text, score]"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0}}, "added_tokens": {}})", "tokens.wrong_type",
     "added_tokens"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0}}, "added_tokens": [{"content": "b"}]})",
     "tokens.missing_field", "id"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0}}, "added_tokens": [{"content": 1, "id": 1}]})",
     "tokens.wrong_type", "content"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0}}, "added_tokens": [{"content": "b", "id": 0}]})",
     "tokens.duplicate_id", "id 0"},
    {R"({"model": {"byte_fallback": true, "vocab": {"a": 0}}, "added_tokens": [{"content": "a", "id": 5}]})",
     "tokens.contradiction", "5"},
};
constexpr Refusal kGgufRefusals[] = {
    {R"({"tokenizer.ggml.model": "bert"})", "tokens.unknown_kind", "bert"},
    {R"({"tokenizer.ggml.model": 4})", "tokens.wrong_type", "tokenizer.ggml.model"},
    {R"({"tokenizer.ggml.model": "gpt2"})", "tokens.missing_field", "tokenizer.ggml.tokens"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": []})", "tokens.empty", "no token"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [1]})", "tokens.wrong_type", "strings"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": "a"})", "tokens.wrong_type", "strings"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1, 1]})",
     "tokens.type_count", "2 entries"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1.5]})",
     "tokens.wrong_type", "integers"},
    {R"({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [9]})",
     "tokens.out_of_range", "9"},
    {R"({"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<0x-1>"], "tokenizer.ggml.token_type": [6]})",
     "tokens.bad_byte_token", "<0x-1>"},
};

TEST(Tokens, HostileTablesAreRefusedByName) {
  for (const Refusal& r : kJsonRefusals) {
    SCOPED_TRACE(r.json);
    expect_error(from_json(Json::parse(r.json)), r.code, r.fragment);
  }
  for (const Refusal& r : kGgufRefusals) {
    SCOPED_TRACE(r.json);
    expect_error(from_gguf(Json::parse(r.json)), r.code, r.fragment);
  }
  const std::string huge((1u << 16) + 1, 'a');
  expect_error(from_json(byte_level({{huge, 0}})), "tokens.too_long", "65537");
  expect_error(from_gguf({{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.tokens", {huge}}}), "tokens.too_long",
               "65537");
}

TEST(Tokens, LoadLooksWhereTheModelIs) {
  const TemporaryFolder folder;
  const FakeCheckpoint safetensors;
  EXPECT_EQ(TokenTable::load(folder.path(), safetensors)->kind(), "none");
  folder.write("config.json", R"({"concord_tokenizer": "bytes"})");
  EXPECT_EQ(TokenTable::load(folder.path(), safetensors)->kind(), "bytes");
  EXPECT_EQ(TokenTable::load(folder.path() / "model.safetensors", safetensors)->kind(), "bytes");
  folder.write("tokenizer.json", byte_level({{"a", 0}}).dump());
  expect_error(TokenTable::load(folder.path(), safetensors), "tokens.contradiction", "keep one");
  folder.write("config.json", "{}");
  EXPECT_EQ(TokenTable::load(folder.path(), safetensors)->kind(), "gpt2");
  folder.write("config.json", R"({"concord_tokenizer": "words"})");
  expect_error(TokenTable::load(folder.path(), safetensors), "tokens.unknown_kind", "words");
  folder.write("config.json", "{}");
  folder.write("tokenizer.json", "{");
  expect_error(TokenTable::load(folder.path(), safetensors), "tokens.syntax");
  FakeCheckpoint gguf("gguf v3");
  gguf.meta() = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.tokens", {"a"}}};
  EXPECT_EQ(TokenTable::load("x.gguf", gguf)->size(), 1u);
}

}  // namespace
}  // namespace concord
