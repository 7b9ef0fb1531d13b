// `concord selftest`: does the harness find the faults that are planted for it? One line per fault, and green only when
// every one was found and the faultless control passed everything.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/file.hpp"
#include "cli/command.hpp"
#include "conformance/run/selftest.hpp"
#include "conformance/suite/suite.hpp"

namespace concord::cli {
namespace {

namespace fs = std::filesystem;
using namespace conformance;

struct Options {
  std::vector<std::string> faults, operators;
  std::string tier = "smoke", plugins, json, markdown;
  bool list = false, all = false;
  double timeout = 5;  // seconds for one case: what hangs costs this much
};

// Where the build and the installation put the plug-in: a folder that no normal search looks into.
std::string plugin_folder(const Options& options, const Context& context) {
  if (!options.plugins.empty()) return options.plugins;
  const fs::path bin = fs::path(context.program).parent_path();
  std::error_code ec;
  const fs::path installed = bin.parent_path() / "lib" / "concord" / "selftest";
  return fs::exists(bin / "selftest", ec) ? (bin / "selftest").string() : installed.string();
}

SessionSettings session_settings(const Options& options, const Context& context,
                                 const std::vector<std::string>& devices, const std::string& folder) {
  SessionSettings s;
  s.program = context.program;
  s.devices = devices;
  s.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout * 1000));
  s.save = Save::kNone;
  s.backend_path = folder;
  s.today = "9999-12-31";  // there are no waivers
  for (const std::string& device : devices) s.witness.emplace_back(device, kMutantWitness);
  return s;
}

void print_fault(const FaultReport& f) {
  std::uint64_t cases = 0, red = 0;
  for (const FaultCell& c : f.cells) cases += c.cases, red += c.red;
  if (f.killed()) {
    const FaultCell& first = f.cells.front();
    fmt::print("killed    {:<24}{} of {} cases red on {} operator{}; first by {}: {}\n", f.fault.name, red, cases,
               f.cells.size(), f.cells.size() == 1 ? "" : "s", first.first_check, first.first_case);
    return;
  }
  fmt::print("SURVIVED  {:<24}{}\n", f.fault.name, f.fault.what);
  for (const FaultCell& c : f.cells)
    if (!c.killed) fmt::print("          on {}: none of {} cases red\n", c.op, c.cases);
}

void print_report(const SelftestReport& report) {
  for (const FaultReport& f : report.faults) print_fault(f);
  fmt::print("control   {:<24}{} of {} cases passed\n", "honest", report.control_cases - report.false_alarms.size(),
             report.control_cases);
  for (const std::string& alarm : report.false_alarms) fmt::print("          FALSE ALARM {}\n", alarm);
  const double rate = report.faults.empty()
                          ? 0
                          : 100.0 * static_cast<double>(report.killed()) / static_cast<double>(report.faults.size());
  fmt::print("{}: {} of {} planted faults killed ({:.1f} %), {} false alarms in {} cases of the control\n",
             report.green() ? "GREEN" : "RED", report.killed(), report.faults.size(), rate, report.false_alarms.size(),
             report.control_cases);
}

Result<SelftestReport> report_of(const Options& options, Context& context, const std::string& folder,
                                 const std::vector<PlantedFault>& faults) {
  Selection selection;
  CONCORD_TRY(selection.tier, tier_from_name(options.tier));
  selection.operators = options.operators;
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  CONCORD_TRY(const std::vector<PlannedCase> plan, select(suite, selection));
  const CaseRunner run = [&](const std::vector<PlannedCase>& cases, const std::vector<std::string>& devices) {
    return run_cases(cases, {}, session_settings(options, context, devices, folder), {}, Context::stop());
  };
  SelftestSettings settings{.tier = selection.tier, .first_cases = options.all ? std::size_t{0} : std::size_t{16}};
  if (isatty(STDERR_FILENO))
    settings.before = [](const std::string& op, std::size_t cases, std::size_t devices) {
      fmt::print(stderr, "{}: {} cases, {} faults and the control\n", op, cases, devices);
    };
  return run_selftest(plan, faults, settings, run);
}

// The faults as far as they touch the operators that were asked for.
std::vector<PlantedFault> restricted(std::vector<PlantedFault> faults, const std::vector<std::string>& operators) {
  if (operators.empty()) return faults;
  for (PlantedFault& f : faults)
    std::erase_if(f.operators,
                  [&](const std::string& op) { return std::ranges::find(operators, op) == operators.end(); });
  std::erase_if(faults, [](const PlantedFault& f) { return f.operators.empty(); });
  return faults;
}

Status selftest(const Options& options, Context& context) {
  const std::string folder = plugin_folder(options, context);
  const Backends backends = Backends::discover(std::vector<std::string>{folder});
  for (const PluginFailure& f : backends.failures()) fmt::print(stderr, "concord: {}: {}\n", f.path, f.why);
  CONCORD_TRY(std::vector<PlantedFault> faults, planted_faults(backends.devices(), options.faults));
  faults = restricted(std::move(faults), options.operators);
  if (options.list) {
    for (const PlantedFault& f : faults) fmt::print("{:<24}{}\n", f.name, f.what);
    return {};
  }
  CONCORD_TRY(const SelftestReport report, report_of(options, context, folder, faults));
  print_report(report);
  if (!options.json.empty()) CONCORD_CHECK(write_atomically(options.json, to_json(report).dump(2) + "\n"));
  if (!options.markdown.empty()) CONCORD_CHECK(write_atomically(options.markdown, kill_table(report)));
  context.exit = report.green() ? exit_codes::kOk : exit_codes::kConformance;
  return {};
}

}  // namespace

void add_selftest_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand(
      "selftest",
      "Test the harness by planted faults: each must turn a required case of every operator that it touches red");
  command->add_option("--fault", options->faults, "Only these faults (see --list)")->delimiter(',');
  command->add_option("--op", options->operators, "Only these operators")->delimiter(',');
  command->add_option("--tier", options->tier, "Cases: smoke, full or nightly")->capture_default_str();
  command->add_option("--json", options->json, "Write the report as JSON");
  command->add_option("--markdown", options->markdown, "Write the kill table as Markdown");
  command->add_option("--plugins", options->plugins,
                      "Folder of the plug-in with the faults (default: selftest beside the program)");
  command->add_option("--timeout", options->timeout, "Seconds for one case")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  command->add_flag("--all", options->all, "Every fault meets every case, also where it was already found");
  command->add_flag("--list", options->list, "Only list the faults");
  command->callback([options, &context] {
    if (const Status s = selftest(*options, context); !s) context.fail(s.error());
  });
}

}  // namespace concord::cli
