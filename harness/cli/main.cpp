// The concord program: a table of subcommands.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "cli/command.hpp"
#include "device/provenance.hpp"

namespace concord::cli {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "the flag is set from a signal handler");

void on_signal(int) {
  if (stop_requested.exchange(true)) std::_Exit(exit_codes::kInterrupted);  // a second Ctrl-C does not wait
}

constexpr AddCommand kCommands[] = {add_judge_command,   add_submit_command,
                                    add_run_command,     add_capture_command, add_compare_command,    add_inspect_command,
                                    add_open_command,    add_doctor_command,  add_checkpoint_command, add_worker_command,
                                    add_bench_command,   add_list_command,    add_plan_command,       add_conform_command,
                                    add_op_worker_command, add_plugin_check_command, add_selftest_command};

int run(int argc, char** argv) {
  Context context;
  std::error_code ignored;
  context.program = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  CLI::App app("Concord: do these machines run the same model?", "concord");
  const ProgramVersion& v = program_version();
  app.set_version_flag("--version", fmt::format("concord {} ({}, {}, {})", v.version, v.commit, v.compiler, v.build_type));
  app.require_subcommand(1);
  app.footer("Exit codes: 0 as required, 1 conformance failure, 2 usage or bad input, 3 required backend missing,\n"
             "5 nothing or too little executed, 6 inconclusive, 130 interrupted. See docs/exit-codes.md.");
  for (const AddCommand add : kCommands) add(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? exit_codes::kOk : exit_codes::kBadInput;
  }
  return context.exit;
}

}  // namespace

const std::atomic<bool>& Context::stop() { return stop_requested; }

void Context::fail(const Error& error) {
  std::fflush(stdout);
  fmt::print(stderr, "concord: error: {}\n", error.to_string());
  exit = exit_code(error.kind);
}

}  // namespace concord::cli

int main(int argc, char** argv) {
  struct sigaction action {};
  action.sa_handler = concord::cli::on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return concord::cli::run(argc, argv);
  } catch (const std::exception& e) {  // only memory exhaustion and defects arrive here
    fmt::print(stderr, "concord: internal error: {}\n", e.what());
    return concord::exit_codes::kInternal;
  }
}
