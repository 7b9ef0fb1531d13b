#include "bench/cache_sweep.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace concord::bench {
namespace {

constexpr std::int64_t kRows = 256;  // more than a processor has cores, so that each takes part

// "32768K" -> bytes; 0 where it is something else.
std::uint64_t size_of(const std::string& text) {
  std::uint64_t number = 0;
  std::size_t at = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
    number = number * 10 + static_cast<std::uint64_t>(text[at] - '0');
  const std::string unit = text.substr(at);
  return unit == "K" ? number << 10 : unit == "M" ? number << 20 : unit.empty() ? number : 0;
}

std::string line_of(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

struct Instance {
  int level = 0;
  std::string shared;  // which processors share it: tells instances apart
  std::uint64_t bytes = 0;
};

Instance largest_cache_of(int processor) {
  Instance out;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}/cache/index{}/", processor, index);
    const std::string level = line_of(folder + "level");
    if (level.empty()) break;
    if (level[0] - '0' > out.level)
      out = {level[0] - '0', line_of(folder + "shared_cpu_list"), size_of(line_of(folder + "size"))};
  }
  return out;
}

}  // namespace

std::uint64_t last_level_cache() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  std::set<std::string> seen;
  std::uint64_t bytes = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const Instance cache = largest_cache_of(cpu);
    if (cache.bytes > 0 && seen.insert(cache.shared).second) bytes += cache.bytes;
  }
  if (bytes > 0) return bytes;
  return static_cast<std::uint64_t>(std::max(0l, ::sysconf(_SC_LEVEL3_CACHE_SIZE)));
}

bool runs_on_this_processor(const DeviceFacts& device) {
  return device.backend == "cpu" || device.backend == "reference";
}

std::uint64_t sweep_bytes_for(const DeviceFacts& device) {
  const std::uint64_t cache = runs_on_this_processor(device) ? last_level_cache() : 0;
  return cache > 0 ? 2 * cache : kSweepElsewhere;
}

namespace {

// ARGMAX over [rows, columns] of the first of these dtypes that the device takes; the buffers are still missing.
Result<concord_call> sweep_call(Device& device, std::uint64_t bytes, std::uint64_t& element) {
  Status can;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    element = dtype == DType::kF32 ? 4 : 2;
    const auto columns = static_cast<std::int64_t>((bytes + element * kRows - 1) / (element * kRows));
    concord_call call = make_call(CONCORD_OP_ARGMAX);
    call.n_in = call.n_out = 1;
    call.in[0] = tensor_of(dtype, {kRows, std::max<std::int64_t>(1, columns)}, Buffer());
    call.out[0] = tensor_of(DType::kI32, {kRows}, Buffer());
    if (can = device.supports(call); can) return call;
  }
  return fail(ErrorKind::kUnsupported, "bench.no_sweep",
              fmt::format("{} has no ARGMAX, by which its caches are swept: measure with --cache warm ({})",
                          device.facts().id, can.error().message));
}

}  // namespace

Result<CacheSweep> CacheSweep::create(Device& device, std::uint64_t bytes) {
  CacheSweep s;
  std::uint64_t element = 0;
  CONCORD_TRY(s.call_, sweep_call(device, bytes, element));
  const std::uint64_t row = static_cast<std::uint64_t>(s.call_.in[0].dims[1]) * element;
  s.device_ = &device, s.bytes_ = row * kRows;
  CONCORD_TRY(s.values_, device.allocate(s.bytes_));
  CONCORD_TRY(s.largest_, device.allocate(kRows * sizeof(std::int32_t)));
  s.call_.in[0].buffer = s.values_.get(), s.call_.out[0].buffer = s.largest_.get();
  // Memory that was never written may be one page of zeros, mapped everywhere, which no cache would notice. These bytes
  // are a small positive number in each of the dtypes.
  const std::vector<std::byte> numbers(row, std::byte{0x3c});
  for (std::uint64_t i = 0; i < kRows; ++i) CONCORD_CHECK(device.upload(s.values_, i * row, numbers));
  return s;
}

Status CacheSweep::run() {
  CONCORD_CHECK(device_->run(call_));
  return device_->synchronize();
}

}  // namespace concord::bench
