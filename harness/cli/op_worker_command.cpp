// `concord op-worker`: internal. Serves operator cases on one device, or resolves names of devices, over its standard streams (docs/workers.md).
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "base/child_process.hpp"
#include "base/line_server.hpp"
#include "cli/command.hpp"
#include "cli/op_devices.hpp"
#include "conformance/run/session.hpp"

namespace concord::cli {
namespace {

struct Options {
  conformance::OpWorkerKey key;
  int input_fd = -1, output_fd = -1;
  bool resolve = false;
  CaseArguments arguments;
};

std::string resolve(const CaseArguments& arguments) {
  const auto devices = choose_case_devices(Backends::discover(), arguments);
  if (devices) return Json{{"devices", *devices}}.dump();
  const Error& e = devices.error();
  return Json{{"error", {{"kind", static_cast<int>(e.kind)}, {"code", e.code}, {"message", e.message}}}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<std::vector<std::string>> resolve_devices(const std::string& program, const CaseArguments& arguments) {
  std::vector<std::string> line{program, "op-worker", "--resolve"};
  for (const std::string& name : arguments.backends) line.insert(line.end(), {"--backends", name});
  CONCORD_TRY(const auto process, ChildProcess::start(line));
  std::string reply;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  const auto received = process->receive(reply, deadline, Context::stop(), 1u << 20);
  if (received == ChildProcess::Received::kStopped) return fail(ErrorKind::kInterrupted, "session.interrupted", "interrupted while looking for devices");
  if (received == ChildProcess::Received::kEnded)
    return fail(ErrorKind::kInternal, "device.search_crashed",
                "looking for devices failed: the process that loads the plug-ins " + process->end().to_string() + "; `concord doctor` names the plug-ins");
  if (received != ChildProcess::Received::kLine) return fail(ErrorKind::kInternal, "device.search_hangs", "looking for devices took more than two minutes");
  CONCORD_TRY(const Json json, parse_json(reply, "reply", "device"));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, "reply", "device"));
  if (!f.has("error")) return f.strings("devices");
  CONCORD_TRY(const JsonFields e, f.object("error"));
  CONCORD_TRY(const std::int64_t kind, e.integer("kind", 0, static_cast<int>(ErrorKind::kInternal)));
  CONCORD_TRY(const std::string code, e.string("code"));
  CONCORD_TRY(const std::string message, e.string("message"));
  return fail(static_cast<ErrorKind>(kind), code, message);
}

void add_op_worker_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("op-worker", "Internal: serve operator cases on one device on the standard streams");
  command->group("");  // not in the help
  command->add_option("--device", o->key.device);
  command->add_option("--threads", o->key.threads);
  command->add_option("--input-fd", o->input_fd);
  command->add_option("--output-fd", o->output_fd);
  command->add_flag("--resolve", o->resolve);
  add_device_option(*command, o->arguments);
  command->callback([o, &context] {
    std::signal(SIGINT, SIG_IGN);  // the parent decides when a worker ends
    // The protocol keeps the real standard output to itself; whatever a library prints goes to standard error.
    const int protocol = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    if (o->resolve) {
      write_line(protocol, resolve(o->arguments));
      return;
    }
    context.exit = conformance::serve_op_worker(o->key, STDIN_FILENO, protocol, o->input_fd, o->output_fd);
  });
}

}  // namespace concord::cli
