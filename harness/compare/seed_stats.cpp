// What verillm-experiments computes with NumPy for one cell, bit for bit: differences in the arrays' own dtype,
// literals rounded to it, the mean by NumPy's pairwise summation. Definitions and what is wrong with them:
// docs/metrics.md.
#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

#include "compare/compare.hpp"

namespace concord {
namespace {

// NumPy's float32 sum of a contiguous array: eight accumulators over at most 128 elements, halves (first one a multiple
// of 8) above.
float pairwise_sum(const float* v, std::size_t n) {
  if (n < 8) {
    float sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += v[i];
    return sum;
  }
  if (n > 128) {
    const std::size_t half = n / 2 - (n / 2) % 8;
    return pairwise_sum(v, half) + pairwise_sum(v + half, n - half);
  }
  float r[8];
  std::copy(v, v + 8, r);
  std::size_t i = 8;
  for (; i + 8 <= n; i += 8)
    for (std::size_t l = 0; l < 8; ++l) r[l] += v[i + l];
  float sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < n; ++i) sum += v[i];
  return sum;
}

// A half array is cast to float32 through NumPy's buffer of 8192 elements, each buffer summed by itself.
float buffered_sum(const std::vector<float>& v) {
  constexpr std::size_t kBuffer = 8192;
  float sum = 0;
  for (std::size_t i = 0; i < v.size(); i += kBuffer)
    sum += pairwise_sum(v.data() + i, std::min(kBuffer, v.size() - i));
  return sum;
}

// Literals as NumPy compares an array of each dtype with them (NumPy 1.24 and 2 agree).
struct Literals {
  float tiny, small, fifth;  // 1e-7, 1e-5, 0.2
};
const Literals& literals(bool half) {
  static const Literals kSingle{1e-7f, 1e-5f, 0.2f};
  static const Literals kHalf{f16_to_f32(f64_to_f16(1e-7)), f16_to_f32(f64_to_f16(1e-5)), f16_to_f32(f64_to_f16(0.2))};
  return half ? kHalf : kSingle;
}

std::uint32_t exponent(float v) { return std::bit_cast<std::uint32_t>(v) & 0x7f800000u; }

struct Counters {
  std::uint64_t exponent = 0, above = 0, below = 0;
};
Counters count_element(float a, float b, float delta, const Literals& lit, SeedStats& s) {
  s.exact += delta == 0;
  s.match_large += delta > lit.fifth;
  s.match_small += delta > 0 && delta <= lit.fifth;
  s.mismatch_large += delta > 5;
  s.mismatch_small += delta > lit.fifth && delta <= 5;
  return {exponent(a) != exponent(b), delta > lit.small, delta < lit.tiny};
}

}  // namespace

SeedStats seed_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b) {
  assert(a.size() == b.size());
  const bool half = dtype == DType::kF16;
  const std::size_t n = a.size() * 8 / dtype_bits(dtype);
  SeedStats s;
  s.count = n;
  if (n == 0) return s;
  std::vector<float> x(n), y(n), delta(n);
  convert_floats(dtype, a.data(), DType::kF32, reinterpret_cast<std::byte*>(x.data()), n);
  convert_floats(dtype, b.data(), DType::kF32, reinterpret_cast<std::byte*>(y.data()), n);
  Counters c;
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    // The float32 difference of two halves, rounded to half, is the half difference: 24 >= 2 * 11 + 2 bits make the
    // double rounding harmless.
    const float d = std::fabs(x[i] - y[i]);
    delta[i] = half ? f16_to_f32(f32_to_f16(d)) : d;
    const Counters one = count_element(x[i], y[i], delta[i], literals(half), s);
    c = {c.exponent + one.exponent, c.above + one.above, c.below + one.below};
    largest = std::isnan(largest) || largest > delta[i] ? largest : delta[i];  // a NaN stays, as in np.max
  }
  const double count = static_cast<double>(n);
  const double mean =
      (half ? buffered_sum(delta) : pairwise_sum(delta.data(), n)) / count;  // divided in float64, then rounded once
  s.mean_error = half ? f16_to_f32(f64_to_f16(mean)) : static_cast<double>(static_cast<float>(mean));
  s.max_error = largest;
  s.pe = static_cast<double>(c.exponent) / count;
  s.pm = static_cast<double>(c.above) / count;
  s.pw = static_cast<double>(c.below) / count;
  return s;
}

}  // namespace concord
