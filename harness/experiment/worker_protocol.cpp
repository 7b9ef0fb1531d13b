#include <fmt/format.h>

#include "experiment/worker.hpp"

namespace concord {

Json to_json(const std::string& op, const RunRequest& r) {
  const Workload& w = r.workload;
  Json companions = Json::array();
  for (const auto& tokens : r.companions) companions.push_back({{"token_ids", tokens}});
  return {{"op", op},
          {"workload", {{"file", w.file}, {"id", w.id}, {"text", w.text}, {"token_ids", w.tokens}, {"new_tokens", w.new_tokens}, {"sampler", w.sampler.to_json()}}},
          {"generated", r.generated},
          {"companions", companions},
          {"layers", r.plan.layers},
          {"positions", r.plan.positions},
          {"chunk", r.chunk},
          {"nonce", r.nonce},
          {"out", r.out.string()},
          {"model_name", r.model_name},
          {"source_digest", r.source_digest}};
}

namespace {

std::vector<std::int32_t> narrow(const std::vector<std::int64_t>& wide) { return {wide.begin(), wide.end()}; }

Result<Workload> workload_from_json(const JsonFields& f) {
  Workload w;
  CONCORD_TRY(w.file, f.string("file"));
  CONCORD_TRY(w.id, f.string("id"));
  CONCORD_TRY(w.text, f.string("text"));
  CONCORD_TRY(const auto tokens, f.integers("token_ids", 0, INT32_MAX));
  w.tokens = narrow(tokens);
  CONCORD_TRY(w.new_tokens, f.integer("new_tokens", 1, INT32_MAX));
  CONCORD_TRY(const JsonFields sampler, f.object("sampler"));
  CONCORD_TRY(w.sampler, SamplerSpec::from_json(sampler));
  return w;
}

}  // namespace

Result<RunRequest> request_from_json(const Json& json) {
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, "request", "worker"));
  RunRequest r;
  CONCORD_TRY(const JsonFields workload, f.object("workload"));
  CONCORD_TRY(r.workload, workload_from_json(workload));
  CONCORD_TRY(const auto generated, f.integers("generated", 0, INT32_MAX));
  r.generated = narrow(generated);
  CONCORD_TRY(const auto companions, f.objects("companions"));
  for (const JsonFields& c : companions) {
    CONCORD_TRY(const auto ids, c.integers("token_ids", 0, INT32_MAX));
    r.companions.push_back(narrow(ids));
  }
  CONCORD_TRY(r.plan.layers, f.string("layers"));
  CONCORD_TRY(r.plan.positions, f.string("positions"));
  CONCORD_TRY(r.chunk, f.integer("chunk", 0, INT32_MAX));
  CONCORD_TRY(r.nonce, f.string("nonce"));
  CONCORD_TRY(const std::string out, f.string("out"));
  r.out = out;
  CONCORD_TRY(r.model_name, f.string("model_name"));
  CONCORD_TRY(r.source_digest, f.string("source_digest"));
  return r;
}

Json to_json(const RunOutcome& o) {
  Json margins = Json::array();
  for (const TokenMargin& m : o.margins)  // JSON has no infinity: an ineligible token's margin is null
    margins.push_back({{"best", m.best}, {"margin", std::isinf(m.margin) ? Json() : Json(m.margin)}, {"rank", m.rank}});
  return {{"tokens", o.tokens},
          {"margins", margins},
          {"logit_top", o.logit_top},
          {"root", o.root},
          {"prefill_seconds", o.prefill_seconds},
          {"decode_seconds", o.decode_seconds},
          {"logits_seconds", o.logits_seconds},
          {"buffer_bytes", o.buffer_bytes},
          {"device_memory_peak", o.device_memory_peak ? Json(*o.device_memory_peak) : Json()}};
}

Result<RunOutcome> outcome_from_json(const Json& json) {
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, "reply", "worker"));
  RunOutcome o;
  CONCORD_TRY(const auto tokens, f.integers("tokens", 0, INT32_MAX));
  o.tokens = narrow(tokens);
  CONCORD_TRY(const auto margins, f.objects("margins"));
  for (const JsonFields& m : margins) {
    TokenMargin margin;
    CONCORD_TRY(const std::int64_t best, m.integer("best", 0, INT32_MAX));
    margin.best = static_cast<std::int32_t>(best);
    CONCORD_TRY(margin.margin, m.number_or("margin", std::numeric_limits<double>::infinity()));
    CONCORD_TRY(margin.rank, m.integer("rank", 0, INT32_MAX));
    o.margins.push_back(margin);
  }
  for (const Json& v : f.raw("logit_top")) o.logit_top.push_back(v.get<float>());
  CONCORD_TRY(o.root, f.string("root"));
  CONCORD_TRY(o.prefill_seconds, f.number("prefill_seconds"));
  CONCORD_TRY(o.decode_seconds, f.number("decode_seconds"));
  CONCORD_TRY(o.logits_seconds, f.number("logits_seconds"));
  CONCORD_TRY(const std::int64_t bytes, f.integer("buffer_bytes", 0));
  o.buffer_bytes = static_cast<std::uint64_t>(bytes);
  if (json.contains("device_memory_peak") && !json["device_memory_peak"].is_null()) {
    CONCORD_TRY(const std::int64_t peak, f.integer("device_memory_peak", 0));
    o.device_memory_peak = static_cast<std::uint64_t>(peak);
  }
  return o;
}

}  // namespace concord
