// Workload files: prompts as token ids with the number of new tokens and the sampler, so that every backend and engine gets the same input.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "model/spec.hpp"
#include "model/tokens.hpp"

namespace concord {

// How the next token is chosen. Greedy is the largest logit (lowest id among equals). Sampling adds seeded Gumbel noise; see sampler.hpp.
struct SamplerSpec {
  enum class Kind { kGreedy, kSample };
  Kind kind = Kind::kGreedy;
  double temperature = 1.0;
  std::int64_t top_k = 0;    // 0: no limit
  double top_p = 1.0;
  std::uint64_t seed = 0;
  Json to_json() const;
  static Result<SamplerSpec> from_json(const JsonFields& fields);
};

struct Workload {
  std::string file, id;                  // "suites/workloads/byte-prompts.json", "short"
  std::string text;                      // informative where token ids are given
  std::vector<std::int32_t> tokens;      // the prompt
  std::int64_t new_tokens = 0;
  SamplerSpec sampler;
  std::string tokenizer_sha256;          // empty where the file does not say
  std::int64_t vocab = 0;                // 0 where the file does not say
  // SHA-256 (hex) over schema, prompt ids, number of new tokens and sampler: what two captures must share to be comparable.
  std::string digest() const;
};

// Schema "concord.workload/1", see docs/formats.md. Checks ids against vocab_size, ids present, counts positive, unique prompt ids.
Result<std::vector<Workload>> load_workloads(const std::string& file);
Result<std::vector<Workload>> parse_workloads(std::string_view text, const std::string& file);  // `file` names the text in errors
// Makes workloads fit a model or refuses: workload.wrong_tokenizer (fingerprints differ), workload.token_out_of_range (id, position, vocabulary),
// workload.too_long (prompt + new tokens > max_positions), workload.needs_token_ids (text only, model not byte-level).
Status bind_workload(Workload& workload, const ModelSpec& spec, const TokenTable& tokens);

}  // namespace concord
