// What this processor, or a device, can do, measured in this process in the same minute as what is judged by it.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/dtype.hpp"
#include "bench/peak_kernels.hpp"

namespace concord::bench {

// The arithmetic whose peak a device's matrix products are measured against; none for a device that does not run on
// this processor or whose arithmetic has no peak here (reference, cuda, hip).
std::optional<Arithmetic> arithmetic_of(const std::string& device_id, DType activations);

double measure_flops(Arithmetic a,
                     unsigned threads);  // floating-point operations per second [1/s]; the processor must have it

// Seconds from the common start of all threads until the last one is done.
double run_together(unsigned threads, const std::function<void(unsigned thread)>& body);

// Reads the same ranges with `threads` threads, each its own part; seconds. Both orders of reading: one range after the
// other, and (two ranges of one size) side by side, as a comparison reads.
double read_in_turn(std::span<const std::span<const std::byte>> ranges, unsigned threads);
double read_side_by_side(std::span<const std::byte> a, std::span<const std::byte> b, unsigned threads);

struct Peaks {
  std::optional<Arithmetic> arithmetic;
  unsigned threads = 1;
  double flops = 0;               // on `threads` threads [1/s]; 0 without arithmetic
  double read_one = 0, read = 0;  // on one and on `threads` threads [bytes/s]
  std::uint64_t read_bytes = 0;   // size of the buffer that was read
  std::uint64_t huge_bytes =
      0;  // of this process's memory then in huge pages (AnonHugePages); they are asked for with madvise
  // Of a device with memory of its own (device_peaks.hpp), where `read` counts reads and writes: its id, and what was
  // timed. Empty: this processor.
  std::string device, matmul, copy;
};
// Each figure is the best of a few runs. The buffer lives during the call only: 512 MiB or four times the last-level
// cache, whichever is larger, but at most a quarter of the memory.
Peaks measure_peaks(std::optional<Arithmetic> arithmetic, unsigned threads);
Peaks larger(const Peaks& a, const Peaks& b);  // figure by figure

}  // namespace concord::bench
