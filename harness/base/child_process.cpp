#include "base/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

extern char** environ;

namespace concord {
namespace {

constexpr std::chrono::seconds kGrace{10};

struct Pipe {
  int read = -1, write = -1;
  static Result<Pipe> open() {
    int fd[2];
    if (::pipe2(fd, O_CLOEXEC) != 0) return fail(ErrorKind::kIo, "process.pipe", std::strerror(errno));
    return Pipe{fd[0], fd[1]};
  }
};

// The parent's environment with some variables replaced.
std::vector<const char*> environment_with(const std::vector<std::string>& settings) {
  std::vector<const char*> all;
  for (char** entry = environ; *entry; ++entry) {
    bool replaced = false;
    for (const std::string& s : settings)
      replaced = replaced || std::string_view(*entry).starts_with(s.substr(0, s.find('=') + 1));
    if (!replaced) all.push_back(*entry);
  }
  for (const std::string& s : settings) all.push_back(s.c_str());
  all.push_back(nullptr);
  return all;
}

Result<pid_t> spawn(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                    const Pipe& input, const Pipe& output, std::span<const int> inherited) {
  std::vector<const char*> argv;
  for (const std::string& a : arguments) argv.push_back(a.c_str());
  argv.push_back(nullptr);
  const std::vector<const char*> env = environment_with(environment);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.read, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.write, STDOUT_FILENO);
  for (const int fd : inherited)
    posix_spawn_file_actions_adddup2(&actions, fd, fd);  // onto itself: clears close-on-exec
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int code = ::posix_spawn(&pid, argv[0], &actions, &attributes, const_cast<char**>(argv.data()),
                                 const_cast<char**>(env.data()));
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0)
    return fail(ErrorKind::kInternal, "process.spawn",
                fmt::format("cannot start {}: {}", arguments[0], std::strerror(code)));
  return pid;
}

}  // namespace

std::string ProcessEnd::to_string() const {
  return signal > 0 ? fmt::format("was ended by signal {} ({})", signal, ::strsignal(signal))
                    : fmt::format("exited with code {}", exit_code);
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(const std::vector<std::string>& arguments,
                                                          std::span<const int> inherited,
                                                          const std::vector<std::string>& environment) {
  std::unique_ptr<ChildProcess> child(new ChildProcess);
  CONCORD_TRY(const Pipe input, Pipe::open());
  child->to_ = input.write;
  auto output = Pipe::open();
  if (output) child->from_ = output->read;
  Result<pid_t> pid =
      output ? spawn(arguments, environment, input, *output, inherited) : std::unexpected(output.error());
  ::close(input.read);
  if (output) ::close(output->write);
  if (!pid) return std::unexpected(std::move(pid).error());
  child->pid_ = *pid;
  return child;
}

void ChildProcess::close_pipes() {
  for (int* fd : {&to_, &from_})
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
}

void ChildProcess::kill() {
  int status = 0;
  if (pid_ > 0) {
    ::kill(-pid_, SIGKILL);  // with whatever it started itself: it leads a process group of its own
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    record_end(status);
    end_.killed_by_us = end_.signal == SIGKILL;
  }
  close_pipes();
}

// A process that has closed its output is about to end; one that does not is not waited for.
ProcessEnd ChildProcess::end() {
  const auto deadline = std::chrono::steady_clock::now() + kGrace;
  int status = 0;
  while (pid_ > 0) {
    const pid_t got = ::waitpid(pid_, &status, WNOHANG);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) {
      if (std::chrono::steady_clock::now() > deadline) return kill(), end_;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    pid_ = -1;
    if (got > 0) record_end(status);
  }
  return end_;
}

void ChildProcess::record_end(int status) {
  end_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  end_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

bool ChildProcess::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(to_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

ChildProcess::Received ChildProcess::receive(std::string& line, std::chrono::steady_clock::time_point deadline,
                                             const std::atomic<bool>& stop, std::size_t limit) {
  char chunk[65536];
  std::size_t end, searched = 0;
  while ((end = pending_.find('\n', searched)) == std::string::npos) {
    searched = pending_.size();
    if (stop) return Received::kStopped;
    if (std::chrono::steady_clock::now() > deadline) return Received::kTimeout;
    if (pending_.size() > limit) return Received::kTooLong;
    pollfd p{.fd = from_, .events = POLLIN, .revents = 0};
    if (::poll(&p, 1, 100) <= 0) continue;
    const ssize_t n = ::read(from_, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Received::kEnded;
    pending_.append(chunk, static_cast<std::size_t>(n));
  }
  line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return Received::kLine;
}

}  // namespace concord
