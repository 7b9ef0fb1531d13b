// Helpers of this floor's tests: golden files, arrays from bits, seeded noise. Included by *_test.cpp only.
#pragma once
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/json.hpp"
#include "base/rng.hpp"
#include "compare/compare.hpp"

namespace concord::testing {

inline constexpr std::array<DType, 3> kFloats{DType::kF32, DType::kF16, DType::kBF16};

inline Json golden(const std::string& name) {
  auto json = read_json(std::string(CONCORD_SOURCE_DIR) + "/fixtures/golden/metrics/" + name);
  if (!json) throw std::runtime_error(json.error().to_string());
  return *json;
}

template <class Word>
std::vector<std::byte> as_bytes(const std::vector<Word>& words) {
  std::vector<std::byte> out(words.size() * sizeof(Word));
  std::memcpy(out.data(), words.data(), out.size());
  return out;
}

// "3f800000bf..." with the most significant digit of each word first -> little-endian elements.
inline std::vector<std::byte> bytes_from_hex(DType dtype, const std::string& hex) {
  const std::size_t width = dtype_bits(dtype) / 8;
  std::vector<std::byte> out(hex.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t element = i / width, byte = width - 1 - i % width;
    out[i] = std::byte(std::stoul(hex.substr((element * width + byte) * 2, 2), nullptr, 16));
  }
  return out;
}
inline double double_from_hex(const std::string& hex) {
  return std::bit_cast<double>(std::uint64_t{std::stoull(hex, nullptr, 16)});
}

// Equal, or both NaN: the payload of a computed NaN is nobody's promise.
inline void expect_same_bits(double got, double want, const std::string& what) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << what;
  } else {
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got), std::bit_cast<std::uint64_t>(want))
        << what << ": " << got << " against " << want;
  }
}

inline std::vector<std::byte> from_doubles(DType dtype, const std::vector<double>& values) {
  std::vector<std::byte> out(values.size() * dtype_bits(dtype) / 8);
  for (std::size_t i = 0; i < values.size(); ++i) store_from_f64(dtype, out.data(), i, values[i]);
  return out;
}

inline double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {  // Box-Muller
  return std::sqrt(-2 * std::log(uniform_open(seed, 2 * stream, i))) *
         std::cos(6.283185307179586 * uniform_open(seed, 2 * stream + 1, i));
}

struct Pair {
  std::vector<std::byte> a, b;
};
// Normal values and the same with relative noise, as a computation with another summation order has it.
inline Pair noisy_pair(DType dtype, std::size_t n, double noise, std::uint64_t seed) {
  std::vector<double> a(n), b(n);
  for (std::size_t i = 0; i < n; ++i) {
    a[i] = normal(seed, 0, i);
    b[i] = a[i] + noise * (std::fabs(a[i]) + 0.1) * normal(seed, 1, i);
  }
  return {from_doubles(dtype, a), from_doubles(dtype, b)};
}
// Bits of any kind: NaN, infinities, denormals, zeros, both signs.
inline Pair random_bits_pair(DType dtype, std::size_t n, std::uint64_t seed) {
  Pair p{std::vector<std::byte>(n * dtype_bits(dtype) / 8), {}};
  p.b.resize(p.a.size());
  for (std::size_t i = 0; i < p.a.size(); ++i) {
    const auto r = philox4x32({static_cast<std::uint32_t>(i), 0, 0, 7}, {static_cast<std::uint32_t>(seed), 0});
    p.a[i] = std::byte(r[0] & 255);
    p.b[i] = r[1] % 4 ? p.a[i] : std::byte(r[2] & 255);
  }
  return p;
}

}  // namespace concord::testing
