// The noise of SAMPLE, as concord_backend.h defines it, for devices that compute on the host. Header-only C++20.
#pragma once
#include <cmath>
#include <cstdint>

#include "abi/concord_validate.hpp"

namespace concord_abi {

// The low 64 bits of Philox4x32-10 (Salmon et al., SC 2011) for the counter (id, position) and the key `seed`.
inline std::uint64_t philox_bits(std::uint64_t seed, std::uint64_t position, std::uint64_t id) {
  std::uint32_t c[4] = {static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32),
                        static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32)};
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, c[1] = static_cast<std::uint32_t>(b);
    c[2] = static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1, c[3] = static_cast<std::uint32_t>(a);
  }
  return std::uint64_t{c[1]} << 32 | c[0];
}

// In (0, 1), never one of them: the upper 52 bits and a half.
inline double uniform_of(std::uint64_t bits) { return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52; }

inline double gumbel(std::uint64_t seed, std::int32_t position, std::uint64_t id) {
  const auto at = static_cast<std::uint32_t>(position);
  return -std::log(-std::log(uniform_of(philox_bits(seed, at, id))));
}

// The best candidate so far. Candidates come with rising index; among equals the first stays.
struct BestCandidate {
  double score = 0;
  std::int32_t index = -1;  // none yet
  void take(double s, std::int32_t i) {
    if (index < 0 || before(s, score)) score = s, index = i;
  }
};

inline constexpr std::int64_t kPositionLimit = std::int64_t{1} << 31;  // every I32 that is not negative is a position

}  // namespace concord_abi
