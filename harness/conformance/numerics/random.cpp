#include "conformance/numerics/random.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/rng.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kBlocks = 32;  // computed side by side

// Words of blocks first .. first + kBlocks, in order: philox4x32 of base/rng.hpp, written so that blocks are vector
// lanes.
void philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::uint32_t* out) {
  std::uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (std::size_t b = 0; b < kBlocks; ++b) {
    const std::uint64_t index = first + b;
    c0[b] = static_cast<std::uint32_t>(index), c1[b] = static_cast<std::uint32_t>(index >> 32);
    c2[b] = static_cast<std::uint32_t>(stream), c3[b] = static_cast<std::uint32_t>(stream >> 32);
  }
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0[b], p1 = std::uint64_t{0xCD9E8D57u} * c2[b];
      c0[b] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[b] ^ k0, c1[b] = static_cast<std::uint32_t>(p1);
      c2[b] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[b] ^ k1, c3[b] = static_cast<std::uint32_t>(p0);
    }
  for (std::size_t b = 0; b < kBlocks; ++b)
    out[4 * b] = c0[b], out[4 * b + 1] = c1[b], out[4 * b + 2] = c2[b], out[4 * b + 3] = c3[b];
}

template <class F>
void for_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::size_t n, const F& f) {
  std::uint32_t words[4 * kBlocks];
  for (std::size_t done = 0; done < n; done += 4 * kBlocks) {
    philox(seed, stream, (first + done) / 4, words);
    f(done, words, std::min(n - done, 4 * kBlocks));
  }
}

}  // namespace

// v = 2^e m with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh((m - 1) / (m + 1)).
double logarithm(double v) {
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(v) - std::bit_cast<std::uint64_t>(0x1.6a09e667f3bcdp-1);
  const auto e = static_cast<double>(static_cast<std::int64_t>(bits) >> 52);
  const std::uint64_t mantissa = (bits & 0xfffffffffffffu) + std::bit_cast<std::uint64_t>(0x1.6a09e667f3bcdp-1);
  const double m = std::bit_cast<double>(mantissa), s = (m - 1) / (m + 1), q = s * s;
  return e * 0.69314718055994531 + 2 * s * (1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9)))));
}

Stream::Stream(std::uint64_t seed, std::string_view tensor) : seed_(seed), stream_(0xcbf29ce484222325u) {
  for (const char c : tensor) stream_ = (stream_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;  // FNV-1a
}

std::uint32_t Stream::bits(std::uint64_t index) const {
  const std::uint64_t block = index / 4;
  return philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                     static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                    {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)})[index % 4];
}

void Stream::uniform(std::uint64_t first, std::span<double> out) const {
  for_words(seed_, stream_, first, out.size(), [&](std::size_t at, const std::uint32_t* words, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i)
      out[at + i] = (static_cast<double>(static_cast<std::int32_t>(words[i])) + 0.5) * 0x1p-31;
  });
}

Point on_circle(std::uint32_t k) {
  // The nearest of the four quarter turns, and at most an eighth of a turn from there: Taylor polynomials.
  const std::uint32_t quarter = (k + 0x20000000u) >> 30;
  const double x =
      (static_cast<double>(static_cast<std::int32_t>(k - (quarter << 30))) + 0.5) * (6.283185307179586 * 0x1p-32);
  const double q = x * x;
  const double s = x * (1 - q * (1.0 / 6 - q * (1.0 / 120 - q * (1.0 / 5040 - q * (1.0 / 362880)))));
  const double c = 1 - q * (1.0 / 2 - q * (1.0 / 24 - q * (1.0 / 720 - q * (1.0 / 40320))));
  const double a = quarter % 2 ? s : c, b = quarter % 2 ? c : s;
  return {quarter == 1 || quarter == 2 ? -a : a, quarter >= 2 ? -b : b};
}

void Stream::gaussian(std::uint64_t first, std::span<double> out) const {
  for_words(seed_, stream_, first, out.size(), [&](std::size_t at, const std::uint32_t* words, std::size_t n) {
    double v[4 * kBlocks];
    for (std::size_t i = 0; i < 4 * kBlocks; i += 2) {
      const double r = std::sqrt(-2 * logarithm((static_cast<double>(words[i]) + 0.5) * 0x1p-32));
      const Point p = on_circle(words[i + 1]);
      v[i] = r * p.cos, v[i + 1] = r * p.sin;
    }
    std::copy_n(v, n, out.begin() + static_cast<std::ptrdiff_t>(at));
  });
}

}  // namespace concord::conformance
