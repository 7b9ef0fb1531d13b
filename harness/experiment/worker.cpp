#include "experiment/worker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>

extern char** environ;

namespace concord {
namespace {

constexpr std::size_t kMaxReply = 256u << 20;     // a reply larger than this is a defect, not data [bytes]
constexpr std::chrono::minutes kWatchdog{60};     // a job silent for this long is hung

struct Pipe {
  int read = -1, write = -1;
  static Result<Pipe> open() {
    int fd[2];
    if (::pipe2(fd, O_CLOEXEC) != 0) return fail(ErrorKind::kIo, "worker.pipe", std::strerror(errno));
    return Pipe{fd[0], fd[1]};
  }
};

Result<pid_t> spawn(const std::string& program, const WorkerKey& key, const Pipe& input, const Pipe& output) {
  const std::string threads = std::to_string(key.threads);
  const std::vector<const char*> arguments{program.c_str(), "worker",      "--device",   key.device.c_str(), "--threads", threads.c_str(),
                                           "--model",       key.model.c_str(), "--precision", key.precision.c_str(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.read, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.write, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // Ctrl-C reaches the parent alone, which ends its workers in order
  pid_t pid = -1;
  const int code = ::posix_spawn(&pid, program.c_str(), &actions, &attributes, const_cast<char**>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0) return fail(ErrorKind::kInternal, "worker.spawn", fmt::format("cannot start {}: {}", program, std::strerror(code)));
  return pid;
}

Error error_of(const Json& j) {
  Error e{.kind = static_cast<ErrorKind>(j.value("kind", static_cast<int>(ErrorKind::kInternal))),
          .code = j.value("code", "worker.error"),
          .message = j.value("message", ""),
          .file = j.value("file", ""),
          .offset = {}};
  if (j.contains("offset")) e.offset = j["offset"].get<std::uint64_t>();
  return e;
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::start(const std::string& program, const WorkerKey& key, const std::atomic<bool>& stop,
                                              const LoadingStep& loading) {
  std::unique_ptr<Worker> worker(new Worker(key, stop));
  CONCORD_TRY(const Pipe input, Pipe::open());
  worker->to_ = input.write;
  CONCORD_TRY(const Pipe output, Pipe::open());
  worker->from_ = output.read;
  const Result<pid_t> pid = spawn(program, key, input, output);
  ::close(input.read);
  ::close(output.write);
  if (!pid) return std::unexpected(pid.error());
  worker->pid_ = *pid;
  CONCORD_TRY(Json reply, worker->receive());
  while (reply.contains("loading")) {
    if (loading) loading(reply.value("loading", std::uint64_t{0}), reply.value("of", std::uint64_t{0}));
    CONCORD_TRY(reply, worker->receive());
  }
  CONCORD_TRY(const JsonFields f, JsonFields::from(reply, "reply", "worker"));
  WorkerReady& ready = worker->ready_;
  CONCORD_TRY(ready.weights_digest, f.string("weights_digest"));
  CONCORD_TRY(ready.source_digest, f.string("source_digest"));
  CONCORD_TRY(ready.load_seconds, f.number("load_seconds"));
  CONCORD_TRY(const std::int64_t bytes, f.integer("weight_bytes", 0));
  ready.weight_bytes = static_cast<std::uint64_t>(bytes);
  ready.device = f.raw("device");
  return worker;
}

Worker::~Worker() { kill(); }

void Worker::kill() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  for (int* fd : {&to_, &from_})
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
}

Error Worker::crashed() {
  int status = 0;
  std::string how = "ended";
  if (pid_ > 0 && ::waitpid(pid_, &status, 0) == pid_) {
    pid_ = -1;
    how = WIFSIGNALED(status) ? fmt::format("was ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
                              : fmt::format("exited with code {}", WEXITSTATUS(status));
  }
  return {.kind = ErrorKind::kInternal, .code = "worker.crashed",
          .message = fmt::format("the worker for {} ({}) {}", key_.device, key_.precision, how), .file = {}, .offset = {}};
}

Status Worker::send(const std::string& line) {
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(to_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::unexpected(crashed());
    done += static_cast<std::size_t>(n);
  }
  return {};
}

// Waits for one line; looks at the stop flag ten times a second.
Result<Json> Worker::receive() {
  const auto deadline = std::chrono::steady_clock::now() + kWatchdog;
  char chunk[65536];
  std::size_t end;
  while ((end = pending_.find('\n')) == std::string::npos) {
    if (stop_) {
      kill();
      return fail(ErrorKind::kInterrupted, "run.interrupted", "interrupted while a worker was busy");
    }
    if (std::chrono::steady_clock::now() > deadline || pending_.size() > kMaxReply) {
      kill();
      return fail(ErrorKind::kInternal, "worker.timeout", fmt::format("the worker for {} gave no reply in time", key_.device));
    }
    pollfd p{.fd = from_, .events = POLLIN, .revents = 0};
    if (::poll(&p, 1, 100) <= 0) continue;
    const ssize_t n = ::read(from_, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::unexpected(crashed());
    pending_.append(chunk, static_cast<std::size_t>(n));
  }
  const std::string line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  CONCORD_TRY(Json reply, parse_json(line, "reply", "worker"));
  if (reply.contains("error")) return std::unexpected(error_of(reply["error"]));
  return reply;
}

Result<RunOutcome> Worker::call(const std::string& op, const RunRequest& request) {
  if (!alive()) return std::unexpected(crashed());
  CONCORD_CHECK(send(to_json(op, request).dump() + "\n"));
  CONCORD_TRY(const Json reply, receive());
  return outcome_from_json(reply.at("outcome"));
}

Result<Worker*> WorkerPool::get(const WorkerKey& key) {
  for (auto it = workers_.begin(); it != workers_.end(); ++it) {
    if ((*it)->key() != key || !(*it)->alive()) continue;
    workers_.splice(workers_.begin(), workers_, it);
    return workers_.front().get();
  }
  std::erase_if(workers_, [](const auto& w) { return !w->alive(); });
  while (workers_.size() >= limit_) workers_.pop_back();
  CONCORD_TRY(auto worker, Worker::start(program_, key, stop_, loading_));
  workers_.push_front(std::move(worker));
  return workers_.front().get();
}

}  // namespace concord
