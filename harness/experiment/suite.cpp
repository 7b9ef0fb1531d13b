#include "experiment/suite.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "model/workload.hpp"

namespace concord {
namespace fs = std::filesystem;
namespace {

Result<RunPrecision> precision_of(const JsonFields& f, const std::string& key) {
  CONCORD_TRY(const std::string text, f.string(key));
  auto parsed = RunPrecision::parse(text);
  if (!parsed) return f.error("bad_precision", fmt::format("field \"{}\": {}", key, parsed.error().message));
  return parsed;
}

Result<std::vector<VerifierSpec>> verifiers_of(const JsonFields& f) {
  CONCORD_TRY(const auto list, f.objects("verifiers"));
  std::vector<VerifierSpec> out;
  for (const JsonFields& v : list) {
    CONCORD_CHECK(v.only({"threads", "chunk"}));
    VerifierSpec spec;
    CONCORD_TRY(const std::int64_t threads, v.integer_or("threads", 0, 0, 4096));
    spec.threads = static_cast<unsigned>(threads);
    CONCORD_TRY(spec.chunk, v.integer_or("chunk", 0, 0, 1 << 20));
    out.push_back(spec);
  }
  if (out.empty()) return f.error("no_verifiers", "at least one verifier is needed");
  return out;
}

Status read_judgement(const JsonFields& f, ExperimentSpec& e) {
  CONCORD_TRY(const std::string expect, f.string("expect"));
  if (expect != "accept" && expect != "reject")
    return f.error("out_of_range", fmt::format("field \"expect\" must be accept or reject, found \"{}\"", expect));
  e.expect_accept = expect == "accept";
  CONCORD_TRY(e.decide, f.string("decide"));
  CONCORD_TRY(e.profiles, f.strings("profiles"));
  if (std::ranges::find(e.profiles, e.decide) == e.profiles.end())
    return f.error("contradiction", fmt::format("the deciding profile \"{}\" is not among the profiles", e.decide));
  CONCORD_TRY(e.seed_accept_rate_min, f.number_or("seed_accept_rate_min", 0));
  if (!f.has("tokens")) return {};
  CONCORD_TRY(const JsonFields tokens, f.object("tokens"));
  CONCORD_CHECK(tokens.only({"margin_max", "share_min", "judge", "source"}));
  CONCORD_TRY(e.judge_tokens, tokens.boolean_or("judge", false));
  CONCORD_TRY(e.token_margin_max, tokens.number("margin_max"));
  CONCORD_TRY(e.token_share_min, tokens.number_or("share_min", 1));
  return {};
}

// A folder next to the program's own, as installed, or the source tree.
std::string data_folder(const char* environment, const char* installed, const char* source) {
  if (const char* folder = std::getenv(environment)) return folder;
  std::error_code ignored;
  const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path() / "../share/concord" / installed;
  if (fs::exists(beside, ignored)) return fs::weakly_canonical(beside, ignored).string();
  return source;
}

}  // namespace

std::string suites_folder() { return data_folder("CONCORD_SUITES", "suites", CONCORD_SUITES_DIR); }

std::string suite_path(const std::string& name_or_file) {
  if (name_or_file.ends_with(".json") || name_or_file.find('/') != std::string::npos) return name_or_file;
  return (fs::path(suites_folder()) / "verification" / (name_or_file + ".json")).string();
}

std::string embedded_model() {
  return (fs::path(data_folder("CONCORD_FIXTURES", "fixtures", CONCORD_FIXTURES_DIR)) / "models" / "concord-byte-3m").string();
}

std::optional<std::string> workload_for(const std::string& tokenizer_sha256) {
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(fs::path(suites_folder()) / "workloads", ignored))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::ranges::sort(files);
  for (const bool greedy : {true, false})
    for (const fs::path& file : files) {
      const auto workloads = load_workloads(file.string());
      if (!workloads || workloads->empty() || workloads->front().tokenizer_sha256 != tokenizer_sha256) continue;
      if (greedy == (workloads->front().sampler.kind == SamplerSpec::Kind::kGreedy)) return file.string();
    }
  return std::nullopt;
}

Result<ExperimentSpec> ExperimentSpec::load(const std::string& name_or_file) {
  ExperimentSpec e;
  e.file = suite_path(name_or_file);
  CONCORD_TRY(const Json json, read_json(e.file, "suite", 1u << 20));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, e.file, "suite"));
  CONCORD_CHECK(f.schema("concord.experiment/1"));
  CONCORD_CHECK(f.only({"schema", "id", "title", "class", "source", "pairs", "prover", "verifier", "verifiers", "expect", "decide", "profiles",
                        "tokens", "seed_accept_rate_min", "prompts", "layers", "positions", "comment"}));
  CONCORD_TRY(e.id, f.string("id"));
  CONCORD_TRY(e.title, f.string("title"));
  CONCORD_TRY(e.class_name, f.string("class"));
  CONCORD_TRY(e.source, f.string_or("source", ""));
  CONCORD_TRY(const std::string pairs, f.string("pairs"));
  if (pairs != "same" && pairs != "cross") return f.error("out_of_range", "field \"pairs\" must be same or cross, found \"" + pairs + "\"");
  e.cross = pairs == "cross";
  CONCORD_TRY(e.prover, precision_of(f, "prover"));
  CONCORD_TRY(e.verifier, precision_of(f, "verifier"));
  CONCORD_TRY(e.verifiers, verifiers_of(f));
  CONCORD_CHECK(read_judgement(f, e));
  if (f.has("prompts")) {
    CONCORD_TRY(e.prompts, f.strings("prompts"));
  }
  CONCORD_TRY(e.plan.layers, f.string_or("layers", e.plan.layers));
  CONCORD_TRY(e.plan.positions, f.string_or("positions", e.plan.positions));
  return e;
}

}  // namespace concord
