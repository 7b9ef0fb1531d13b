// One subcommand per file. A command registers itself on the root parser; its callback prints and sets the exit code.
// This floor is the only place that prints and picks exit codes.
#pragma once
#include <CLI/CLI.hpp>
#include <atomic>

#include "base/error.hpp"

namespace concord::cli {

struct Context {
  int exit = exit_codes::kOk;
  std::string program;  // path of the running executable

  // Set by SIGINT and SIGTERM; long work looks at it and stops in order.
  static const std::atomic<bool>& stop();

  // Prints "concord: error: ..." on standard error and sets the exit code of the error's kind.
  void fail(const Error& error);
};

using AddCommand = void (*)(CLI::App& root, Context& context);

void add_judge_command(CLI::App& root, Context& context);
void add_submit_command(CLI::App& root, Context& context);
void add_bench_command(CLI::App& root, Context& context);
void add_bench_op(CLI::App& bench, Context& context);  // below bench
void add_capture_command(CLI::App& root, Context& context);
void add_checkpoint_command(CLI::App& root, Context& context);
void add_compare_command(CLI::App& root, Context& context);
void add_conform_command(CLI::App& root, Context& context);
void add_doctor_command(CLI::App& root, Context& context);
void add_inspect_command(CLI::App& root, Context& context);
void add_list_command(CLI::App& root, Context& context);
void add_op_worker_command(CLI::App& root, Context& context);  // internal: started by conform
void add_open_command(CLI::App& root, Context& context);
void add_plan_command(CLI::App& root, Context& context);
void add_plugin_check_command(CLI::App& root, Context& context);
void add_run_command(CLI::App& root, Context& context);
void add_selftest_command(CLI::App& root, Context& context);
void add_worker_command(CLI::App& root, Context& context);  // internal: started by run and capture

}  // namespace concord::cli
