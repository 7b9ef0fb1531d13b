// Stored bytes to float32, bit for bit: against the Python package `gguf`, against the scalar conversions of floor 0,
// and against hand-made blocks.
#include "checkpoint/codec.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <thread>

#include "base/dtype.hpp"
#include "checkpoint/finite.hpp"
#include "checkpoint/test_files.hpp"

namespace concord {
namespace {

using testing::as_span;
using testing::gguf;
using testing::le;

const std::string kGolden = CONCORD_SOURCE_DIR "/fixtures/golden/gguf/";

// Equal bits; a NaN equals any NaN, because its payload is the processor's choice when it comes from inf - inf.
::testing::AssertionResult same_bits(float got, float expected) {
  if (std::isnan(got) && std::isnan(expected)) return ::testing::AssertionSuccess();
  if (std::bit_cast<std::uint32_t>(got) == std::bit_cast<std::uint32_t>(expected)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << got << " instead of " << expected;
}

std::unique_ptr<Checkpoint> open_golden(const std::string& name) {
  auto checkpoint = Checkpoint::open(kGolden + name);
  EXPECT_TRUE(checkpoint) << checkpoint.error().to_string();
  return checkpoint ? std::move(*checkpoint) : nullptr;
}

std::vector<float> read_all(const Checkpoint& checkpoint, const TensorInfo& t) {
  std::vector<float> out(t.elements);
  const Status read = checkpoint.read_f32(t, 0, t.elements, out.data());
  EXPECT_TRUE(read) << read.error().to_string();
  return out;
}

TEST(Codec, EveryTypeEqualsThePythonPackageBitForBit) {
  const auto stored = open_golden("all-types.gguf"), expected = open_golden("all-types.safetensors");
  ASSERT_TRUE(stored && expected);
  ASSERT_EQ(stored->tensors().size(), 16u);
  std::size_t compared = 0;
  for (const TensorInfo& t : stored->tensors()) {
    const TensorInfo* e = expected->find(t.name);
    ASSERT_NE(e, nullptr) << t.name;
    ASSERT_EQ(t.shape, e->shape) << t.name;
    const auto got = read_all(*stored, t), want = read_all(*expected, *e);
    for (std::size_t i = 0; i < got.size(); ++i, ++compared)
      ASSERT_TRUE(same_bits(got[i], want[i])) << t.name << " element " << i;
  }
  EXPECT_GT(compared, 22'000u);
}

TEST(Codec, AnyRangeOfWholeBlocksEqualsTheSameRangeOfTheWhole) {
  const auto stored = open_golden("all-types.gguf");
  ASSERT_TRUE(stored);
  for (const TensorInfo& t : stored->tensors()) {
    const std::uint64_t block = stored->block_size(t);
    const auto whole = read_all(*stored, t);
    for (std::uint64_t begin = 0; begin < t.elements; begin += block) {
      const std::uint64_t count = std::min(t.elements - begin, 3 * block);
      std::vector<float> part(count);
      ASSERT_TRUE(stored->read_f32(t, begin, count, part.data()));
      for (std::uint64_t i = 0; i < count; ++i)
        ASSERT_TRUE(same_bits(part[i], whole[begin + i])) << t.name << " " << begin << " " << i;
    }
  }
}

TEST(Codec, RefusesRangesOutsideTheTensorOrInsideABlock) {
  const auto stored = open_golden("all-types.gguf");
  ASSERT_TRUE(stored);
  const TensorInfo& t = *stored->find("q4_k");
  std::vector<float> out(t.elements + 256);
  const std::pair<std::uint64_t, std::uint64_t> ranges[] = {
      {0, t.elements + 256}, {t.elements, 256}, {1, 256}, {0, 255}, {UINT64_MAX - 255, 256}, {256, UINT64_MAX - 255}};
  for (const auto& [begin, count] : ranges) {
    const Status read = stored->read_f32(t, begin, count, out.data());
    ASSERT_FALSE(read) << begin << " " << count;
    EXPECT_EQ(read.error().code, "checkpoint.bad_range");
  }
  EXPECT_TRUE(stored->read_f32(t, t.elements, 0, out.data()));
}

TEST(Codec, EveryHalfAndBrainFloatEqualsTheScalarConversion) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> half(all.size()), brain(all.size());
  find_codec("F16")->decode(std::as_bytes(std::span(all)).data(), all.size(), half.data());
  find_codec("BF16")->decode(std::as_bytes(std::span(all)).data(), all.size(), brain.data());
  for (std::size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(same_bits(half[i], f16_to_f32(all[i]))) << i;
    ASSERT_EQ(std::isnan(half[i]), (i & 0x7fff) > 0x7c00) << i;
    ASSERT_TRUE(same_bits(brain[i], bf16_to_f32(all[i]))) << i;
  }
}

TEST(Codec, IntegersAndDoublesAreRoundedOnceToTheNearest) {
  const std::int64_t integers[] = {16777217, 16777219, -16777217, INT64_MAX, INT64_MIN};
  float out[5];
  find_codec("I64")->decode(std::as_bytes(std::span(integers)).data(), 5, out);
  EXPECT_EQ(out[0], 16777216.0f);  // a tie goes to even
  EXPECT_EQ(out[1], 16777220.0f);
  EXPECT_EQ(out[2], -16777216.0f);
  EXPECT_EQ(out[3], 0x1p63f);
  EXPECT_EQ(out[4], -0x1p63f);
  const std::byte booleans[] = {std::byte{0}, std::byte{1}};
  find_codec("BOOL")->decode(booleans, 2, out);
  EXPECT_EQ(out[0], 0.0f);
  EXPECT_EQ(out[1], 1.0f);
}

// Hand-made blocks, so that the layouts are also checked without the fixture.
TEST(Codec, HandMadeBlocks) {
  std::vector<float> out(256);
  const auto decode = [&](const char* type, const std::string& block) {
    const Codec* codec = find_codec(type);
    ASSERT_NE(codec, nullptr);
    ASSERT_EQ(codec->bytes, block.size());
    codec->decode(as_span(block).data(), 1, out.data());
  };
  const std::string two = le<std::uint16_t>(0x4000), one = le<std::uint16_t>(0x3c00);
  decode("Q4_0", two + "\x0f" + std::string(15, '\x88'));
  EXPECT_EQ(out[0], 14.0f);    // (15 - 8) * 2
  EXPECT_EQ(out[16], -16.0f);  // (0 - 8) * 2
  EXPECT_EQ(out[1], 0.0f);
  decode("Q4_1", two + one + "\x5f" + std::string(15, '\0'));
  EXPECT_EQ(out[0], 31.0f);
  EXPECT_EQ(out[16], 11.0f);
  EXPECT_EQ(out[31], 1.0f);
  decode("Q5_0", two + le(0x80000001u) + std::string(16, '\0'));
  EXPECT_EQ(out[0], 0.0f);  // (16 - 16) * 2
  EXPECT_EQ(out[1], -32.0f);
  EXPECT_EQ(out[31], 0.0f);
  decode("Q5_1", two + one + le(0x00010000u) + std::string(16, '\0'));
  EXPECT_EQ(out[16], 33.0f);
  EXPECT_EQ(out[0], 1.0f);
  decode("Q8_0", two + "\x80\x7f" + std::string(30, '\1'));
  EXPECT_EQ(out[0], -256.0f);
  EXPECT_EQ(out[1], 254.0f);
  EXPECT_EQ(out[31], 2.0f);
  decode("Q6_K", std::string(128, '\0') + std::string(64, '\0') + "\x03" + std::string(15, '\xff') + two);
  EXPECT_EQ(out[0], -192.0f);  // 2 * 3 * (0 - 32)
  EXPECT_EQ(out[255], 64.0f);  // 2 * -1 * (0 - 32)
}

TEST(Codec, ThreadsReadDisjointRangesToTheSameBits) {
  const auto stored = open_golden("all-types.gguf");
  ASSERT_TRUE(stored);
  const TensorInfo& t = *stored->find("q6_k");
  const auto whole = read_all(*stored, t);
  std::vector<float> parts(t.elements);
  std::vector<std::thread> threads;
  for (std::uint64_t begin = 0; begin < t.elements; begin += 256)
    threads.emplace_back([&, begin] { EXPECT_TRUE(stored->read_f32(t, begin, 256, parts.data() + begin)); });
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_TRUE(same_bits(parts[i], whole[i])) << i;
}

TEST(Finite, NamesTheBlockWithABadScale) {
  std::string bytes = gguf({}, {{.name = "w", .ne = {64, 300}, .type = 8}}, 600 * 34);
  const std::uint64_t data = bytes.size() - 600 * 34, block = data + 599 * 34;
  auto checkpoint = open_checkpoint_bytes(as_span(bytes), "f");
  ASSERT_TRUE(checkpoint);
  EXPECT_TRUE(check_finite(**checkpoint, (*checkpoint)->tensors()[0]));
  for (const std::uint16_t bad :
       {0x7c00, 0xfc00, 0x7e00}) {  // infinity times zero is NaN, so even a block of zeros shows it
    std::memcpy(bytes.data() + block, &bad, 2);
    const Status status = check_finite(**checkpoint, (*checkpoint)->tensors()[0]);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, "checkpoint.not_finite");
    EXPECT_EQ(status.error().offset, block);
    EXPECT_NE(status.error().message.find("element 19168 "), std::string::npos) << status.error().message;
  }
}

}  // namespace
}  // namespace concord
