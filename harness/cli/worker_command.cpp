// `concord worker`: internal. Serves one device with one model over its standard streams (docs/workers.md).
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "cli/command.hpp"
#include "experiment/worker.hpp"

namespace concord::cli {

void add_worker_command(CLI::App& root, Context& context) {
  auto key = std::make_shared<WorkerKey>();
  CLI::App* command = root.add_subcommand("worker", "Internal: serve one device with one model on the standard streams");
  command->group("");  // not in the help
  command->add_option("--device", key->device)->required();
  command->add_option("--threads", key->threads);
  command->add_option("--model", key->model)->required();
  command->add_option("--precision", key->precision)->required();
  command->callback([key, &context] {
    std::signal(SIGINT, SIG_IGN);  // the parent decides when a worker ends
    // The protocol keeps the real standard output to itself; whatever a library prints goes to standard error.
    const int protocol = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    context.exit = serve_worker(*key, STDIN_FILENO, protocol);
  });
}

}  // namespace concord::cli
