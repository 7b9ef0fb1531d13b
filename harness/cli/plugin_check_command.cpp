// `concord plugin-check`: what a plug-in must get right before any number of it is worth judging
// (docs/plugin-check.md).
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "base/json.hpp"
#include "base/text.hpp"
#include "cli/command.hpp"
#include "device/plugin_check.hpp"

namespace concord::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string file, only;
  bool json = false, list = false, allow_no_device = false;
  double timeout = 60;
};

struct Counts {
  std::size_t ok = 0, warn = 0, fail = 0, skipped = 0, without_device = 0;
};
Counts count(const std::vector<PluginCheckResult>& results) {
  Counts c;
  for (const PluginCheckResult& r : results) {
    std::size_t* const by_verdict[] = {&c.ok, &c.warn, &c.fail, &c.skipped};
    ++*by_verdict[static_cast<int>(r.verdict)];
    c.without_device += r.no_device;
  }
  return c;
}

Status check_file(const std::string& file) {
  std::error_code ec;
  if (!fs::exists(file, ec))
    return fail(ErrorKind::kIo, "file.not_found",
                "there is no such file; expected a plug-in, libconcord_backend_NAME.so", file);
  if (!fs::is_regular_file(file, ec))
    return fail(ErrorKind::kIo, "file.not_regular", "it is not a regular file; expected a plug-in", file);
  return {};
}

void list_checks() {
  for (const PluginCheck& c : plugin_checks())
    fmt::print("{:<16}{}{}\n", c.name, c.proves, c.needs_device ? "" : " (needs no device)");
}

// In this very process: what the others are started as, and what a debugger can be put around.
void run_one(const Options& options, Context& context) {
  const auto check = find_plugin_check(options.only);
  if (!check) return context.fail(check.error());
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a check that hangs must not outlive the program that watches it
  // The protocol keeps the real standard output to itself; whatever a library prints goes to standard error.
  std::FILE* out = ::fdopen(::dup(STDOUT_FILENO), "w");
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  const PluginCheckResult r = run_plugin_check_here(**check, fs::absolute(options.file).string(), out);
  std::fclose(out);
  context.exit = r.verdict == CheckVerdict::kFail ? exit_codes::kConformance : exit_codes::kOk;
}

void print_result(const PluginCheckResult& r) {
  fmt::print("{:<8}{:<16}{}\n", verdict_name(r.verdict), r.name,
             r.detail.empty() ? r.proves : printable(r.detail, 2000));
  std::fflush(stdout);
}

OrderedJson report(const std::string& file, const std::vector<PluginCheckResult>& results, const Counts& c, int exit) {
  OrderedJson j = {{"schema", "concord.plugin-check/1"}, {"file", file}, {"checks", OrderedJson::array()}};
  for (const PluginCheckResult& r : results)
    j["checks"].push_back({{"name", r.name},
                           {"proves", r.proves},
                           {"verdict", verdict_name(r.verdict)},
                           {"detail", r.detail},
                           {"no_device", r.no_device},
                           {"seconds", r.seconds}});
  j["ok"] = c.ok, j["warn"] = c.warn, j["fail"] = c.fail, j["skipped"] = c.skipped, j["exit"] = exit;
  return j;
}

std::string summary(const Counts& c, const std::string& file) {
  const std::size_t total = c.ok + c.warn + c.fail + c.skipped;
  const char* color = c.fail ? "RED" : c.skipped ? "INCOMPLETE" : "GREEN";
  std::string text =
      fmt::format("{}: {} executed of {} checks on {}: {} ok, {} with warnings, {} failed, {} skipped", color,
                  total - c.skipped, total, fs::path(file).filename().string(), c.ok, c.warn, c.fail, c.skipped);
  if (c.without_device)
    text += fmt::format("\nNO DEVICE IS AVAILABLE: {} checks need one, so that the plug-in's work was not looked at",
                        c.without_device);
  return text;
}

void run_all(const Options& options, Context& context) {
  const std::string file = fs::absolute(options.file).string();
  const PluginCheckSettings settings{context.program,
                                     std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout * 1000))};
  const auto results = run_plugin_checks(file, settings, Context::stop(), [&](const PluginCheckResult& r) {
    if (!options.json) print_result(r);
  });
  if (!results) return context.fail(results.error());
  const Counts c = count(*results);
  if (c.fail)
    context.exit = exit_codes::kConformance;
  else if (c.ok + c.warn == 0 || (c.without_device && !options.allow_no_device))
    context.exit = exit_codes::kNothingRun;
  if (options.json)
    fmt::print("{}\n",
               report(file, *results, c, context.exit).dump(2, ' ', false, OrderedJson::error_handler_t::replace));
  else
    fmt::print("{}\n", summary(c, file));
}

}  // namespace

void add_plugin_check_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand(
      "plugin-check",
      "Check a backend plug-in: loading, versions, leaks, NULL, refusals; each check in a process of its own");
  command->add_option("file", options->file, "The plug-in: libconcord_backend_NAME.so");
  command->add_option("--only", options->only, "One check by name, in this very process: for a debugger");
  command->add_option("--timeout", options->timeout, "Seconds that one check may take")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  command->add_flag("--allow-no-device", options->allow_no_device,
                    "Exit 0 although no device is available and only the table was checked");
  command->add_flag("--json", options->json, "One JSON document on standard output");
  command->add_flag("--list", options->list, "The checks and what they prove");
  command->callback([options, &context] {
    if (options->list) return list_checks();
    if (options->file.empty())
      return context.fail(Error{
          ErrorKind::kUsage, "plugin_check.no_file", "no plug-in is named: concord plugin-check FILE.so", {}, {}});
    if (const Status s = check_file(options->file); !s) return context.fail(s.error());
    options->only.empty() ? run_all(*options, context) : run_one(*options, context);
  });
}

}  // namespace concord::cli
