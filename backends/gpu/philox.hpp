// Random bits by counter on the device: the low 64 bits of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once
#include "gpu/runtime.hpp"

namespace CONCORD_GPU {

// Counter (id, 0, position, 0), key `seed`.
GPU_DEVICE std::uint64_t philox(std::uint64_t seed, unsigned position, unsigned id) {
  std::uint32_t c0 = id, c1 = 0, c2 = position, c3 = 0;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
    c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(b);
    c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return static_cast<std::uint64_t>(c1) << 32 | c0;
}

// In (0, 1), never one of them: the upper 52 bits and a half, exact in double.
GPU_DEVICE double uniform_of(std::uint64_t bits) { return (static_cast<double>(bits >> 12) + 0.5) * (1.0 / 4503599627370496.0); }

}  // namespace CONCORD_GPU
