#include "base/line_server.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace concord {

void die_with_parent() { ::prctl(PR_SET_PDEATHSIG, SIGKILL); }

bool write_line(int fd, std::string line) {
  line += '\n';
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd, line.data() + done, line.size() - done);
    if (n <= 0 && errno != EINTR) return false;
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  return true;
}

void serve_lines(int in, int out, const std::function<std::string(const std::string& line)>& answer) {
  std::string pending;
  char chunk[65536];
  for (ssize_t n = 0; (n = ::read(in, chunk, sizeof chunk)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    pending.append(chunk, static_cast<std::size_t>(n));
    for (std::size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1))
      if (!write_line(out, answer(pending.substr(0, end)))) return;
  }
}

}  // namespace concord
