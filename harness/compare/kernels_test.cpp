// Every instruction set against the portable one, bit for bit, over bits of any kind, lengths and alignments.
#include "compare/kernels.hpp"

#include <memory>

#include "compare/accumulate.hpp"
#include "compare/testing.hpp"

namespace concord {
namespace {
using namespace testing;
using detail::Isa;

struct Outcome {
  detail::RowResult row;
  std::vector<std::uint32_t> bins;
};

Outcome outcome(Isa isa, DType dtype, std::span<const std::byte> a, std::span<const std::byte> b, std::size_t step = 1,
                std::size_t phase = 0) {
  const auto scratch = std::make_unique<detail::Scratch>();
  auto plan = detail::row_plan(dtype, {}, true, isa);
  plan.step = step;
  plan.phase = phase;
  Outcome out{detail::compare_row(plan, a.data(), b.data(), a.size() * 8 / dtype_bits(dtype), *scratch), {}};
  out.bins.resize(detail::kFineBins);  // which of the tables counted an element is nobody's promise
  for (const auto& table : scratch->bins)
    for (std::size_t i = 0; i < detail::kFineBins; ++i) out.bins[i] += table[i];
  return out;
}

void expect_same(const Outcome& got, const Outcome& want, const std::string& what) {
  const auto &g = got.row.state, &w = want.row.state;
  for (std::size_t l = 0; l < 8; ++l) {
    for (std::size_t s = 0; s < detail::RowState::kNearSums; ++s)
      expect_same_bits(g.near[s][l], w.near[s][l], what + " near sum " + std::to_string(s));
    for (std::size_t s = 0; s < detail::RowState::kFarSums; ++s)
      expect_same_bits(g.far[s][l], w.far[s][l], what + " far sum " + std::to_string(s));
  }
  const auto counts = [](const Outcome& o) {
    const auto& r = o.row.state;
    return std::vector<std::uint64_t>{r.special, r.both_nonfinite, r.bit_equal,      r.sign_flips,    r.mismatch,
                                      r.large,   r.small,          r.exact,          r.match_far,     r.mismatch_far,
                                      r.ulp_max, r.seed_exponent,  o.row.seed.above, o.row.seed.below};
  };
  EXPECT_EQ(counts(got), counts(want)) << what;
  EXPECT_EQ(got.bins, want.bins) << what;
  expect_same_bits(g.max_abs_delta, w.max_abs_delta, what + " largest");
  expect_same_bits(got.row.seed_sum, want.row.seed_sum, what + " seed sum");
}

// Every exponent against its neighbours, with zeros, denormals, infinities and NaN of both signs among them.
Pair every_exponent(DType dtype) {
  const unsigned width = dtype_bits(dtype), mantissa = dtype == DType::kF32 ? 23 : dtype == DType::kF16 ? 10 : 7;
  const std::uint32_t exponents = 1u << (width - 1 - mantissa), ones = (1u << mantissa) - 1;
  Pair p;
  const auto put = [&](std::vector<std::byte>& to, std::uint32_t bits) {
    for (unsigned i = 0; i < width / 8; ++i) to.push_back(std::byte(bits >> (8 * i) & 255));
  };
  for (std::uint32_t e = 0; e < exponents; ++e)
    for (std::uint32_t m : {0u, 1u, ones / 2, ones})
      for (std::uint32_t sign : {0u, 1u})
        for (std::uint32_t step : {0u, 1u, 2u, ones, ones + 1, ones + 2, 3 * ones}) {
          const std::uint32_t bits = sign << (width - 1) | e << mantissa | m;
          put(p.a, bits);
          put(p.b, step == 2 ? bits ^ 1u << (width - 1) : bits + step);
        }
  return p;
}

std::vector<Pair> inputs(DType dtype) {
  std::vector<Pair> out{every_exponent(dtype)};
  for (std::size_t n : {0, 1, 7, 8, 15, 16, 31, 32, 33, 127, 129, 1023, 1024, 1025, 3000, 9001}) {
    out.push_back(noisy_pair(dtype, n, 1e-3, n));
    out.push_back(random_bits_pair(dtype, n, n + 1));
    out.push_back(out[1 + 3 * ((out.size() - 1) / 3)]);
    out.back().b = out.back().a;
  }
  Pair one_nan = noisy_pair(dtype, 5000, 1e-4, 5);  // met after a thousand ordinary elements
  const std::size_t width = dtype_bits(dtype) / 8;
  for (auto* side : {&one_nan.a, &one_nan.b})
    for (std::size_t i = 0; i < width; ++i) (*side)[1001 * width + i] = std::byte(0x7f);
  out.push_back(one_nan);
  return out;
}

class EveryIsa : public ::testing::TestWithParam<Isa> {};

TEST_P(EveryIsa, EqualsThePortableOneBitForBit) {
  if (!detail::available(GetParam())) GTEST_SKIP() << "this processor lacks it";
  for (DType dtype : kFloats) {
    std::size_t which = 0;
    for (const Pair& p : inputs(dtype)) {
      const std::string what = std::string(dtype_name(dtype)) + " input " + std::to_string(which++);
      const auto want = outcome(Isa::kPortable, dtype, p.a, p.b);
      expect_same(outcome(GetParam(), dtype, p.a, p.b), want, what);
      std::vector<std::byte> shifted(p.a.size() + 3);
      std::copy(p.a.begin(), p.a.end(), shifted.begin() + 3);
      expect_same(outcome(GetParam(), dtype, std::span(shifted).subspan(3), p.b), want, what + " shifted");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryIsa, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& i) {
                           return i.param == Isa::kPortable ? "portable" : i.param == Isa::kAvx2 ? "avx2" : "avx512";
                         });

// Every block of 16 elements is in the sample of one phase, and the histogram is all that sampling changes.
TEST_P(EveryIsa, SamplesOfAllPhasesMakeTheWholeHistogram) {
  if (!detail::available(GetParam())) GTEST_SKIP() << "this processor lacks it";
  for (DType dtype : kFloats) {
    std::size_t which = 0;
    for (const Pair& p : inputs(dtype)) {
      const std::string what = std::string(dtype_name(dtype)) + " input " + std::to_string(which++);
      Outcome whole = outcome(GetParam(), dtype, p.a, p.b), parts;
      parts.bins.resize(detail::kFineBins);
      for (std::size_t phase = 0; phase < 8; ++phase) {
        Outcome one = outcome(GetParam(), dtype, p.a, p.b, 8, phase);
        for (std::size_t i = 0; i < detail::kFineBins; ++i) parts.bins[i] += one.bins[i];
        one.bins = whole.bins;
        expect_same(one, whole, what);
      }
      EXPECT_EQ(parts.bins, whole.bins) << what;
    }
  }
}

// The counts that the other tau groups are given alone are those of the pass.
TEST(Kernels, GapsAloneEqualThePass) {
  for (DType dtype : kFloats)
    for (const MetricParameters& parameters :
         {MetricParameters{}, MetricParameters{0, 0}, MetricParameters{1, 1}, MetricParameters{0.1, 0.3}})
      for (const Pair& p : inputs(dtype)) {
        const auto scratch = std::make_unique<detail::Scratch>();
        const std::size_t n = p.a.size() * 8 / dtype_bits(dtype);
        const auto plan = detail::row_plan(dtype, parameters, false);
        const auto row = detail::compare_row(plan, p.a.data(), p.b.data(), n, *scratch);
        const auto gaps = detail::count_gaps(dtype, p.a.data(), p.b.data(), n, parameters);
        EXPECT_EQ(gaps.mismatch_large, row.state.large);
        EXPECT_EQ(gaps.match_small, row.state.small);
      }
}

TEST(Kernels, DistancesReachTheirBins) {
  const auto scratch = std::make_unique<detail::Scratch>();
  std::vector<std::uint64_t> histogram(kUlpBins), want(kUlpBins);
  std::uint64_t largest = 0;
  const Pair p = random_bits_pair(DType::kF32, 5000, 3);
  detail::compare_row(detail::row_plan(DType::kF32, {}, false), p.a.data(), p.b.data(), 5000, *scratch);
  for (std::size_t i = 0; i < 5000; ++i) {
    std::uint32_t x, y;
    std::memcpy(&x, p.a.data() + 4 * i, 4);
    std::memcpy(&y, p.b.data() + 4 * i, 4);
    const auto key = [](std::uint32_t v) {
      const auto m = static_cast<std::int64_t>(v & 0x7fffffffu);
      return v >> 31 ? -m : m;
    };
    const bool fx = (x & 0x7f800000u) != 0x7f800000u, fy = (y & 0x7f800000u) != 0x7f800000u;
    const auto klass = [](std::uint32_t v, bool fin) { return fin ? 0u : (v & 0x7fffffffu) > 0x7f800000u ? 1u : v; };
    if (klass(x, fx) != klass(y, fy)) continue;
    const auto ulp = fx ? static_cast<std::uint32_t>(std::abs(key(x) - key(y))) : 0u;
    ++want[detail::ulp_bin(ulp)];
    largest = std::max<std::uint64_t>(largest, ulp);
  }
  detail::drain_bins(*scratch, largest, histogram);
  EXPECT_EQ(histogram, want);
  for (const auto& table : scratch->bins)
    for (std::uint32_t left : table) EXPECT_EQ(left, 0u);
}

}  // namespace
}  // namespace concord
