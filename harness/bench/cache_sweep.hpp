// Emptying a device's caches between timed calls, by work of the device itself, so that it needs nothing but the C ABI
// and sweeps the private caches of exactly those processors that compute.
#pragma once
#include <cstdint>

#include "device/device.hpp"

namespace concord::bench {

// The last-level cache that the processors this process may run on share, summed over its instances [bytes]; 0 where
// the system does not say.
std::uint64_t last_level_cache();

// Bytes that a sweep must read: twice the last-level cache on a device of this processor (a cache that does not replace
// its oldest line keeps some of one pass), or kSweepElsewhere.
inline constexpr std::uint64_t kSweepElsewhere = std::uint64_t{512} << 20;
std::uint64_t sweep_bytes_for(const DeviceFacts& device);
bool runs_on_this_processor(const DeviceFacts& device);  // backends cpu and reference

// A buffer of that size, filled, which the device reads from end to end: ARGMAX of F32, BF16 or F16, which writes next to nothing,
// so that no modified lines are left for the timed call to write back.
class CacheSweep {
 public:
  // Errors: those of the device; bench.no_sweep (kUnsupported) where it has no ARGMAX.
  static Result<CacheSweep> create(Device& device, std::uint64_t bytes);
  Status run();
  std::uint64_t bytes() const { return bytes_; }  // read in one run

 private:
  Device* device_ = nullptr;
  Buffer values_, largest_;
  concord_call call_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace concord::bench
