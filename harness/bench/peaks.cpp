#include "bench/peaks.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

namespace concord::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRuns = 3;                                   // the best of so many
constexpr std::uint64_t kRounds = std::uint64_t{1} << 22;  // about 15 ms of arithmetic a run

constexpr std::size_t kLeastBuffer = std::size_t{512} << 20;

std::atomic<std::uint64_t> consumed{0};  // results go here, so that no loop can be left out

struct DeviceRow {
  const char* device;
  DType activations;
  Arithmetic arithmetic;
};
// cpu:bf16 uses its dot product where activations are bf16, and f32 arithmetic else. 16-bit activations elsewhere are
// widened to f32.
constexpr DeviceRow kDevices[] = {
    {"cpu:strict", DType::kF32, Arithmetic::kSse2},    {"cpu:strict", DType::kF16, Arithmetic::kSse2},
    {"cpu:strict", DType::kBF16, Arithmetic::kSse2},   {"cpu:avx2", DType::kF32, Arithmetic::kAvx2},
    {"cpu:avx2", DType::kF16, Arithmetic::kAvx2},      {"cpu:avx2", DType::kBF16, Arithmetic::kAvx2},
    {"cpu:avx512", DType::kF32, Arithmetic::kAvx512},  {"cpu:avx512", DType::kF16, Arithmetic::kAvx512},
    {"cpu:avx512", DType::kBF16, Arithmetic::kAvx512}, {"cpu:bf16", DType::kF32, Arithmetic::kAvx512},
    {"cpu:bf16", DType::kF16, Arithmetic::kAvx512},    {"cpu:bf16", DType::kBF16, Arithmetic::kAvx512Bf16},
};

// The part of n bytes that thread t of `threads` reads; parts begin at multiples of a page.
std::pair<std::size_t, std::size_t> part(std::size_t n, unsigned t, unsigned threads) {
  constexpr std::size_t kPage = 4096;
  const std::size_t share = (n / threads + kPage - 1) / kPage * kPage, begin = std::min(n, t * share);
  return {begin, t + 1 == threads ? n - begin : std::min(share, n - begin)};
}

std::uint64_t huge_page_bytes() {
  std::ifstream in("/proc/self/smaps_rollup");
  for (std::string word; in >> word;) {
    std::uint64_t kib = 0;
    if (word == "AnonHugePages:" && in >> kib) return kib * 1024;
  }
  return 0;
}

// Anonymous memory, touched, in huge pages where the kernel gives them. Empty where memory is short.
class ReadBuffer {
 public:
  ReadBuffer(std::size_t bytes, unsigned threads) {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return;
    data_ = static_cast<std::byte*>(p), size_ = bytes;
    ::madvise(p, bytes, MADV_HUGEPAGE);
    run_together(threads, [&](unsigned t) {
      const auto [begin, length] = part(size_, t, threads);
      std::memset(data_ + begin, 1, length);
    });
  }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;
  ~ReadBuffer() {
    if (data_) ::munmap(data_, size_);
  }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A quarter of the memory at most: a virtual machine may report the cache of a whole package.
std::size_t buffer_bytes() {
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE), pages = ::sysconf(_SC_PHYS_PAGES),
             page = ::sysconf(_SC_PAGESIZE);
  const std::size_t wanted = std::max<std::size_t>(kLeastBuffer, cache > 0 ? 4 * static_cast<std::size_t>(cache) : 0);
  return pages > 0 && page > 0 ? std::min(wanted, static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) / 4)
                               : wanted;
}

double best_read(std::span<const std::byte> bytes, unsigned threads) {
  double best = 0;
  for (int i = 0; i < kRuns; ++i)
    best = std::max(best, static_cast<double>(bytes.size()) / read_in_turn({&bytes, 1}, threads));
  return best;
}

}  // namespace

std::optional<Arithmetic> arithmetic_of(const std::string& device_id, DType activations) {
  for (const DeviceRow& row : kDevices)
    if (device_id == row.device && activations == row.activations && processor_has(row.arithmetic))
      return row.arithmetic;
  return {};
}

double run_together(unsigned threads, const std::function<void(unsigned)>& body) {
  const auto seconds = [](Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double>(b - a).count();
  };
  if (threads <= 1) {
    const auto start = Clock::now();
    body(0);
    return seconds(start, Clock::now());
  }
  std::vector<Clock::time_point> starts(threads), ends(threads);
  std::barrier gate(static_cast<std::ptrdiff_t>(threads));
  std::vector<std::jthread> team;
  for (unsigned t = 0; t < threads; ++t)
    team.emplace_back([&, t] {
      gate.arrive_and_wait();
      starts[t] = Clock::now();
      body(t);
      ends[t] = Clock::now();
    });
  team.clear();
  return seconds(std::ranges::min(starts), std::ranges::max(ends));
}

double measure_flops(Arithmetic a, unsigned threads) {
  const FlopsKernel kernel = flops_kernel(a);
  double best = 0;
  for (int i = 0; i < kRuns; ++i) {
    const double seconds = run_together(threads, [&](unsigned) {
      const float sum = kernel.run(kRounds, 0.999f, 0.001f);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &sum, sizeof bits);
      consumed.fetch_xor(bits, std::memory_order_relaxed);
    });
    best = std::max(best, kernel.flops_per_round * static_cast<double>(kRounds) * threads / seconds);
  }
  return best;
}

double read_in_turn(std::span<const std::span<const std::byte>> ranges, unsigned threads) {
  return run_together(threads, [&](unsigned t) {
    for (const auto& range : ranges) {
      const auto [begin, length] = part(range.size(), t, threads);
      const std::byte* at = range.data() + begin;
      consumed.fetch_xor(read_streams(&at, 1, length), std::memory_order_relaxed);
    }
  });
}

double read_side_by_side(std::span<const std::byte> a, std::span<const std::byte> b, unsigned threads) {
  return run_together(threads, [&](unsigned t) {
    const auto [begin, length] = part(std::min(a.size(), b.size()), t, threads);
    const std::byte* at[] = {a.data() + begin, b.data() + begin};
    consumed.fetch_xor(read_streams(at, 2, length), std::memory_order_relaxed);
  });
}

Peaks measure_peaks(std::optional<Arithmetic> arithmetic, unsigned threads) {
  Peaks p{.arithmetic = arithmetic, .threads = std::max(1u, threads)};
  if (arithmetic) p.flops = measure_flops(*arithmetic, p.threads);
  const ReadBuffer buffer(buffer_bytes(), p.threads);
  if (buffer.bytes().empty()) return p;  // no memory for it: the figures stay 0 and nothing is judged by them
  p.read_bytes = buffer.bytes().size();
  p.huge_bytes = huge_page_bytes();
  p.read_one = best_read(buffer.bytes(), 1);
  p.read = p.threads > 1 ? best_read(buffer.bytes(), p.threads) : p.read_one;
  return p;
}

Peaks larger(const Peaks& a, const Peaks& b) {
  Peaks out = a;  // of a device: the last sizes may differ where memory or time was short; the larger rate counts
  out.flops = std::max(a.flops, b.flops);
  out.read_one = std::max(a.read_one, b.read_one);
  out.read = std::max(a.read, b.read);
  out.read_bytes = std::max(a.read_bytes, b.read_bytes);
  out.huge_bytes = std::max(a.huge_bytes, b.huge_bytes);
  return out;
}

}  // namespace concord::bench
