#include "model/quantize.hpp"

#include <tbb/global_control.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/rng.hpp"
#include "model/testing.hpp"

namespace concord {
namespace {

using testing_model::expect_error;

WeightPrecision precision(const std::string& name) { return WeightPrecision::parse(name).value(); }

class Golden {
 public:
  Golden()
      : checkpoint_(Checkpoint::open(CONCORD_SOURCE_DIR "/fixtures/golden/quantize/quantize.safetensors").value()) {}
  Json list(const char* key) const { return Json::parse(checkpoint_->metadata()[key].get<std::string>()); }
  const TensorInfo* find(const std::string& name) const { return checkpoint_->find(name); }
  std::vector<std::byte> bytes(const std::string& name) const {
    const TensorInfo* t = checkpoint_->find(name);
    if (t == nullptr) return {};
    const auto raw = checkpoint_->raw(*t);
    return {raw.begin(), raw.end()};
  }
  std::vector<float> floats(const std::string& name) const {
    const std::vector<std::byte> raw = bytes(name);
    std::vector<float> out(raw.size() / 4);
    std::memcpy(out.data(), raw.data(), raw.size());
    return out;
  }
  Result<QuantizedMatrix> run(const std::string& matrix, const std::string& p) const {
    const TensorInfo* w = checkpoint_->find(matrix + "/weights");
    return quantize(floats(matrix + "/weights"), w->shape[0], w->shape[1], precision(p));
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
};

std::vector<float> values_of(const QuantizedMatrix& m) {
  std::vector<float> out(static_cast<std::size_t>(m.rows * m.cols));
  m.dequantize(out);
  return out;
}

std::vector<float> uniform(std::size_t n, std::uint64_t seed, double width) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>((uniform_open(seed, 0, i) - 0.5) * width);
  return out;
}

std::vector<std::byte> as_bytes(const std::vector<float>& v) {
  const auto raw = std::as_bytes(std::span<const float>(v));
  return {raw.begin(), raw.end()};
}

TEST(QuantizeGolden, EveryCaseEqualsNumpyBitForBit) {
  const Golden golden;
  const Json cases = golden.list("cases");
  ASSERT_GE(cases.size(), 100u);
  for (const Json& c : cases) {
    const std::string matrix = c[0], p = c[1], key = matrix + "/" + p;
    SCOPED_TRACE(key);
    const auto got = golden.run(matrix, p);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(got->data, golden.bytes(key + "/data"));
    EXPECT_EQ(got->scales, golden.bytes(key + "/scales"));
    const auto zeros = std::as_bytes(std::span<const std::uint8_t>(got->zeros));
    EXPECT_EQ(std::vector<std::byte>(zeros.begin(), zeros.end()), golden.bytes(key + "/zeros"));
    EXPECT_EQ(as_bytes(values_of(*got)), golden.bytes(key + "/dequantized"));
  }
}

TEST(QuantizeGolden, WhatNumpyRefusesIsRefusedForTheSameReason) {
  const Golden golden;
  const Json refused = golden.list("refused");
  std::set<std::string> codes;
  for (const Json& c : refused) {
    SCOPED_TRACE(c.dump());
    expect_error(golden.run(c[0], c[1]), c[2]);
    codes.insert(c[2]);
  }
  EXPECT_EQ(codes, (std::set<std::string>{"quantize.overflow", "quantize.scale_overflow"}));
}

TEST(Quantize, NamesRoundTripAndUnknownOnesListTheValid) {
  for (const char* name :
       {"f32", "f16", "bf16", "int8", "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym"})
    EXPECT_EQ(precision(name).name(), name);
  for (const char* name : {"", "int4", "int4-g64-sym", "INT8", "f64"})
    expect_error(WeightPrecision::parse(name), "precision.unknown", "int4-g128-asym");
}

TEST(Quantize, TiesGoToEven) {
  // The largest magnitude is 7, so the scale is exactly 1 and every half is a tie.
  const std::vector<float> w{7, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.5f};
  const auto m = quantize(w, 1, 8, precision("int4-g32-sym")).value();
  EXPECT_EQ(values_of(m), (std::vector<float>{7, 0, 2, 2, 0, -2, -2, 4}));
}

TEST(Quantize, EvenColumnIsTheLowNibbleAndOddWidthsPadWithZero) {
  const auto m = quantize(std::vector<float>{7, -7, 1}, 1, 3, precision("int4-g32-sym")).value();
  EXPECT_EQ(m.data, (std::vector<std::byte>{std::byte{0x1f}, std::byte{0x09}}));  // 15 | 1 << 4, then 9
}

TEST(Quantize, NegativeZeroIsZero) {
  for (const char* name : {"int8", "int4-g32-sym", "int4-g32-asym"}) {
    const auto m = quantize(std::vector<float>{-0.0f, 1.0f}, 1, 2, precision(name)).value();
    EXPECT_EQ(values_of(m)[0], 0.0f) << name;
    EXPECT_FALSE(std::signbit(values_of(m)[0])) << name;
  }
  EXPECT_TRUE(std::signbit(values_of(quantize(std::vector<float>{-0.0f}, 1, 1, precision("bf16")).value())[0]));
}

TEST(Quantize, AZeroGroupHasScaleZeroAndItsZeroPoint) {
  const std::vector<float> w(32, 0.0f);
  const auto sym = quantize(w, 1, 32, precision("int4-g32-sym")).value();
  EXPECT_EQ(sym.scales, std::vector<std::byte>(2, std::byte{0}));
  EXPECT_EQ(sym.data, std::vector<std::byte>(16, std::byte{0x88}));
  const auto asym = quantize(w, 1, 32, precision("int4-g32-asym")).value();
  EXPECT_EQ(asym.zeros, std::vector<std::uint8_t>{0});
  EXPECT_EQ(values_of(asym), w);
}

TEST(Quantize, EveryErrorIsAtMostHalfAStep) {
  const std::int64_t rows = 24, cols = 200;
  const std::vector<float> w = uniform(rows * cols, 5, 0.2);
  const auto worst = [&](const char* name) {
    const std::vector<float> v = values_of(quantize(w, rows, cols, precision(name)).value());
    double most = 0;
    for (std::size_t i = 0; i < w.size(); ++i) most = std::max(most, std::fabs(static_cast<double>(w[i]) - v[i]));
    return most;
  };
  // Half a step, plus what rounding the scale to f16 (relative 2^-11) takes away at the end of the range.
  EXPECT_LE(worst("int8"), 0.1 / 127 * 0.5 * 1.001);
  EXPECT_LE(worst("int4-g32-sym"), 0.1 / 7 * 0.5 + 0.1 * 0x1p-11);
  EXPECT_LE(worst("int4-g32-asym"), 0.2 / 15 + 0.2 * 0x1p-11);  // the zero point is itself rounded
  EXPECT_GT(worst("int4-g32-sym"), worst("int8"));
}

// The code (0..15) of every weight of an int4 matrix.
std::vector<int> codes_of(const QuantizedMatrix& m) {
  std::vector<int> out;
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t c = 0; c < m.cols; ++c) {
      const auto byte = static_cast<unsigned>(m.data[static_cast<std::size_t>(r * ((m.cols + 1) / 2) + c / 2)]);
      out.push_back(static_cast<int>(byte >> (c % 2 * 4) & 15u));
    }
  return out;
}

// Values already on a grid stay on it: int4 of an int4 checkpoint would give back the very same weights and prove
// nothing.
TEST(Quantize, QuantisingTwiceGivesTheSameCodes) {
  const std::int64_t rows = 40, cols = 300;
  for (const char* name : {"int8", "int4-g32-sym", "int4-g128-sym"}) {
    SCOPED_TRACE(name);
    const auto once = quantize(uniform(rows * cols, 11, 0.3), rows, cols, precision(name)).value();
    EXPECT_EQ(once.data, quantize(values_of(once), rows, cols, precision(name)).value().data);
  }
}

// Asymmetric groups keep their codes when these span 0 to 15. Where both ends were rounded inwards the second grid is
// finer than the first.
TEST(Quantize, QuantisingTwiceKeepsAsymmetricGroupsThatSpanTheGrid) {
  const std::int64_t rows = 40, cols = 320, group = 32;
  const auto once = quantize(uniform(rows * cols, 11, 0.3), rows, cols, precision("int4-g32-asym")).value();
  const std::vector<int> first = codes_of(once);
  const std::vector<int> second = codes_of(quantize(values_of(once), rows, cols, once.precision).value());
  std::int64_t spanning = 0;
  for (std::int64_t g = 0; g < rows * cols / group; ++g) {
    const auto begin = first.begin() + g * group, end = begin + group;
    if (*std::min_element(begin, end) != 0 || *std::max_element(begin, end) != 15) continue;
    ++spanning;
    EXPECT_TRUE(std::equal(begin, end, second.begin() + g * group)) << g;
  }
  EXPECT_GT(spanning, 380);  // of 400
}

TEST(Quantize, ThreadsDoNotMatter) {
  const std::int64_t rows = 257, cols = 131;
  const std::vector<float> w = uniform(rows * cols, 3, 1.0);
  for (const char* name : {"bf16", "int8", "int4-g32-asym"}) {
    const auto run = [&](std::size_t threads) {
      const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      return quantize(w, rows, cols, precision(name)).value();
    };
    const auto one = run(1), many = run(4);
    EXPECT_EQ(one.data, many.data);
    EXPECT_EQ(one.scales, many.scales);
    EXPECT_EQ(one.zeros, many.zeros);
  }
}

constexpr const char* kNames[] = {"f32",          "f16",           "bf16",          "int8",
                                  "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym"};

TEST(Quantize, RowsFromASourceGiveTheSameMatrixWhateverTheStorageHeld) {
  const std::int64_t rows = 301, cols = 333;  // pieces of 98 rows, the last one shorter; an odd width
  const std::vector<float> w = uniform(static_cast<std::size_t>(rows * cols), 5, 2);
  const auto source = [&](std::int64_t begin, std::int64_t end, float* out) -> Status {
    std::copy(w.begin() + begin * cols, w.begin() + end * cols, out);
    return {};
  };
  for (const char* name : kNames) {
    const auto whole = quantize(w, rows, cols, precision(name));
    QuantizedMatrix dirty;
    dirty.data.assign(2'000'000, std::byte{0xff});
    dirty.scales.assign(100'000, std::byte{0xff});
    dirty.zeros.assign(100'000, 0xff);
    const auto again = quantize(source, rows, cols, precision(name), std::move(dirty));
    ASSERT_TRUE(whole && again) << name;
    EXPECT_TRUE(whole->data == again->data && whole->scales == again->scales && whole->zeros == again->zeros) << name;
    EXPECT_EQ(again->precision.name(), name);
  }
}

TEST(Quantize, OfASourcesErrorsAndBadWeightsTheLowestRowIsReported) {
  const std::int64_t rows = 300, cols = 400;
  std::int64_t broken = 170;
  const auto source = [&](std::int64_t begin, std::int64_t end, float* out) -> Status {
    for (std::int64_t r = begin; r < end; ++r) {
      if (r == broken) return bad_input("test.source", "row " + std::to_string(r));
      std::fill_n(out + (r - begin) * cols, cols, r == 130 ? HUGE_VALF : 1.0f);
    }
    return {};
  };
  for (const char* name : kNames) {
    expect_error(quantize(source, rows, cols, precision(name)), "quantize.not_finite", "[130, 0]");
    broken = 10;
    expect_error(quantize(source, rows, cols, precision(name)), "test.source", "row 10");
    broken = 170;
  }
}

TEST(Quantize, FiniteIsWhatTheStandardLibraryCallsFinite) {
  std::vector<std::uint16_t> halves(64, 0);
  const auto raw = std::as_bytes(std::span<const std::uint16_t>(halves));
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    halves[bits % 64] = static_cast<std::uint16_t>(bits);
    ASSERT_EQ(all_finite(DType::kF16, raw), std::isfinite(f16_to_f32(halves[bits % 64]))) << bits;
    ASSERT_EQ(all_finite(DType::kBF16, raw), std::isfinite(bf16_to_f32(halves[bits % 64]))) << bits;
    halves[bits % 64] = 0;
  }
  for (const float v : {0.0f, -1.0f, std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(), HUGE_VALF,
                        -HUGE_VALF, std::nanf("")})
    EXPECT_EQ(all_finite(DType::kF32, std::as_bytes(std::span(&v, 1))), std::isfinite(v)) << v;
}

TEST(Quantize, NotFiniteNamesTheFirstPlace) {
  std::vector<float> w(100 * 8, 1.0f);
  w[90 * 8 + 3] = std::numeric_limits<float>::infinity();
  w[37 * 8 + 5] = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"f32", "f16", "bf16", "int8", "int4-g32-sym"})
    expect_error(quantize(w, 100, 8, precision(name)), "quantize.not_finite", "[37, 5]");
}

TEST(Quantize, OverflowNamesThePlace) {
  expect_error(quantize(std::vector<float>{1, 2, 3, 65520}, 2, 2, precision("f16")), "quantize.overflow", "[1, 1]");
  std::vector<float> w(64, 1.0f);
  w[40] = 1e9f;
  expect_error(quantize(w, 1, 64, precision("int4-g32-sym")), "quantize.scale_overflow", "[0, 32...]");
  expect_error(quantize(w, 1, 64, precision("int4-g32-asym")), "quantize.scale_overflow", "[0, 32...]");
}

TEST(Quantize, WrongShapesAreRefused) {
  const std::vector<float> w(12, 1.0f);
  for (const auto& [rows, cols] : {std::pair{3, 5}, {0, 4}, {-3, -4}, {1, 11}})
    expect_error(quantize(w, rows, cols, precision("int8")), "quantize.bad_shape");
}

TEST(Quantize, DescribesItselfForTheAbi) {
  const auto m = quantize(uniform(3 * 70, 2, 1.0), 3, 70, precision("int4-g32-asym")).value();
  const concord_weight_desc d = m.desc(CONCORD_BF16);
  EXPECT_EQ(d.struct_size, sizeof(d));
  EXPECT_EQ(d.dtype, static_cast<std::uint32_t>(CONCORD_U4));
  EXPECT_EQ(d.activation_dtype, static_cast<std::uint32_t>(CONCORD_BF16));
  EXPECT_EQ(d.group, 32u);
  EXPECT_EQ(d.zeros, m.zeros.data());
  EXPECT_EQ(m.data.size(), 3u * 35);
  EXPECT_EQ(m.scales.size(), 3u * 3 * 2);
  const auto f = quantize(uniform(6, 2, 1.0), 2, 3, precision("bf16")).value();
  EXPECT_EQ(f.desc(CONCORD_F32).scales, nullptr);
  EXPECT_EQ(f.desc(CONCORD_F32).dtype, static_cast<std::uint32_t>(CONCORD_BF16));
}

}  // namespace
}  // namespace concord
