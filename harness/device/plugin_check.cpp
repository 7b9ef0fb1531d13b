// The table of checks, one check in this process, and all of them in processes of their own.
#include "device/plugin_check.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "base/text.hpp"
#include "device/plugin_checks.hpp"

extern char** environ;

namespace concord {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kNoDevice = "no device: ";  // opens the line of a check that was skipped for want of one
constexpr std::size_t kLongestLine = 1 << 16;

// clang-format off
constexpr PluginCheck kChecks[] = {
    {"load", "the file loads with every symbol bound at once, and answers this program's ABI version", plugin_check::check_load, true},
    {"table", "the table has its size, version, name and every entry", plugin_check::check_table, true},
    {"symbols", "every symbol that it needs comes from a library that it names", plugin_check::check_symbols},
    {"exports", "nothing is exported but the entry", plugin_check::check_exports},
    {"version", "other major versions are refused with a message, newer minor ones are served", plugin_check::check_version},
    {"entry-twice", "the entry can be called again and its table is as good", plugin_check::check_entry_twice},
    {"device-info", "devices have unique ids and texts that end; what is not available says why", plugin_check::check_device_info},
    {"older-host", "nothing is written behind a struct that an older host knows in a shorter form", plugin_check::check_older_host},
    {"open-close", "opening and closing a device leaves no memory, thread or file behind", plugin_check::check_open_close, false, true},
    {"two-devices", "two open devices do not disturb each other", plugin_check::check_two_devices, false, true},
    {"null-arguments", "NULL in any place is refused or harmless", plugin_check::check_null_arguments, false, true},
    {"buffers", "buffers are zero-filled, and absurd sizes are refused as out of memory", plugin_check::check_buffers, false, true},
    {"buffer-leaks", "buffers give everything back", plugin_check::check_buffer_leaks, false, true},
    {"copies", "copies keep every bit, and refuse what lies outside the buffer", plugin_check::check_copies, false, true},
    {"streams", "streams order copies, and give everything back", plugin_check::check_streams, false, true},
    {"weights", "malformed weights are refused", plugin_check::check_weights, false, true},
    {"weight-leaks", "weights give everything back", plugin_check::check_weight_leaks, false, true},
    {"supports", "supports says no with a reason code, and run agrees with it", plugin_check::check_supports, false, true},
    {"witness", "each call that succeeds says what ran; the witness may be NULL or shorter", plugin_check::check_witness, false, true},
    {"bad-calls", "malformed calls are refused with a message, and outputs stay as they were", plugin_check::check_bad_calls, false, true},
    {"call-leaks", "calls give everything back, accepted or refused", plugin_check::check_call_leaks, false, true},
    {"host-memory", "page-locked memory, where offered, is copied to and from bit for bit, and given back", plugin_check::check_host_memory, false, true},
    {"stream-order", "streams, where they can be ordered, wait for each other and for the default stream", plugin_check::check_stream_order, false, true},
    {"weight-digest", "digests of weights, where offered, are those of docs/weight-digest.md", plugin_check::check_weight_digest, false, true},
    {"memory", "memory in use, where counted, comes back and stays below its peak", plugin_check::check_memory, false, true},
};
// clang-format on

}  // namespace

const char* verdict_name(CheckVerdict v) {
  constexpr const char* kNames[] = {"ok", "warn", "FAIL", "skipped"};
  return kNames[static_cast<int>(v)];
}

std::span<const PluginCheck> plugin_checks() { return kChecks; }

Result<const PluginCheck*> find_plugin_check(const std::string& name) {
  std::string known;
  for (const PluginCheck& c : kChecks) {
    if (name == c.name) return &c;
    known += (known.empty() ? "" : ", ") + std::string(c.name);
  }
  return fail(ErrorKind::kUsage, "plugin_check.unknown",
              fmt::format("no check \"{}\"; there are {}", printable(name), known));
}

PluginCheckResult run_plugin_check_here(const PluginCheck& check, const std::string& file, std::FILE* out) {
  plugin_check::Probe probe(file, out);
  try {
    check.run(probe);
  } catch (const std::exception& e) {
    probe.fail(fmt::format("a C++ exception crossed the ABI at: {} ({})", probe.where(), printable(e.what(), 200)));
  } catch (...) {
    probe.fail(fmt::format("a C++ exception crossed the ABI at: {}", probe.where()));
  }
  PluginCheckResult r = probe.result();
  r.name = check.name, r.proves = check.proves;
  fmt::print(out, "{}: {}{}\n", verdict_name(r.verdict), r.no_device ? kNoDevice : "", r.detail);
  std::fflush(out);
  return r;
}

namespace {

// What a check's process said, line by line.
struct Said {
  std::string pending, where;
  std::optional<PluginCheckResult> result;
  void take(std::string_view text) {
    for (const char c : text) {
      if (c != '\n') {
        if (pending.size() < kLongestLine) pending += c;
        continue;
      }
      line(pending);
      pending.clear();
    }
  }
  void line(const std::string& text) {
    if (text.starts_with("at: ")) return void(where = text.substr(4));
    for (const CheckVerdict v : {CheckVerdict::kOk, CheckVerdict::kWarn, CheckVerdict::kFail, CheckVerdict::kSkipped}) {
      const std::string prefix = std::string(verdict_name(v)) + ": ";
      if (!text.starts_with(prefix)) continue;
      result.emplace();
      result->verdict = v, result->detail = text.substr(prefix.size());
      result->no_device = v == CheckVerdict::kSkipped && result->detail.starts_with(kNoDevice);
      if (result->no_device) result->detail.erase(0, std::strlen(kNoDevice));
    }
  }
};

struct Child {
  pid_t pid = -1;
  int out = -1;
};

Result<Child> start(const PluginCheck& check, const std::string& file, const std::string& program) {
  int fd[2];
  if (::pipe2(fd, O_CLOEXEC) != 0) return fail(ErrorKind::kIo, "plugin_check.spawn", std::strerror(errno));
  const char* arguments[] = {program.c_str(), "plugin-check", "--only", check.name, "--", file.c_str(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fd[1], STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP);  // a whole group can be killed, and Ctrl-C reaches the parent alone
  Child child{-1, fd[0]};
  const int code =
      ::posix_spawn(&child.pid, program.c_str(), &actions, &attributes, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(fd[1]);
  if (code == 0) return child;
  ::close(fd[0]);
  return fail(ErrorKind::kInternal, "plugin_check.spawn",
              fmt::format("cannot start {}: {}", program, std::strerror(code)));
}

// Everything that the pipe holds now.
void drain(int fd, Said& said) {
  std::array<char, 4096> chunk;
  for (pollfd p{fd, POLLIN, 0}; ::poll(&p, 1, 0) > 0 && (p.revents & POLLIN);) {
    const ssize_t n = ::read(fd, chunk.data(), chunk.size());
    if (n <= 0) return;
    said.take(std::string_view(chunk.data(), static_cast<std::size_t>(n)));
  }
}

enum class End { kExited, kTimeout, kStopped };
struct Ended {
  End how = End::kExited;
  int status = 0;
};

Ended wait_for(const Child& child, Clock::time_point deadline, const std::atomic<bool>& stop, Said& said) {
  constexpr int kTick = 20;  // [ms]
  Ended e;
  for (;;) {
    pollfd p{child.out, POLLIN, 0};
    ::poll(&p, 1, kTick);
    drain(child.out, said);
    if (::waitpid(child.pid, &e.status, WNOHANG) == child.pid) break;
    if (p.revents & POLLHUP) ::usleep(kTick * 1000);
    if (!stop && Clock::now() < deadline) continue;
    e.how = stop ? End::kStopped : End::kTimeout;
    ::kill(-child.pid, SIGKILL);
    ::waitpid(child.pid, &e.status, 0);
    break;
  }
  drain(child.out, said);
  ::kill(-child.pid, SIGKILL);  // what the plug-in may have started
  return e;
}

PluginCheckResult judge(const Said& said, const Ended& end, std::chrono::milliseconds timeout) {
  PluginCheckResult failed{.name = {}, .proves = {}, .verdict = CheckVerdict::kFail, .detail = {}};
  const std::string where = said.result          ? "the end of its process, after the check itself"
                            : said.where.empty() ? "its start"
                                                 : said.where;
  if (end.how == End::kTimeout)
    failed.detail = fmt::format("no answer within {} s at: {}", static_cast<double>(timeout.count()) / 1000, where);
  else if (WIFSIGNALED(end.status))
    failed.detail = fmt::format("killed by SIG{} ({}) at: {}", ::sigabbrev_np(WTERMSIG(end.status)),
                                ::strsignal(WTERMSIG(end.status)), where);
  else if (!said.result ||
           WEXITSTATUS(end.status) !=
               (said.result->verdict == CheckVerdict::kFail ? exit_codes::kConformance : exit_codes::kOk))
    failed.detail = fmt::format("its process ended with exit code {} at: {}", WEXITSTATUS(end.status), where);
  else
    return *said.result;
  if (said.result && said.result->verdict == CheckVerdict::kFail)
    failed.detail = said.result->detail + "; " + failed.detail;
  return failed;
}

}  // namespace

Result<std::vector<PluginCheckResult>> run_plugin_checks(const std::string& file, const PluginCheckSettings& settings,
                                                         const std::atomic<bool>& stop,
                                                         const std::function<void(const PluginCheckResult&)>& after) {
  std::vector<PluginCheckResult> results;
  std::string closed;  // the gate that did not open
  for (const PluginCheck& check : kChecks) {
    PluginCheckResult r;
    const auto begin = Clock::now();
    if (closed.empty()) {
      CONCORD_TRY(const Child child, start(check, file, settings.program));
      Said said;
      const Ended end = wait_for(child, begin + settings.timeout, stop, said);
      ::close(child.out);
      if (end.how == End::kStopped) return fail(ErrorKind::kInterrupted, "plugin_check.interrupted", "interrupted");
      r = judge(said, end, settings.timeout);
    } else {
      r.detail = fmt::format("the check \"{}\" failed", closed);
    }
    r.name = check.name, r.proves = check.proves;
    r.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (check.gate && r.verdict == CheckVerdict::kFail) closed = check.name;
    after(r);
    results.push_back(std::move(r));
  }
  return results;
}

}  // namespace concord
