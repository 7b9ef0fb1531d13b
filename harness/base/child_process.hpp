// A child process that is spoken to in lines: one pipe to its standard input, one from its standard output, a deadline
// for every line. Knows no protocol and makes no error of its own beyond the system's; what a silence or an end means,
// the caller says.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace concord {

// How a process ended: by a signal (signal > 0) or by itself.
struct ProcessEnd {
  int signal = 0, exit_code = 0;
  bool killed_by_us = false;
  std::string to_string() const;  // "was ended by signal 11 (Segmentation fault)", "exited with code 3"
};

// Killed by the destructor.
class ChildProcess {
 public:
  // arguments[0] is the program's path. `inherited` descriptors keep their numbers in the child; all others should be
  // close-on-exec. `environment` holds NAME=VALUE settings that replace the parent's. The child is the first of its own
  // process group, so that Ctrl-C reaches the parent alone. Errors: process.pipe (kIo), process.spawn (kInternal), with
  // the system's words.
  static Result<std::unique_ptr<ChildProcess>> start(const std::vector<std::string>& arguments,
                                                     std::span<const int> inherited = {},
                                                     const std::vector<std::string>& environment = {});
  ~ChildProcess() { kill(); }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool alive() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  // False when the child reads no more; then end() says why.
  bool send(std::string_view text);

  enum class Received { kLine, kStopped, kTimeout, kTooLong, kEnded };
  // Waits for one line, without its newline. Looks at `stop` ten times a second. After anything but kLine and kEnded
  // the child still runs.
  Received receive(std::string& line, std::chrono::steady_clock::time_point deadline, const std::atomic<bool>& stop,
                   std::size_t limit);

  void kill();       // SIGKILL, and waits; nothing to do when it has ended
  ProcessEnd end();  // waits for the child to end by itself, ten seconds at most, then kills it; the same answer again afterwards

 private:
  ChildProcess() = default;
  void close_pipes();
  void record_end(int status);
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string pending_;
  ProcessEnd end_;
};

}  // namespace concord
