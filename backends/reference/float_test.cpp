// The ABI's conversions against the harness's own, which were written separately: exhaustively where that is possible.
#include <gtest/gtest.h>

#include <cmath>

#include "abi/concord_float.hpp"
#include "abi/testing/bench.hpp"

namespace concord::testing {
namespace {

bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

TEST(AbiFloat, EveryHalfWidensAndComesBack) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const auto bits = static_cast<std::uint16_t>(h);
    const float f = concord_abi::f16_to_f32(bits), b = concord_abi::bf16_to_f32(bits);
    ASSERT_TRUE(same(f, f16_to_f32(bits))) << h;
    ASSERT_TRUE(same(b, bf16_to_f32(bits))) << h;
    if (!std::isnan(f)) {
      ASSERT_EQ(concord_abi::f32_to_f16(f), bits);
      ASSERT_EQ(concord_abi::f64_to_f16(f), bits);
    }
    if (!std::isnan(b)) {
      ASSERT_EQ(concord_abi::f32_to_bf16(b), bits);
      ASSERT_EQ(concord_abi::f64_to_bf16(b), bits);
    }
  }
}

// Around every half: the midpoint to its neighbour, and a hair to either side, as float and as double.
TEST(AbiFloat, TiesAndTheirNeighboursRoundToNearestEven) {
  for (std::uint32_t h = 0; h < 0x7c00; ++h) {
    const double low = f16_to_f32(static_cast<std::uint16_t>(h)),
                 step = h < 0x400 ? 0x1p-24 : std::ldexp(1.0, static_cast<int>(h >> 10) - 25);
    const double middle = low + step / 2;
    const auto even = static_cast<std::uint16_t>(h + (h & 1)), up = static_cast<std::uint16_t>(h + 1);
    for (const double sign : {1.0, -1.0}) {
      const auto s = static_cast<std::uint16_t>(sign < 0 ? 0x8000 : 0);
      ASSERT_EQ(concord_abi::f64_to_f16(sign * middle), even | s) << h;
      ASSERT_EQ(concord_abi::f32_to_f16(static_cast<float>(sign * middle)), even | s) << h;
      ASSERT_EQ(concord_abi::f64_to_f16(sign * std::nextafter(middle, 1e9)), up | s)
          << h;  // float cannot tell this from the middle
      ASSERT_EQ(concord_abi::f64_to_f16(sign * std::nextafter(middle, 0.0)), h | s) << h;
    }
  }
}

TEST(AbiFloat, RandomDoublesAgreeWithTheHarness) {
  const Values m = noise(5, 400000);
  for (std::size_t i = 0; i < m.size(); ++i) {
    const double d = std::ldexp(m[i], static_cast<int>(i % 300) - 160);
    ASSERT_EQ(concord_abi::f64_to_f16(d), f64_to_f16(d)) << d;
    ASSERT_EQ(concord_abi::f64_to_bf16(d), f64_to_bf16(d)) << d;
    ASSERT_EQ(concord_abi::f32_to_f16(static_cast<float>(d)), f32_to_f16(static_cast<float>(d))) << d;
    ASSERT_EQ(concord_abi::f32_to_bf16(static_cast<float>(d)), f32_to_bf16(static_cast<float>(d))) << d;
  }
}

TEST(AbiFloat, ExtremesAndSpecials) {
  EXPECT_EQ(concord_abi::f64_to_f16(65519.999), 0x7bff);
  EXPECT_EQ(concord_abi::f64_to_f16(65520.0), 0x7c00);
  EXPECT_EQ(concord_abi::f64_to_f16(-1e300), 0xfc00);
  EXPECT_EQ(concord_abi::f64_to_bf16(1e300), 0x7f80);
  EXPECT_EQ(concord_abi::f64_to_bf16(5e-324), 0);
  EXPECT_EQ(concord_abi::f64_to_f16(-0.0), 0x8000);
  EXPECT_GT(concord_abi::f64_to_f16(std::nan("")) & 0x7fff, 0x7c00);
  EXPECT_GT(concord_abi::f64_to_bf16(std::nan("")) & 0x7fff, 0x7f80);
  EXPECT_EQ(concord_abi::f64_to_f16(INFINITY), 0x7c00);
}

}  // namespace
}  // namespace concord::testing
