// TOPLOC against the public package's own proofs and results (fixtures/golden/metrics/toploc.json).
#include <limits>

#include "base/text.hpp"
#include "compare/testing.hpp"

namespace concord {
namespace {
using namespace testing;

std::vector<std::byte> chunk(const Json& j) {
  if (j.contains("bits")) return bytes_from_hex(DType::kBF16, j["bits"]);
  std::vector<std::uint16_t> words(j["length"].get<std::size_t>(), 0);
  for (const auto& e : j["sparse"]) words[e[0].get<std::size_t>()] = e[1].get<std::uint16_t>();
  return as_bytes(words);
}
// The library says 2^64 where no exponent matches; here it is infinity.
double error_measure(const Json& hex) {
  const double v = double_from_hex(hex);
  return v == 0x1p64 ? std::numeric_limits<double>::infinity() : v;
}

TEST(Toploc, EqualsThePublicPackage) {
  const Json file = golden("toploc.json");
  ASSERT_GE(file["cases"].size(), 20u);
  for (const auto& c : file["cases"]) {
    const std::string name = c["name"];
    const auto prover = chunk(file["chunks"][c["prover"].get<std::string>()]),
               verifier = chunk(file["chunks"][c["verifier"].get<std::string>()]);
    const std::size_t topk = c["topk"];
    const auto proof = toploc_proof(DType::kBF16, prover, topk);
    EXPECT_EQ(to_hex(proof), c["proof"].get<std::string>()) << name;
    EXPECT_EQ(proof.size(), 2 + 2 * topk) << name;
    const auto s = toploc_stats(DType::kBF16, prover, verifier, topk);
    EXPECT_EQ(s.topk, topk) << name;
    EXPECT_EQ(s.exponent_mismatches, c["cpp"]["exponent_mismatches"].get<std::uint64_t>()) << name;
    EXPECT_EQ(s.mantissa_mean, error_measure(c["cpp"]["mean"])) << name;
    EXPECT_EQ(s.mantissa_median, error_measure(c["cpp"]["median"])) << name;
  }
}

TEST(Toploc, IdenticalChunksHaveNoError) {
  for (DType dtype : kFloats) {
    const Pair p = noisy_pair(dtype, 32 * 100, 0, 9);
    const auto s = toploc_stats(dtype, p.a, p.a);
    EXPECT_EQ(s.topk, 128u);
    EXPECT_EQ(s.exponent_mismatches, 0u);
    EXPECT_EQ(s.mantissa_mean, 0);
    EXPECT_EQ(s.mantissa_median, 0);
    EXPECT_EQ(toploc_proof(dtype, p.a).size(), 258u);
  }
}

TEST(Toploc, FewerElementsThanTopk) {
  const auto a = from_doubles(DType::kBF16, {1, 2, 3});
  const auto s = toploc_stats(DType::kBF16, a, a);
  EXPECT_EQ(s.topk, 3u);
  EXPECT_EQ(s.exponent_mismatches, 0u);
  EXPECT_EQ(toploc_proof(DType::kBF16, a).size(), 8u);
  EXPECT_EQ(toploc_stats(DType::kBF16, {}, {}).topk, 0u);
}

TEST(Toploc, MeanAndUpperMedianByHand) {
  const auto a = from_doubles(DType::kBF16, {1, 1 + 3.0 / 128, 8, 4}),
             b = from_doubles(DType::kBF16, {1 + 1.0 / 128, 1, 2, 4});
  const auto s = toploc_stats(DType::kBF16, a, b, 4);  // errors 1, 3, 0; 8 against 2 mismatches
  EXPECT_EQ(s.exponent_mismatches, 1u);
  EXPECT_EQ(s.mantissa_mean, 4.0 / 3);
  EXPECT_EQ(s.mantissa_median, 1);
  const auto t =
      toploc_stats(DType::kBF16, from_doubles(DType::kBF16, {1, 2}), from_doubles(DType::kBF16, {1, 2 + 6.0 / 64}), 2);
  EXPECT_EQ(t.mantissa_median, 6) << "the upper one of two";
}

TEST(Toploc, SignIsInvisible) {
  const auto a = from_doubles(DType::kBF16, {1, 2, 3}), b = from_doubles(DType::kBF16, {-1, -2, -3});
  EXPECT_EQ(toploc_stats(DType::kBF16, a, b, 3).mantissa_mean, 0);
}

TEST(Toploc, NullAndShortProofsMismatchEverywhere) {
  const auto chunk_bytes = from_doubles(DType::kBF16, {1, 2, 3});
  for (std::size_t size : {0, 1, 2, 3})
    EXPECT_EQ(toploc_verify(std::vector<std::byte>(size), DType::kBF16, chunk_bytes).topk, 0u);
  const auto s = toploc_verify(std::vector<std::byte>(8), DType::kBF16, chunk_bytes);
  EXPECT_EQ(s.exponent_mismatches, 3u);
  EXPECT_EQ(s.mantissa_mean, std::numeric_limits<double>::infinity());
}

TEST(Toploc, NanComesFirst) {
  std::vector<double> v(300, 1.0);
  v[250] = std::numeric_limits<double>::quiet_NaN();
  v[20] = std::numeric_limits<double>::infinity();
  v[30] = 5;
  auto w = v;
  w[250] = 2.0;
  const auto s = toploc_stats(DType::kBF16, from_doubles(DType::kBF16, v), from_doubles(DType::kBF16, v), 2);
  EXPECT_EQ(s.exponent_mismatches, 0u);
  EXPECT_EQ(s.mantissa_mean, 0);
  EXPECT_GT(
      toploc_stats(DType::kBF16, from_doubles(DType::kBF16, w), from_doubles(DType::kBF16, v), 2).exponent_mismatches,
      0u);
}

}  // namespace
}  // namespace concord
