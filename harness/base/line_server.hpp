// The other end of ChildProcess: a process that answers lines.
#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace concord {

// Writes one line; false when nobody reads any more.
bool write_line(int fd, std::string line);

// Answers each line of `in` with one line on `out`, until `in` is closed or nobody reads.
void serve_lines(int in, int out, const std::function<std::string(const std::string& line)>& answer);
// To be called first: a worker never outlives the run that started it.
void die_with_parent();

}  // namespace concord
