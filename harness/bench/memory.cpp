#include "bench/memory.hpp"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace concord::bench {
namespace {

std::uint64_t field(std::string_view status, std::string_view name) {
  const std::size_t at = status.find(fmt::format("\n{}:", name));
  if (at == std::string_view::npos) return 0;
  const std::size_t digits = status.find_first_of("0123456789", at + name.size() + 2);
  if (digits == std::string_view::npos) return 0;
  std::uint64_t kib = 0;
  std::from_chars(status.data() + digits, status.data() + status.size(), kib);
  return kib * 1024;
}

}  // namespace

Memory parse_memory(std::string_view status) {
  return {.peak = field(status, "VmHWM"),
          .resident = field(status, "VmRSS"),
          .anonymous = field(status, "RssAnon"),
          .file_backed = field(status, "RssFile") + field(status, "RssShmem")};
}

Memory read_memory() {
  std::ifstream in("/proc/self/status");
  return parse_memory(std::string(std::istreambuf_iterator<char>(in), {}));
}

bool reset_peak_memory() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return out.good();
}

}  // namespace concord::bench
