// Profiles as data: found by name, read strictly. File format: docs/profiles.md.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "compare/compare.hpp"

#ifndef CONCORD_SUITES_DIR
#define CONCORD_SUITES_DIR ""
#endif

namespace concord {
namespace fs = std::filesystem;
namespace {

fs::path profile_folder() {
  std::vector<fs::path> folders;
  if (const char* suites = std::getenv("CONCORD_SUITES"); suites && *suites)
    folders.emplace_back(fs::path(suites) / "profiles");
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (!program.empty()) folders.emplace_back(program.parent_path().parent_path() / "share/concord/suites/profiles");
  folders.emplace_back(fs::path(CONCORD_SUITES_DIR) / "profiles");
  for (const auto& f : folders)
    if (fs::is_directory(f, ignored)) return f;
  return folders.front();
}

// --- fields ------------------------------------------------------------------------------------------------------

Result<double> number_in(const JsonFields& f, const std::string& key, double fallback, double min, double max) {
  CONCORD_TRY(const double v, f.number_or(key, fallback));
  if (!(v >= min && v <= max))
    return f.error("out_of_range", fmt::format("\"{}\" is {}, allowed are {} to {}", key, v, min, max));
  return v;
}

constexpr double kAny = std::numeric_limits<double>::max();
struct Number {
  const char* key;
  double Profile::* field;
  double max;  // least is 0
};
const std::set<std::string> kCommon{"schema",          "name",  "kind", "source", "citation", "notes",
                                    "accept_rate_min", "tau_m", "tau_w"};

Status read_numbers(const JsonFields& f, std::initializer_list<Number> numbers, std::set<std::string> allowed,
                    Profile& p) {
  allowed.insert(kCommon.begin(), kCommon.end());
  for (const auto& n : numbers) allowed.insert(n.key);
  CONCORD_CHECK(f.only(allowed));
  for (const auto& n : numbers) {
    // A threshold is never taken from a default: a profile that forgets one would judge by a figure nobody wrote down.
    if (!f.has(n.key)) return f.error("missing_field", fmt::format("\"{}\" is missing", n.key));
    CONCORD_TRY(p.*n.field, number_in(f, n.key, 0, 0, n.max));
  }
  return {};
}

Status read_paper(const JsonFields& f, Profile& p) {
  CONCORD_CHECK(read_numbers(f,
                             {{"pe_max", &Profile::pe_max, 1},
                              {"pm_min", &Profile::pm_min, 1},
                              {"pw_min", &Profile::pw_min, 1},
                              {"mean_max", &Profile::mean_max, kAny}},
                             {"pm_min_count"}, p));
  CONCORD_TRY(const std::int64_t least, f.integer_or("pm_min_count", 30, 1, 1'000'000'000));
  p.pm_min_count = static_cast<std::uint64_t>(least);
  return {};
}

Status read_seed(const JsonFields& f, Profile& p) {
  CONCORD_CHECK(read_numbers(f,
                             {{"pe_max", &Profile::pe_max, 1},
                              {"pm_min", &Profile::pm_min, 1},
                              {"pw_min", &Profile::pw_min, 1},
                              {"mean_max", &Profile::mean_max, kAny},
                              {"mean_exact", &Profile::mean_exact, kAny}},
                             {"layer_stride"}, p));
  CONCORD_TRY(p.layer_stride, f.integer_or("layer_stride", 8, 1, 1'000'000));
  p.include_embedding = true;
  p.accept_rate_strict = true;
  return {};
}

Status read_toploc(const JsonFields& f, Profile& p) {
  CONCORD_CHECK(read_numbers(f,
                             {{"exponent_mismatches_max", &Profile::exponent_mismatches_max, kAny},
                              {"mantissa_mean_max", &Profile::mantissa_mean_max, 127},
                              {"mantissa_median_max", &Profile::mantissa_median_max, 127}},
                             {"topk"}, p));
  CONCORD_TRY(const std::int64_t topk, f.integer_or("topk", 128, 1, 4096));
  p.topk = static_cast<std::size_t>(topk);
  return {};
}

Result<CalibratedLimit> read_limit(const JsonFields& f) {
  CONCORD_CHECK(f.only({"activations", "class", "model", "rel_l2_max", "ulp_p99_max", "source"}));
  CalibratedLimit limit;
  CONCORD_TRY(limit.activations, f.string("activations"));
  CONCORD_TRY(limit.class_name, f.string("class"));
  CONCORD_TRY(limit.model, f.string_or("model", "*"));
  CONCORD_TRY(limit.source, f.string("source"));
  if (limit.activations != "f32" && limit.activations != "f16" && limit.activations != "bf16" &&
      limit.activations != "*")
    return f.error("out_of_range", "\"activations\" is none of f32, f16, bf16, *");
  if (!f.has("rel_l2_max") && !f.has("ulp_p99_max"))
    return f.error("missing_field", "a limit needs \"rel_l2_max\" or \"ulp_p99_max\"");
  if (f.has("rel_l2_max")) {
    CONCORD_TRY(limit.rel_l2_max, number_in(f, "rel_l2_max", 0, 0, kAny));
  }
  if (f.has("ulp_p99_max")) {
    CONCORD_TRY(limit.ulp_p99_max, number_in(f, "ulp_p99_max", 0, 0, kAny));
  }
  return limit;
}

Status read_calibrated(const JsonFields& f, Profile& p) {
  CONCORD_CHECK(read_numbers(f, {}, {"limits"}, p));
  CONCORD_TRY(const std::vector<JsonFields> limits, f.objects("limits"));
  for (const auto& entry : limits) {
    CONCORD_TRY(CalibratedLimit limit, read_limit(entry));
    for (const auto& other : p.limits)
      if (other.activations == limit.activations && other.class_name == limit.class_name && other.model == limit.model)
        return entry.error("duplicate_limit",
                           fmt::format("two entries for {}/{}/{}", limit.activations, limit.class_name, limit.model));
    p.limits.push_back(std::move(limit));
  }
  return {};
}

struct KindReader {
  const char* name;
  Profile::Kind kind;
  Status (*read)(const JsonFields&, Profile&);
};
constexpr std::array<KindReader, 4> kKinds{{{"paper", Profile::Kind::kPaper, read_paper},
                                            {"seed", Profile::Kind::kSeed, read_seed},
                                            {"toploc", Profile::Kind::kToploc, read_toploc},
                                            {"calibrated", Profile::Kind::kCalibrated, read_calibrated}}};

Result<Profile> read_profile(const std::string& file) {
  CONCORD_TRY(const Json json, read_json(file, "profile", 1u << 20));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "profile"));
  CONCORD_CHECK(f.schema("concord.profile/1"));
  Profile p;
  CONCORD_TRY(p.name, f.string("name"));
  CONCORD_TRY(p.source, f.string("source"));
  CONCORD_TRY(p.citation, f.string("citation"));
  CONCORD_TRY(const std::string kind, f.string("kind"));
  CONCORD_TRY(p.parameters.tau_m, number_in(f, "tau_m", p.parameters.tau_m, 0, 1));
  CONCORD_TRY(p.parameters.tau_w, number_in(f, "tau_w", p.parameters.tau_w, 0, 1));
  if (!f.has("accept_rate_min")) return f.error("missing_field", "\"accept_rate_min\" is missing");
  CONCORD_TRY(p.accept_rate_min, number_in(f, "accept_rate_min", 0, 0, 1));
  const auto reader = std::ranges::find(kKinds, kind, [](const KindReader& k) { return std::string(k.name); });
  if (reader == kKinds.end())
    return f.error("out_of_range", fmt::format("\"kind\" is \"{}\", known are paper, seed, toploc, calibrated", kind));
  p.kind = reader->kind;
  CONCORD_CHECK(reader->read(f, p));
  return p;
}

}  // namespace

std::vector<std::string> Profile::available() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(profile_folder(), ignored))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

Result<Profile> Profile::load(const std::string& name_or_file) {
  if (name_or_file.find('/') != std::string::npos || name_or_file.ends_with(".json")) return read_profile(name_or_file);
  const auto names = available();
  if (std::ranges::find(names, name_or_file) == names.end())
    return bad_input("profile.unknown",
                     fmt::format("no profile \"{}\" in {}; there are: {}", name_or_file, profile_folder().string(),
                                 names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
  return read_profile((profile_folder() / (name_or_file + ".json")).string());
}

const CalibratedLimit* Profile::limit_for(const std::string& activations, const std::string& class_name,
                                          const std::string& model) const {
  const CalibratedLimit* best = nullptr;
  int best_score = -1;
  for (const auto& l : limits) {
    const bool exact_a = l.activations == activations, exact_c = l.class_name == class_name;
    const bool exact_m = l.model == model;
    if (!exact_a && l.activations != "*") continue;
    if (!exact_c && l.class_name != "*") continue;
    if (!exact_m && l.model != "*") continue;
    const int score = 4 * exact_m + 2 * exact_a + exact_c;
    if (score > best_score) best_score = score, best = &l;
  }
  return best;
}

}  // namespace concord
