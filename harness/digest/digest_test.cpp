#include "digest/digest.hpp"

#include <gtest/gtest.h>

#include "base/text.hpp"

namespace concord {
namespace {

std::vector<std::byte> bytes(std::string_view digits) { return *from_hex(digits); }
const std::vector<std::byte> kBf16 = bytes("803f004040408040");                 // bf16 [1, 2, 3, 4]
const std::vector<std::byte> kF32 = bytes("0000803f000000400000404000008040");  // f32  [1, 2, 3, 4]
using Dims = std::vector<std::int64_t>;

TEST(Sha256, KnownAnswers) {
  // FIPS 180-2, appendix B, and the empty message.
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(kBf16)), "cdbdbbb719c0a903a6c13b43153797e903d08cbcaa63917d8d28048f1fb6b8f5");
  EXPECT_EQ(hex(sha256(kF32)), "ad73b9acd6e4a74b2f5bb5386658ce3bb146cd040a1867646ab3b973fb6632b1");
}

TEST(Sha256, PiecesGiveTheDigestOfTheWhole) {
  const std::string text(1000, 'x');
  for (const std::size_t cut : {0u, 1u, 63u, 64u, 65u, 999u, 1000u})
    EXPECT_EQ(hex(Hasher().update(text.substr(0, cut)).update(text.substr(cut)).finish()), sha256_hex(text)) << cut;
  EXPECT_EQ(Hasher().u8(1).u32(0x05040302).u64(0x0d0c0b0a09080706).finish(),
            sha256(bytes("0102030405060708090a0b0c0d")));
}

TEST(Sha256, AHasherStartsAfreshAndCanBeMoved) {
  Hasher hasher;
  hasher.update("abc").finish();
  EXPECT_EQ(hex(hasher.update("abc").finish()), sha256_hex("abc"));
  hasher.update("a");
  Hasher moved(std::move(hasher));
  Hasher assigned;
  assigned = std::move(moved);
  EXPECT_EQ(hex(assigned.update("bc").finish()), sha256_hex("abc"));
}

TEST(Sha256, HexIsReadStrictly) {
  const std::string digits = sha256_hex("abc");
  EXPECT_EQ(hex(*sha256_from_hex(digits)), digits);
  EXPECT_FALSE(sha256_from_hex(digits.substr(2)));
  EXPECT_FALSE(sha256_from_hex(digits + "00"));
  std::string letter = digits;
  letter[0] = 'g';
  EXPECT_FALSE(sha256_from_hex(letter));
}

// The framed values were computed apart from this code, with Python's hashlib and struct:
//   def tensor(name, dtype, shape, data): return sha256(b"wd1\0" + pack("<I", len(name)) + name + pack("<I",
//   len(dtype)) + dtype +
//       pack("<I", len(shape)) + b"".join(pack("<Q", d) for d in shape) + pack("<Q", len(data)) + data).digest()
//   def model(pairs): return sha256(b"wd1-model\0" + pack("<Q", len(pairs)) + b"".join(d for _, d in
//   sorted(pairs))).digest()
const Sha256 kA = framed_tensor_digest("a.weight", "BF16", Dims{2, 2}, kBf16);
const Sha256 kB = framed_tensor_digest("b", "F32", Dims{4}, kF32);

TEST(FramedDigest, PiecesAreHashedAsTheWholeIs) {
  const std::span<const std::byte> whole = kBf16;
  for (std::size_t a = 0; a <= whole.size(); ++a)
    for (std::size_t b = a; b <= whole.size(); ++b) {
      const std::span<const std::byte> pieces[] = {whole.first(a), whole.subspan(a, b - a), whole.subspan(b)};
      EXPECT_EQ(framed_pieces_digest("a.weight", "BF16", Dims{2, 2}, pieces), kA) << a << " " << b;
    }
}

TEST(FramedDigest, TensorsMatchTheIndependentValues) {
  EXPECT_EQ(hex(kA), "d2f5b057f606b2a601e24b6a592fe8220b9076d917f2da2fea04fccb57b59683");
  EXPECT_EQ(hex(kB), "4c47598a26e8111f33e2758010a0e18dac186de7015d9376294006c8ce9baf1d");
  EXPECT_EQ(hex(framed_tensor_digest("", "F32", Dims{}, bytes("00000000"))),
            "bbb5c6fd96d2f7beea8e4b732d66714cb5c17267094db891e8fc4bbc5a9c5402");
  EXPECT_EQ(hex(framed_tensor_digest("z", "F32", Dims{0, 3}, {})),
            "cc76a4aca20483b7f0b23aca7119aa8ee2969a977e6efaab69b0f4887bcd1f52");
}

TEST(FramedDigest, ModelsMatchTheIndependentValuesInAnyOrder) {
  EXPECT_EQ(hex(framed_model_digest({{"b", kB}, {"a.weight", kA}})),
            "be2f72de9bce2276ac9c98913213e35bc1755750b8b69a5dd377185c925cb6b7");
  EXPECT_EQ(framed_model_digest({{"b", kB}, {"a.weight", kA}}), framed_model_digest({{"a.weight", kA}, {"b", kB}}));
  EXPECT_EQ(hex(framed_model_digest({})), "886d41e2329eb2d3917d13673d28dfab9bd0f79668d801bc9e45d41edcfb3fed");
  // Byte order, not signed characters: a name that starts with byte C3 comes after "a".
  EXPECT_EQ(hex(framed_model_digest({{"\xc3", kA}, {"a", kB}})),
            "785f9e8f4549992b05e8593b9b66754800d3e12eeb4f2d50bff06062d47e0d49");
}

TEST(FramedDigest, EveryPartOfATensorCounts) {
  EXPECT_NE(framed_tensor_digest("a.weighs", "BF16", Dims{2, 2}, kBf16), kA);
  EXPECT_NE(framed_tensor_digest("a.weight", "F16", Dims{2, 2}, kBf16), kA);
  EXPECT_NE(framed_tensor_digest("a.weight", "BF16", Dims{4}, kBf16), kA);
  EXPECT_NE(framed_tensor_digest("a.weight", "BF16", Dims{4, 1}, kBf16), kA);
  for (std::size_t bit = 0; bit < kBf16.size() * 8; ++bit) {
    auto flipped = kBf16;
    flipped[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_NE(framed_tensor_digest("a.weight", "BF16", Dims{2, 2}, flipped), kA) << bit;
  }
  // The frame keeps characters from moving between the name and the type.
  EXPECT_NE(framed_tensor_digest("aB", "F16", Dims{2, 2}, kBf16), framed_tensor_digest("a", "BF16", Dims{2, 2}, kBf16));
}

TEST(FramedDigest, AModelNoticesAMissingAnExtraAndASwappedTensor) {
  const Sha256 both = framed_model_digest({{"a", kA}, {"b", kB}});
  EXPECT_NE(framed_model_digest({{"a", kA}}), both);
  EXPECT_NE(framed_model_digest({{"a", kA}, {"b", kB}, {"c", kB}}), both);
  EXPECT_NE(framed_model_digest({{"a", kB}, {"b", kA}}), both);
}

}  // namespace
}  // namespace concord
