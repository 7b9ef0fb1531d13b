// `concord judge`: the verdict of bundles, derived again without the devices.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "cli/command.hpp"
#include "conformance/bundle/judge_bundle.hpp"
#include "device/provenance.hpp"
#include "report/conformance_report.hpp"

namespace concord::cli {
using namespace conformance;
namespace {

constexpr std::size_t kShown = 20;

struct Options {
  std::vector<std::string> bundles, formats;
  std::string lists, waivers, recompute = "worst";
  double limit = JudgeSettings{}.cost_limit;
  bool json = false;
};

// --- what is shown ---------------------------------------------------------------------------------------------------

std::string basis_line(const JudgedBundle& b) {
  return fmt::format(
      "{} of {} records derived again from saved outputs, {} from their numbers and the oracle, {} from their numbers "
      "alone",
      b.from_outputs, b.records.size(), b.from_oracle, b.from_numbers);
}

std::vector<std::string> limited(const std::vector<std::string>& lines) {
  std::vector<std::string> out(lines.begin(),
                               lines.begin() + static_cast<std::ptrdiff_t>(std::min(lines.size(), kShown)));
  if (lines.size() > kShown) out.push_back(fmt::format("and {} more", lines.size() - kShown));
  return out;
}

void print_lines(const char* label, const std::vector<std::string>& lines) {
  for (const std::string& line : limited(lines)) fmt::print("{}{}\n", label, printable(line, 600));
}

void print_bundle(const JudgedBundle& b) {
  const BundleManifest& m = b.bundle.manifest;
  const Json none;
  const auto text = [&](const Json& object, const char* key) {
    const Json& value = object.is_object() && object.contains(key) ? object[key] : none;
    return value.is_string() ? printable(value.get<std::string>(), 80) : std::string("?");
  };
  fmt::print(
      "bundle    {}\n          tier {}, seed {}, made {} by {} ({}); {} files, every digest as in the manifest\n",
      b.bundle.folder, tier_name(m.tier), m.seed, printable(m.date, 30), text(m.program, "version"),
      text(m.program, "commit"), m.files.size());
  if (!m.statement.empty()) fmt::print("statement {}\n", printable(m.statement, 400));
  for (const auto& [device, mode] : b.contents.modes)
    fmt::print("device    {}: {}, judged by the bounds of {}\n", device,
               text(b.contents.environment["devices"][device], "name"), mode.name());
  fmt::print("basis     {}\n", basis_line(b));
  print_lines("FAIL      ", b.contradictions);
  print_lines("DOUBT     ", b.doubts);
  print_lines("note      ", b.notes);
}

void print_devices(const JudgedBundle& b) {
  for (const DeviceVerdict& d : b.verdict.devices) {
    std::vector<std::string> counts;
    for (const auto& [status, n] : d.counts) counts.push_back(fmt::format("{} {}", n, status_name(status)));
    fmt::print("{:<9} {}: {}\n", "statuses", d.device, fmt::join(counts, ", "));
    print_lines("  missing ", d.missing);
    print_lines("  expired ", d.expired);
  }
  fmt::print("{}\n\n", b.verdict.line);
}

OrderedJson device_json_of(const DeviceVerdict& d) {
  OrderedJson counts = OrderedJson::object();
  for (const auto& [status, n] : d.counts) counts[status_name(status)] = n;
  return {{"device", d.device},     {"name", d.device_name},  {"list", d.list},         {"planned", d.planned},
          {"required", d.required}, {"executed", d.executed}, {"complete", d.complete}, {"counts", std::move(counts)},
          {"missing", d.missing},   {"lost", d.lost},         {"expired", d.expired},   {"exit_code", d.exit}};
}

OrderedJson bundle_json_of(const JudgedBundle& b) {
  OrderedJson out{{"bundle", b.bundle.folder},
                  {"verdict", b.verdict.line},
                  {"green", b.verdict.green},
                  {"exit_code", b.verdict.exit},
                  {"tier", tier_name(b.bundle.manifest.tier)},
                  {"seed", b.bundle.manifest.seed},
                  {"records", b.records.size()},
                  {"from_outputs", b.from_outputs},
                  {"from_oracle", b.from_oracle},
                  {"from_numbers", b.from_numbers},
                  {"contradictions", b.contradictions},
                  {"doubts", b.doubts},
                  {"notes", b.notes},
                  {"devices", OrderedJson::array()}};
  for (const DeviceVerdict& d : b.verdict.devices) out["devices"].push_back(device_json_of(d));
  return out;
}

void print_json(const std::vector<JudgedBundle>& bundles, const Verdict& all) {
  OrderedJson out{{"schema", "concord.judgement/1"},
                  {"verdict", all.line},
                  {"green", all.green},
                  {"exit_code", all.exit},
                  {"bundles", OrderedJson::array()}};
  for (const JudgedBundle& b : bundles) out["bundles"].push_back(bundle_json_of(b));
  fmt::print("{}\n", out.dump(2, ' ', false, OrderedJson::error_handler_t::replace));
}

// --- reports ---------------------------------------------------------------------------------------------------------

ConformanceReport report_of(const JudgedBundle& b) {
  ConformanceReport r{.verdict = b.verdict,
                      .plan = b.contents.plan,
                      .records = b.records,
                      .command = "concord judge " + b.bundle.folder,
                      .folder = b.bundle.folder,
                      .provenance = OrderedJson(b.contents.environment),
                      .notes = {basis_line(b) + "."}};
  for (const auto* lines : {&b.contradictions, &b.doubts, &b.notes})
    std::ranges::copy(*lines, std::back_inserter(r.notes));
  return r;
}

struct Renderer {
  const char* name;
  std::string (*render)(const ConformanceReport&);
};
constexpr Renderer kRenderers[] = {{"md", [](const ConformanceReport& r) { return markdown_report(r, ""); }},
                                   {"junit", junit_report}};

struct Output {
  const Renderer* renderer;
  std::string file;
};

Result<std::vector<Output>> parse_formats(const Options& o) {
  std::vector<Output> out;
  for (const std::string& argument : o.formats) {
    const std::size_t equals = std::min(argument.find('='), argument.size());
    const auto found =
        std::ranges::find_if(kRenderers, [&](const Renderer& r) { return argument.substr(0, equals) == r.name; });
    if (found == std::end(kRenderers) || equals + 1 >= argument.size())
      return fail(ErrorKind::kUsage, "judge.format",
                  fmt::format("\"{}\" is not an output; expected md=FILE or junit=FILE", printable(argument)));
    out.push_back({found, argument.substr(equals + 1)});
  }
  if (!out.empty() && o.bundles.size() > 1)
    return fail(ErrorKind::kUsage, "judge.format", "a report file is of one bundle; name one at a time");
  return out;
}

// --- what is done ----------------------------------------------------------------------------------------------------

Result<JudgeSettings> settings_of(const Options& o) {
  const std::map<std::string, Recompute> words{
      {"none", Recompute::kNone}, {"worst", Recompute::kWorst}, {"all", Recompute::kAll}};
  JudgeSettings s{.lists = o.lists,
                  .waivers = o.waivers,
                  .recompute = words.at(o.recompute),
                  .cost_limit = o.limit,
                  .today = utc_now().substr(0, 10),
                  .progress = {}};
  for (const std::string& folder : {o.lists, o.waivers})
    if (!folder.empty() && !std::filesystem::is_directory(folder))
      return fail(ErrorKind::kUsage, "judge.no_folder", "expected a folder", folder);
  if (::isatty(STDERR_FILENO))
    s.progress = [last = std::chrono::steady_clock::time_point{}](const std::string& what, std::uint64_t done,
                                                                  std::uint64_t total) mutable {
      if (const auto now = std::chrono::steady_clock::now(); now - last > std::chrono::milliseconds(100)) {
        last = now;
        fmt::print(stderr, "\r\x1b[K[{}/{}] {}", done, total, what);
        std::fflush(stderr);
      }
    };
  return s;
}

// The same run twice would count its devices twice.
Status check_different(const std::vector<JudgedBundle>& bundles) {
  std::set<std::string> journals;
  for (const JudgedBundle& b : bundles)
    if (!journals.insert(b.bundle.manifest.find("cases.jsonl")->sha256).second)
      return bad_input("judge.same_run", "another of these bundles holds the same records", b.bundle.folder);
  return {};
}

Status judge(const Options& o, Context& context) {
  CONCORD_TRY(const std::vector<Output> outputs, parse_formats(o));
  CONCORD_TRY(const JudgeSettings settings, settings_of(o));
  std::vector<JudgedBundle> bundles;
  for (const std::string& folder : o.bundles) {
    auto judged = judge_bundle(folder, settings, Context::stop());
    if (settings.progress) fmt::print(stderr, "\r\x1b[K");
    if (!judged) return std::unexpected(judged.error());
    bundles.push_back(std::move(*judged));
  }
  CONCORD_CHECK(check_different(bundles));
  const Verdict all = join_verdicts(bundles);
  for (const Output& out : outputs)
    CONCORD_CHECK(write_atomically(out.file, out.renderer->render(report_of(bundles.front()))));
  if (o.json) {
    print_json(bundles, all);
  } else {
    for (const JudgedBundle& b : bundles) print_bundle(b), print_devices(b);
    if (bundles.size() > 1) fmt::print("{}\n", all.line);
  }
  context.exit = all.exit;
  return {};
}

}  // namespace

void add_judge_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<Options>();
  CLI::App* c = root.add_subcommand("judge", "Derive every verdict of bundles again, without their devices");
  c->add_option("BUNDLE", o->bundles, "Folders that concord submit made")->required();
  c->add_option("--lists", o->lists, "Folder with further required lists (*.lock) to trust");
  c->add_option("--waivers", o->waivers, "Folder with further waivers (*.json) to trust");
  c->add_option("--recompute", o->recompute,
                "What to compute again where no outputs are saved: none, worst (first and worst element, cheap cases), "
                "all (of every case)")
      ->check(CLI::IsMember({"none", "worst", "all"}))
      ->capture_default_str();
  c->add_option("--limit", o->limit, "With worst: flops plus bytes of the dearest case to compute again")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--format", o->formats, "Reports, repeatable: md=FILE, junit=FILE")->allow_extra_args(false);
  c->add_flag("--json", o->json, "Print the judgement as JSON");
  c->footer(
      "Exit status: 0 green, 1 red or contradictory, 2 malformed or changed bundle, 5 nothing or not all that is "
      "required (PARTIAL).");
  c->callback([o, &context] {
    if (const Status s = judge(*o, context); !s) context.fail(s.error());
  });
}

}  // namespace concord::cli
