#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/dtype.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/rng.hpp"
#include "base/text.hpp"

namespace concord {
namespace {

TEST(DType, EveryHalfSurvivesTheRoundTripThroughFloatAndDouble) {
  for (std::uint32_t h = 0; h <= 0xffffu; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float f = f16_to_f32(half);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f)))) << h;
      continue;
    }
    ASSERT_EQ(f32_to_f16(f), half) << h;
    ASSERT_EQ(f64_to_f16(static_cast<double>(f)), half) << h;
    ASSERT_EQ(static_cast<float>(std::bit_cast<_Float16>(half)), f) << h;  // the compiler's own half type
  }
}

TEST(DType, FloatToHalfAgreesWithTheCompilerOnEveryThousandthFloat) {
  for (std::uint64_t u = 0; u <= 0xffffffffu; u += 997) {
    const float f = std::bit_cast<float>(static_cast<std::uint32_t>(u));
    if (std::isnan(f)) continue;
    ASSERT_EQ(f32_to_f16(f), std::bit_cast<std::uint16_t>(static_cast<_Float16>(f))) << u;
    ASSERT_EQ(f64_to_f16(f), f32_to_f16(f)) << u;
    ASSERT_EQ(f64_to_bf16(f), f32_to_bf16(f)) << u;
  }
}

// The array conversions are written without branches; the scalar ones are the rule.
TEST(DType, ArraysConvertAsTheScalarsDo) {
  std::vector<std::uint16_t> halves(65536), back(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<std::uint32_t> floats(65536);
  const auto bytes = [](auto& v) { return reinterpret_cast<std::byte*>(v.data()); };
  for (const DType half : {DType::kF16, DType::kBF16}) {
    const auto widen = [&](std::uint16_t h) { return half == DType::kF16 ? f16_to_f32(h) : bf16_to_f32(h); };
    const auto narrow = [&](float f) { return half == DType::kF16 ? f32_to_f16(f) : f32_to_bf16(f); };
    const DType other = half == DType::kF16 ? DType::kBF16 : DType::kF16;
    convert_floats(half, bytes(halves), DType::kF32, bytes(floats), 65536);
    convert_floats(half, bytes(halves), other, bytes(back), 65536);
    for (std::size_t i = 0; i < 65536; ++i) {
      const float wide = widen(halves[i]);
      ASSERT_EQ(floats[i], std::bit_cast<std::uint32_t>(wide)) << i;
      ASSERT_EQ(back[i], half == DType::kF16 ? f32_to_bf16(wide) : f32_to_f16(wide)) << i;
    }
    // Every exponent and sign with mantissas around each place where a rounding turns.
    for (std::uint32_t low = 0; low < 0x800000u; low += 0x0fff) {
      for (std::uint32_t i = 0; i < 1536; ++i) floats[i] = (i / 3) << 23 | ((low + i % 3) & 0x7fffffu);
      convert_floats(DType::kF32, bytes(floats), half, bytes(back), 1536);
      for (std::uint32_t i = 0; i < 1536; ++i) ASSERT_EQ(back[i], narrow(std::bit_cast<float>(floats[i]))) << floats[i];
    }
  }
}

TEST(DType, DoubleIsRoundedOnceNotTwice) {
  // 1 + 2^-11 + 2^-30 lies above the tie between two halves; by way of float the 2^-30 is lost and the tie rounds to even, that is down.
  const double d = 1 + 0x1p-11 + 0x1p-30;
  EXPECT_EQ(f64_to_f16(d), 0x3c01);
  EXPECT_EQ(f32_to_f16(static_cast<float>(d)), 0x3c00);
  EXPECT_EQ(f64_to_bf16(1 + 0x1p-8 + 0x1p-40), 0x3f81);
}

TEST(DType, Bf16TiesGoToEvenAndNanStaysNan) {
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);
  EXPECT_EQ(f32_to_bf16(1.003f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.004f), 0x3f81);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7fffffffu)))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(f64_to_bf16(std::numeric_limits<double>::quiet_NaN()))));
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f64_to_bf16(-0.0), 0x8000);
  EXPECT_EQ(f64_to_f16(0x1p-25), 0x0000);  // tie between 0 and the smallest subnormal
  EXPECT_EQ(f64_to_f16(0x1.8p-25), 0x0001);
}

TEST(Philox, MatchesTheKnownAnswersOfTheAuthorsLibrary) {
  // Random123's kat_vectors, philox4x32 with 10 rounds.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

struct BadJson {
  const char* text;
  const char* code;
};
class JsonRefuses : public testing::TestWithParam<BadJson> {};
TEST_P(JsonRefuses, WithItsOwnCode) {
  const auto result = parse_json(GetParam().text, "f.json");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, GetParam().code);
  EXPECT_TRUE(result.error().offset.has_value());
  EXPECT_EQ(exit_code(result.error().kind), 2);
}
INSTANTIATE_TEST_SUITE_P(Base, JsonRefuses,
                         testing::Values(BadJson{"", "json.syntax"}, BadJson{"{", "json.syntax"}, BadJson{"{} x", "json.syntax"},
                                         BadJson{R"({"a":1,"a":2})", "json.duplicate_key"},
                                         BadJson{R"({"a":1,"\u0061":2})", "json.duplicate_key"},
                                         BadJson{R"({"a":NaN})", "json.syntax"}, BadJson{"{\"a\":\"\xff\"}", "json.not_utf8"},
                                         BadJson{"{\"a\":\"\xc0\xaf\"}", "json.not_utf8"}));

TEST(Json, ANulByteDoesNotHideWhatFollows) {
  const auto result = parse_json(std::string_view("{}\0garbage", 10), "f");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, "json.syntax");
  EXPECT_EQ(result.error().offset, 2u);
}

TEST(Json, DepthAndCountAreLimited) {
  EXPECT_EQ(parse_json(std::string(100000, '['), "f").error().code, "json.too_deep");
  std::string many = "[0";
  for (int i = 0; i < 100; ++i) many += ",0";
  EXPECT_EQ(parse_json(many + "]", "f", "json", {.max_depth = 4, .max_values = 50}).error().code, "json.too_many_values");
}

TEST(Json, FieldsNameWhatIsWrong) {
  const Json doc = *parse_json(R"({"n": 3, "f": 1.5, "s": "x", "neg": -1, "null": null})", "f");
  const JsonFields fields = *JsonFields::from(doc, "f.json", "config");
  EXPECT_EQ(*fields.integer("n", 0, 10), 3);
  EXPECT_EQ(fields.integer("f", 0, 10).error().code, "config.wrong_type");
  EXPECT_EQ(fields.integer("neg", 0, 10).error().code, "config.out_of_range");
  EXPECT_EQ(fields.integer("absent").error().code, "config.missing_field");
  EXPECT_EQ(fields.string("null").error().code, "config.missing_field");
  EXPECT_NE(fields.integer("absent").error().message.find("absent"), std::string::npos);
  EXPECT_EQ(fields.only({"n"}).error().code, "config.unknown_field");
}

TEST(Text, Utf8RefusesOverlongSurrogatesAndTooLarge) {
  EXPECT_TRUE(is_valid_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"));
  for (const char* bad : {"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\xc3", "\xf0\x80\x80\x80"})
    EXPECT_FALSE(is_valid_utf8(bad)) << printable(bad);
  EXPECT_EQ(printable("a\x1b[31m\xff"), "a\\x1b[31m\\xff");
  EXPECT_EQ(to_hex(*from_hex("00ffA1")), "00ffa1");
  EXPECT_FALSE(from_hex("0").has_value());
}

TEST(File, AtomicWriteLeavesNothingBehindWhenNotCommitted) {
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "concord_atomic";
  std::filesystem::create_directories(dir);
  ASSERT_TRUE(write_atomically(dir / "kept", "one"));
  {
    auto file = AtomicFile::create(dir / "kept");
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->append("two"));
  }
  EXPECT_EQ(*read_text(dir / "kept"), "one");
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(dir)) ++files;
  EXPECT_EQ(files, 1u);
  std::filesystem::remove_all(dir);
}

TEST(File, RefusesWhatIsNotARegularFile) {
  EXPECT_EQ(MappedFile::open("/").error().code, "file.not_regular");
  EXPECT_EQ(MappedFile::open("/dev/zero").error().code, "file.not_regular");
  EXPECT_EQ(MappedFile::open("/no/such/file").error().code, "file.not_found");
}

TEST(File, AFullDiskIsAnErrorAndNotASilentLoss) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const Status status = append_line("/dev/full", "x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, "file.write");
}

}  // namespace
}  // namespace concord
