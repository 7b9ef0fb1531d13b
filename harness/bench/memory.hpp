// This process's resident memory, as the kernel counts it.
#pragma once
#include <cstdint>
#include <string_view>

namespace concord::bench {

// All in bytes. 0 where /proc/self/status has no such line.
struct Memory {
  std::uint64_t peak = 0;         // VmHWM
  std::uint64_t resident = 0;     // VmRSS
  std::uint64_t anonymous = 0;    // RssAnon
  std::uint64_t file_backed = 0;  // RssFile + RssShmem: mapped files, also those in a memory file system
};
Memory parse_memory(std::string_view status);  // the text of /proc/self/status
Memory read_memory();

// Sets VmHWM back to the current value; false where the kernel refuses.
bool reset_peak_memory();

}  // namespace concord::bench
