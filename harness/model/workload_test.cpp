#include "model/workload.hpp"

#include "digest/digest.hpp"
#include "model/testing.hpp"
#include "model/tokens_parse.hpp"

namespace concord {
namespace {

using testing_model::expect_error;

const char* const kBase =
    R"({"schema": "concord.workload/1", "name": "n", "model": {"name": "m", "vocab_size": 100, "tokenizer": {"kind": "gpt2"}},
  "sampler": {"kind": "greedy"}, "prompts": [{"id": "a", "text": "hi", "token_ids": [1, 2, 3], "new_tokens": 4}]})";

Result<std::vector<Workload>> parse(const Json& json) { return parse_workloads(json.dump(), "w.json"); }
Json with(const Json& changes) {
  Json out = Json::parse(kBase);
  out.merge_patch(changes);
  return out;
}
// The base file with its one prompt changed.
Json with_prompt(const Json& changes) {
  Json out = Json::parse(kBase);
  out["prompts"][0].merge_patch(changes);
  return out;
}
Workload one(const Json& json = Json::parse(kBase)) { return parse(json).value().at(0); }
ModelSpec model(std::int64_t vocab = 100, std::int64_t positions = 64) {
  ModelSpec s;
  s.vocab = vocab;
  s.max_positions = positions;
  return s;
}
TokenTable table(const char* token = "a") {
  return TokenTable::from_stored({.kind = "gpt2", .tokens = {StoredToken{.text = token}}});
}

TEST(Workload, ReadsEveryField) {
  const Workload w = one(with({{"model", {{"tokenizer", {{"sha256", std::string(64, 'a')}}}}}}));
  EXPECT_EQ(w.file, "w.json");
  EXPECT_EQ(w.id, "a");
  EXPECT_EQ(w.text, "hi");
  EXPECT_EQ(w.tokens, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(w.new_tokens, 4);
  EXPECT_EQ(w.vocab, 100);
  EXPECT_EQ(w.tokenizer_sha256, std::string(64, 'a'));
  EXPECT_EQ(w.sampler.kind, SamplerSpec::Kind::kGreedy);
}

TEST(Workload, CommittedFilesAreRead) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONCORD_SOURCE_DIR "/suites/workloads")) {
    if (entry.path().extension() != ".json") continue;
    const auto all = load_workloads(entry.path().string());
    ASSERT_TRUE(all) << all.error().to_string();
    EXPECT_EQ(all->size(), 3u);
    ++files;
  }
  EXPECT_GE(files, 4);
  const std::vector<Workload> bytes = load_workloads(CONCORD_SOURCE_DIR "/suites/workloads/byte-prompts.json").value();
  for (Workload w : bytes) EXPECT_TRUE(bind_workload(w, model(256, 2048), TokenTable::bytes())) << w.id;
}

TEST(Workload, APromptMayHaveItsOwnSampler) {
  const Workload w =
      one(with_prompt({{"sampler", {{"kind", "sample"}, {"temperature", 0.8}, {"seed", 18446744073709551615u}}}}));
  EXPECT_EQ(w.sampler.kind, SamplerSpec::Kind::kSample);
  EXPECT_EQ(w.sampler.seed, 18446744073709551615u);
  EXPECT_EQ(w.sampler.top_k, 0);
  EXPECT_EQ(w.sampler.top_p, 1.0);
  const Json json = w.sampler.to_json();
  EXPECT_EQ(SamplerSpec::from_json(JsonFields::from(json, "x", "workload").value())->to_json(), json);
}

TEST(Workload, DigestFramingIsTheDocumentedOne) {
  std::string framed("concord.workload/1\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0",
                     19 + 8 + 12 + 8);
  EXPECT_EQ(one().digest(), sha256_hex(framed + std::string(1, '\0')));
  const Workload w = one(
      with({{"sampler", {{"kind", "sample"}, {"temperature", 0.5}, {"top_k", 40}, {"top_p", 0.5}, {"seed", 258}}}}));
  const std::string half("\0\0\0\0\0\0\xe0\x3f", 8);
  EXPECT_EQ(w.digest(), sha256_hex(framed + "\x01" + half + std::string("\x28\0\0\0\0\0\0\0", 8) + half +
                                   std::string("\x02\x01\0\0\0\0\0\0", 8)));
}

TEST(Workload, DigestChangesWithWhatIsComputedAndNothingElse) {
  const std::string base = one().digest();
  EXPECT_NE(one(with_prompt({{"token_ids", {1, 2, 4}}})).digest(), base);
  EXPECT_NE(one(with_prompt({{"token_ids", {1, 2}}})).digest(), base);
  EXPECT_NE(one(with_prompt({{"new_tokens", 5}})).digest(), base);
  EXPECT_NE(one(with({{"sampler", {{"kind", "sample"}, {"temperature", 1.0}, {"seed", 1}}}})).digest(), base);
  EXPECT_EQ(one(with_prompt({{"id", "b"}, {"text", "other"}})).digest(), base);
}

struct Refusal {
  const char* changes;
  const char* code;
  const char* fragment;
};
constexpr Refusal kFileRefusals[] = {
    {R"({"schema": null})", "workload.missing_field", "schema"},
    {R"({"schema": "concord.workload/2"})", "workload.schema_version", "concord.workload/2"},
    {R"({"name": null})", "workload.missing_field", "name"},
    {R"({"prompt": 1})", "workload.unknown_field", "prompt"},
    {R"({"prompts": null})", "workload.missing_field", "prompts"},
    {R"({"prompts": {}})", "workload.wrong_type", "prompts"},
    {R"({"prompts": []})", "workload.empty", "at least one"},
    {R"({"prompts": [1]})", "workload.wrong_type", "prompts[0]"},
    {R"({"model": {"vocab": 3}})", "workload.unknown_field", "model.vocab"},
    {R"({"model": {"vocab_size": 0}})", "workload.out_of_range", "vocab_size"},
    {R"({"model": {"vocab_size": 99999999}})", "workload.out_of_range", "vocab_size"},
    {R"({"model": {"tokenizer": {"kind": "bpe"}}})", "workload.unknown_tokenizer", "bpe"},
    {R"({"model": {"tokenizer": {"hash": "x"}}})", "workload.unknown_field", "hash"},
    {R"({"model": {"tokenizer": {"sha256": "abc"}}})", "workload.bad_sha256", "64"},
    {R"({"model": {"tokenizer": {"sha256": ""}}})", "workload.bad_sha256", "64"},
    {R"({"sampler": null})", "workload.missing_field", "sampler"},
    {R"({"sampler": {"kind": "beam"}})", "workload.unknown_sampler", "beam"},
    {R"({"sampler": {"kind": "greedy", "seed": 1}})", "workload.unknown_field", "seed"},
    {R"({"sampler": {"kind": "sample", "seed": 1}})", "workload.missing_field", "temperature"},
    {R"({"sampler": {"kind": "sample", "temperature": 1}})", "workload.missing_field", "seed"},
    {R"({"sampler": {"kind": "sample", "temperature": 0, "seed": 1}})", "workload.out_of_range", "greedy"},
    {R"({"sampler": {"kind": "sample", "temperature": 1, "seed": -1}})", "workload.out_of_range", "seed"},
    {R"({"sampler": {"kind": "sample", "temperature": 1, "seed": 1, "top_k": -1}})", "workload.out_of_range", "top_k"},
    {R"({"sampler": {"kind": "sample", "temperature": 1, "seed": 1, "top_p": 0}})", "workload.out_of_range", "top_p"},
    {R"({"sampler": {"kind": "sample", "temperature": 1, "seed": 1, "top_p": 1.5}})", "workload.out_of_range", "top_p"},
    {R"({"sampler": {"kind": "sample", "temperature": 1, "seed": 1, "top": 1}})", "workload.unknown_field", "top"},
};
constexpr Refusal kPromptRefusals[] = {
    {R"({"id": null})", "workload.missing_field", "id"},
    {R"({"id": ""})", "workload.bad_id", "1 to 64"},
    {R"({"id": "a b"})", "workload.bad_id", "a b"},
    {R"({"new_tokens": null})", "workload.missing_field", "new_tokens"},
    {R"({"new_tokens": 0})", "workload.out_of_range", "new_tokens"},
    {R"({"new_tokens": 2.0})", "workload.wrong_type", "new_tokens"},
    {R"({"new_tokens": 1048577})", "workload.out_of_range", "new_tokens"},
    {R"({"token_ids": []})", "workload.empty_prompt", "\"a\""},
    {R"({"token_ids": null, "text": ""})", "workload.empty_prompt", "\"a\""},
    {R"({"token_ids": null, "text": null})", "workload.missing_field", "neither"},
    {R"({"token_ids": [1, 100]})", "workload.token_out_of_range", "token id 100 at position 1"},
    {R"({"token_ids": [-1]})", "workload.token_out_of_range", "-1"},
    {R"({"token_ids": [1.5]})", "workload.wrong_type", "token_ids"},
    {R"({"token_ids": "1"})", "workload.wrong_type", "token_ids"},
    {R"({"text": 3})", "workload.wrong_type", "text"},
    {R"({"extra": 3})", "workload.unknown_field", "extra"},
};

TEST(Workload, WrongFilesAreRefusedByName) {
  for (const Refusal& r : kFileRefusals) {
    SCOPED_TRACE(r.changes);
    const auto got = parse(with(Json::parse(r.changes)));
    expect_error(got, r.code, r.fragment);
    EXPECT_EQ(got.error().file, "w.json");
  }
  for (const Refusal& r : kPromptRefusals) {
    SCOPED_TRACE(r.changes);
    expect_error(parse(with_prompt(Json::parse(r.changes))), r.code, r.fragment);
  }
  expect_error(parse_workloads("{", "w.json"), "workload.syntax");
  expect_error(parse_workloads("{\"a\": 1, \"a\": 2}", "w.json"), "workload.duplicate_key");
  expect_error(parse_workloads("[]", "w.json"), "workload.wrong_type", "object");
  expect_error(load_workloads("/nonexistent/w.json"), "file.not_found");
}

TEST(Workload, IdsMustBeUniqueAndCountsBounded) {
  Json twice = Json::parse(kBase);
  twice["prompts"].push_back(twice["prompts"][0]);
  expect_error(parse(twice), "workload.duplicate_id", "\"a\"");
  Json many = Json::parse(kBase);
  for (int i = 0; i < 10'001; ++i)
    many["prompts"][static_cast<std::size_t>(i)] = {{"id", std::to_string(i)}, {"token_ids", {1}}, {"new_tokens", 1}};
  expect_error(parse(many), "workload.too_many_prompts", "10001");
  expect_error(parse(with_prompt({{"token_ids", std::vector<int>((1u << 20) + 1, 1)}})), "workload.too_long",
               "1048577");
  expect_error(parse(with_prompt({{"text", std::string((16u << 20) + 1, 'a')}})), "workload.too_long", "16777217");
}

TEST(Workload, BytesAndTextMustAgree) {
  const Json bytes = with({{"model", {{"tokenizer", {{"kind", "bytes"}}}, {"vocab_size", 256}}}});
  expect_error(parse(bytes), "workload.contradiction", "not the bytes");
  Json right = bytes;
  right["prompts"][0]["token_ids"] = {104, 105};
  EXPECT_TRUE(parse(right));
}

TEST(Bind, TextBecomesBytes) {
  Workload w = one(with_prompt({{"token_ids", nullptr}}));
  ASSERT_TRUE(w.tokens.empty());
  ASSERT_TRUE(bind_workload(w, model(256), TokenTable::bytes()));
  EXPECT_EQ(w.tokens, (std::vector<std::int32_t>{104, 105}));
}

TEST(Bind, RefusesWhatDoesNotFit) {
  Workload text = one(with_prompt({{"token_ids", nullptr}}));
  expect_error(bind_workload(text, model(), table()), "workload.needs_token_ids", "gpt2");
  Workload w = one();
  expect_error(bind_workload(w, model(3), table()), "workload.token_out_of_range", "token id 3 at position 2");
  expect_error(bind_workload(w, model(100, 6), table()), "workload.too_long", "7 positions");
  EXPECT_TRUE(bind_workload(w, model(100, 7), table()));
  w.tokenizer_sha256 = table().sha256();
  EXPECT_TRUE(bind_workload(w, model(), table()));
  const auto wrong = bind_workload(w, model(), table("b"));
  expect_error(wrong, "workload.wrong_tokenizer", table("b").sha256());
  EXPECT_EQ(wrong.error().file, "w.json");
}

TEST(Bind, WithoutATokenizerTheVocabularySizesMustAgree) {
  Workload w = one();
  EXPECT_TRUE(bind_workload(w, model(100), TokenTable{}));
  expect_error(bind_workload(w, model(101), TokenTable{}), "workload.wrong_tokenizer", "101");
}

}  // namespace
}  // namespace concord
