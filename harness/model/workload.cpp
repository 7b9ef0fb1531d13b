#include "model/workload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "digest/digest.hpp"

namespace concord {
namespace {

constexpr std::string_view kSchema = "concord.workload/1";
constexpr std::int64_t kMaxId = 1 << 24, kMaxNewTokens = 1 << 20;
constexpr std::size_t kMaxPromptTokens = 1u << 20, kMaxPrompts = 10'000, kMaxText = 16u << 20, kMaxFile = 64u << 20;

// What the file says once for all its prompts.
struct Header {
  std::string tokenizer_kind, tokenizer_sha256;
  std::int64_t vocab = 0;
  std::optional<SamplerSpec> sampler;
};

Result<std::uint64_t> read_seed(const JsonFields& f) {
  if (f.has("seed") && f.raw("seed").is_number_unsigned()) return f.raw("seed").get<std::uint64_t>();
  CONCORD_TRY(const std::int64_t seed, f.integer("seed", 0));
  return static_cast<std::uint64_t>(seed);
}

Status read_tokenizer(const JsonFields& f, Header& out) {
  CONCORD_CHECK(f.only({"kind", "sha256"}));
  CONCORD_TRY(out.tokenizer_kind, f.string("kind"));
  static const std::set<std::string> kKinds{"bytes", "gpt2", "llama", "none"};
  if (!kKinds.contains(out.tokenizer_kind))
    return f.error("unknown_tokenizer", fmt::format("tokenizer kind \"{}\" is not one of bytes, gpt2, llama, none",
                                                    printable(out.tokenizer_kind)));
  CONCORD_TRY(out.tokenizer_sha256, f.string_or("sha256", ""));
  const bool hexadecimal = out.tokenizer_sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (f.has("sha256") && (out.tokenizer_sha256.size() != 64 || !hexadecimal))
    return f.error("bad_sha256", fmt::format("tokenizer.sha256 must be 64 lowercase hexadecimal digits, found \"{}\"",
                                             printable(out.tokenizer_sha256)));
  return {};
}

Result<Header> read_header(const JsonFields& f) {
  CONCORD_CHECK(f.schema(std::string(kSchema)));
  CONCORD_CHECK(f.only({"schema", "name", "description", "model", "sampler", "prompts"}));
  CONCORD_CHECK(f.string("name"));
  CONCORD_CHECK(f.string_or("description", ""));
  Header out;
  if (f.has("model")) {
    CONCORD_TRY(const JsonFields model, f.object("model"));
    CONCORD_CHECK(model.only({"name", "vocab_size", "tokenizer"}));
    CONCORD_CHECK(model.string_or("name", ""));
    CONCORD_TRY(out.vocab, model.integer_or("vocab_size", 0, 1, kMaxId));
    if (model.has("tokenizer")) {
      CONCORD_TRY(const JsonFields tokenizer, model.object("tokenizer"));
      CONCORD_CHECK(read_tokenizer(tokenizer, out));
    }
  }
  if (f.has("sampler")) {
    CONCORD_TRY(const JsonFields sampler, f.object("sampler"));
    CONCORD_TRY(out.sampler, SamplerSpec::from_json(sampler));
  }
  return out;
}

Status read_ids(const JsonFields& f, const Header& header, Workload& w) {
  CONCORD_TRY(const std::vector<std::int64_t> ids, f.integers("token_ids", INT64_MIN, INT64_MAX));
  if (ids.empty()) return f.error("empty_prompt", fmt::format("prompt \"{}\" has no token ids", w.id));
  if (ids.size() > kMaxPromptTokens)
    return f.error("too_long", fmt::format("prompt \"{}\" has {} token ids, at most {} are accepted", w.id, ids.size(),
                                           kMaxPromptTokens));
  const std::int64_t end = header.vocab > 0 ? header.vocab : kMaxId;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= end)
      return f.error("token_out_of_range",
                     fmt::format("prompt \"{}\": token id {} at position {} is outside the vocabulary of {}", w.id,
                                 ids[i], i, end));
    w.tokens.push_back(static_cast<std::int32_t>(ids[i]));
  }
  return {};
}

Status read_text_and_ids(const JsonFields& f, const Header& header, Workload& w) {
  CONCORD_TRY(w.text, f.string_or("text", ""));
  if (w.text.size() > kMaxText)
    return f.error("too_long", fmt::format("the text of prompt \"{}\" has {} bytes, at most {} are accepted", w.id,
                                           w.text.size(), kMaxText));
  if (f.has("token_ids")) {
    CONCORD_CHECK(read_ids(f, header, w));
    if (header.tokenizer_kind != "bytes" || !f.has("text")) return {};
    const bool same = std::ranges::equal(
        w.tokens, w.text, {}, {}, [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
    if (!same)
      return f.error("contradiction",
                     fmt::format("prompt \"{}\": token_ids are not the bytes of text; leave one of them out", w.id));
    return {};
  }
  if (!f.has("text"))
    return f.error("missing_field", fmt::format("prompt \"{}\" has neither token_ids nor text", w.id));
  if (w.text.empty()) return f.error("empty_prompt", fmt::format("the text of prompt \"{}\" is empty", w.id));
  return {};
}

Result<Workload> read_prompt(const JsonFields& f, const Header& header) {
  CONCORD_CHECK(f.only({"id", "text", "token_ids", "new_tokens", "sampler"}));
  Workload w{.file = f.file(), .tokenizer_sha256 = header.tokenizer_sha256, .vocab = header.vocab};
  CONCORD_TRY(w.id, f.string("id"));
  constexpr std::string_view kIdCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  if (w.id.empty() || w.id.size() > 64 || w.id.find_first_not_of(kIdCharacters) != std::string::npos)
    return f.error("bad_id",
                   fmt::format("prompt id \"{}\" must be 1 to 64 letters, digits, '.', '_' or '-'", printable(w.id)));
  CONCORD_TRY(w.new_tokens, f.integer("new_tokens", 1, kMaxNewTokens));
  if (f.has("sampler")) {
    CONCORD_TRY(const JsonFields sampler, f.object("sampler"));
    CONCORD_TRY(w.sampler, SamplerSpec::from_json(sampler));
  } else if (header.sampler) {
    w.sampler = *header.sampler;
  } else {
    return f.error("missing_field", fmt::format("neither the file nor prompt \"{}\" has a \"sampler\"", w.id));
  }
  CONCORD_CHECK(read_text_and_ids(f, header, w));
  return w;
}

}  // namespace

Json SamplerSpec::to_json() const {
  if (kind == Kind::kGreedy) return {{"kind", "greedy"}};
  return {{"kind", "sample"}, {"temperature", temperature}, {"top_k", top_k}, {"top_p", top_p}, {"seed", seed}};
}

Result<SamplerSpec> SamplerSpec::from_json(const JsonFields& f) {
  SamplerSpec s;
  CONCORD_TRY(const std::string kind, f.string("kind"));
  if (kind == "greedy") {
    CONCORD_CHECK(f.only({"kind"}));
    return s;
  }
  if (kind != "sample")
    return f.error("unknown_sampler", fmt::format("sampler kind \"{}\" is not one of greedy, sample", printable(kind)));
  CONCORD_CHECK(f.only({"kind", "temperature", "top_k", "top_p", "seed"}));
  s.kind = Kind::kSample;
  CONCORD_TRY(s.temperature, f.number("temperature"));
  if (!(s.temperature >= 1e-6 && s.temperature <= 1e6))
    return f.error(
        "out_of_range",
        fmt::format("sampler temperature must be in [1e-6, 1e6], found {}; use kind \"greedy\" for 0", s.temperature));
  CONCORD_TRY(s.top_k, f.integer_or("top_k", 0, 0, kMaxId));
  CONCORD_TRY(s.top_p, f.number_or("top_p", 1.0));
  if (!(s.top_p > 0.0 && s.top_p <= 1.0))
    return f.error("out_of_range", fmt::format("sampler top_p must be in (0, 1], found {}", s.top_p));
  CONCORD_TRY(s.seed, read_seed(f));
  return s;
}

// The framing is part of the format: docs/formats.md.
std::string Workload::digest() const {
  Hasher h;
  h.update(kSchema).u8(0).u64(tokens.size());
  for (const std::int32_t token : tokens) h.u32(static_cast<std::uint32_t>(token));
  h.u64(static_cast<std::uint64_t>(new_tokens));
  const bool sample = sampler.kind == SamplerSpec::Kind::kSample;
  h.u8(sample ? 1 : 0);
  if (sample)
    h.u64(std::bit_cast<std::uint64_t>(sampler.temperature))
        .u64(static_cast<std::uint64_t>(sampler.top_k))
        .u64(std::bit_cast<std::uint64_t>(sampler.top_p))
        .u64(sampler.seed);
  return hex(h.finish());
}

Result<std::vector<Workload>> parse_workloads(std::string_view text, const std::string& file) {
  CONCORD_TRY(const Json json, parse_json(text, file, "workload"));
  CONCORD_TRY(const JsonFields root, JsonFields::from(json, file, "workload"));
  CONCORD_TRY(const Header header, read_header(root));
  CONCORD_TRY(const std::vector<JsonFields> prompts, root.objects("prompts"));
  if (prompts.empty()) return root.error("empty", "\"prompts\" is empty; a workload needs at least one");
  if (prompts.size() > kMaxPrompts)
    return root.error("too_many_prompts",
                      fmt::format("{} prompts, at most {} are accepted", prompts.size(), kMaxPrompts));
  std::vector<Workload> out;
  std::set<std::string> seen;
  for (const JsonFields& prompt : prompts) {
    CONCORD_TRY(Workload w, read_prompt(prompt, header));
    if (!seen.insert(w.id).second)
      return prompt.error("duplicate_id", fmt::format("prompt id \"{}\" appears twice", w.id));
    out.push_back(std::move(w));
  }
  return out;
}

Result<std::vector<Workload>> load_workloads(const std::string& file) {
  CONCORD_TRY(const std::string text, read_text(file, kMaxFile));
  return parse_workloads(text, file);
}

Status bind_workload(Workload& w, const ModelSpec& spec, const TokenTable& tokens) {
  if (!w.tokenizer_sha256.empty() && !tokens.sha256().empty() && w.tokenizer_sha256 != tokens.sha256())
    return bad_input("workload.wrong_tokenizer",
                     fmt::format("workload \"{}\" was made with a tokenizer of SHA-256 {}, the model's is {} (kind "
                                 "\"{}\"); make it again with "
                                 "scripts/make_workload.py for this model",
                                 w.id, w.tokenizer_sha256, tokens.sha256(), tokens.kind()),
                     w.file);
  if (tokens.sha256().empty() && w.vocab != 0 && w.vocab != spec.vocab)
    return bad_input(
        "workload.wrong_tokenizer",
        fmt::format(
            "workload \"{}\" is for a vocabulary of {}, the model has {} and carries no tokenizer to compare with",
            w.id, w.vocab, spec.vocab),
        w.file);
  if (w.tokens.empty()) {
    auto ids = tokens.encode(w.text);
    if (!ids) {
      ids.error().file = w.file;
      return std::unexpected(std::move(ids).error());
    }
    w.tokens = std::move(*ids);
  }
  if (w.tokens.empty())
    return bad_input("workload.empty_prompt", fmt::format("workload \"{}\" has no tokens", w.id), w.file);
  for (std::size_t i = 0; i < w.tokens.size(); ++i)
    if (w.tokens[i] < 0 || w.tokens[i] >= spec.vocab)
      return bad_input(
          "workload.token_out_of_range",
          fmt::format("workload \"{}\": token id {} at position {} is outside the model's vocabulary of {}", w.id,
                      w.tokens[i], i, spec.vocab),
          w.file);
  const std::int64_t needed = static_cast<std::int64_t>(w.tokens.size()) + w.new_tokens;
  if (needed > spec.max_positions)
    return bad_input("workload.too_long",
                     fmt::format("workload \"{}\" needs {} positions ({} prompt + {} new), the model has {}", w.id,
                                 needed, w.tokens.size(), w.new_tokens, spec.max_positions),
                     w.file);
  return {};
}

}  // namespace concord
