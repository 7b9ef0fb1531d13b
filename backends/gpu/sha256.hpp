// SHA-256 (FIPS 180-4) in code that runs on a GPU's thread and on the host alike.
#pragma once
#include "gpu/tile.hpp"

namespace CONCORD_GPU {

struct Sha256State {
  std::uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
};

GPU_BOTH std::uint32_t rotated(std::uint32_t v, unsigned n) { return v >> n | v << (32 - n); }

// One message of 16 words; the words are used up.
GPU_BOTH void sha256_message(Sha256State& state, std::uint32_t (&w)[16]) {
  const std::uint32_t constants[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  std::uint32_t a = state.h[0], b = state.h[1], c = state.h[2], d = state.h[3], e = state.h[4], f = state.h[5],
                g = state.h[6], h = state.h[7];
  GPU_UNROLL
  for (unsigned i = 0; i < 64; ++i) {
    if (i >= 16) {
      const std::uint32_t x = w[(i + 1) % 16], y = w[(i + 14) % 16];
      w[i % 16] +=
          (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) + w[(i + 9) % 16] + (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
    }
    const std::uint32_t one =
        h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i % 16];
    const std::uint32_t two = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
  }
  state.h[0] += a, state.h[1] += b, state.h[2] += c, state.h[3] += d, state.h[4] += e, state.h[5] += f, state.h[6] += g,
      state.h[7] += h;
}

// A string of bytes in rows every `pitch` bytes, their padding left out. Where the rows are dense, data is 16-byte
// aligned.
struct ByteRows {
  const std::byte* data;
  std::uint64_t count, row_bytes, pitch;

  GPU_BOTH bool dense() const { return row_bytes == pitch; }
  GPU_BOTH std::uint32_t at(std::uint64_t i) const {
    return static_cast<std::uint32_t>(dense() ? data[i] : data[i / row_bytes * pitch + i % row_bytes]);
  }
};

GPU_BOTH std::uint32_t reversed(std::uint32_t v) { return v >> 24 | (v >> 8 & 0xff00u) | (v & 0xff00u) << 8 | v << 24; }

// The words of a message that ends the string, or whose bytes do not lie side by side: `count` bytes from `first` on,
// then one bit, zeros and the length.
GPU_BOTH void gather_message(const ByteRows& s, std::uint64_t first, std::uint32_t count, std::uint32_t m,
                             std::uint32_t (&w)[16]) {
  GPU_UNROLL
  for (unsigned i = 0; i < 16; ++i) {
    w[i] = 0;
    for (unsigned j = 0; j < 4; ++j) {
      const std::uint32_t at = m * 64 + i * 4 + j;
      w[i] = w[i] << 8 | (at < count ? s.at(first + at) : at == count ? 0x80u : 0u);
    }
  }
  if ((m + 1) * 64 >= count + 9) w[15] = count * 8;
}

// Digest of the `count` bytes (less than 2^29) of s from `first`, a multiple of 16, on.
GPU_BOTH void sha256_of(const ByteRows& s, std::uint64_t first, std::uint32_t count, std::byte* digest) {
  struct alignas(16) Four {
    std::uint32_t v[4];
  };
  Sha256State state;
  for (std::uint32_t m = 0; m * 64 < count + 9; ++m) {
    std::uint32_t w[16];
    if (s.dense() && (m + 1) * 64 <= count) {
      GPU_UNROLL
      for (unsigned i = 0; i < 4; ++i) {
        const Four four = *reinterpret_cast<const Four*>(s.data + first + m * 64 + i * 16);
        for (unsigned j = 0; j < 4; ++j) w[i * 4 + j] = reversed(four.v[j]);
      }
    } else {
      gather_message(s, first, count, m, w);
    }
    sha256_message(state, w);
  }
  for (unsigned i = 0; i < 32; ++i) digest[i] = static_cast<std::byte>(state.h[i / 4] >> (24 - i % 4 * 8));
}

}  // namespace CONCORD_GPU
