// Every way in which a GGUF file can be wrong, and the ones that only look wrong.
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/gguf_types.hpp"
#include "checkpoint/test_files.hpp"

namespace concord {
namespace {

using testing::arch;
using testing::array;
using testing::as_span;
using testing::gguf;
using testing::gguf_header;
using testing::GgufTensor;
using testing::info;
using testing::le;
using testing::pad;
using testing::pair;
using testing::str;

struct Bad {
  const char* what;
  std::string bytes;
  std::string code;
  std::optional<std::uint64_t> position = {};
};

void expect_refused(const Bad& bad) {
  SCOPED_TRACE(bad.what);
  const auto parsed = parse_gguf(as_span(bad.bytes), "f");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, "gguf." + bad.code) << parsed.error().to_string();
  EXPECT_EQ(exit_code(parsed.error().kind), exit_codes::kBadInput);
  EXPECT_LT(parsed.error().message.size(), 600u);
  ASSERT_TRUE(parsed.error().offset);
  EXPECT_LE(*parsed.error().offset, bad.bytes.size());
  if (bad.position) {
    EXPECT_EQ(*parsed.error().offset, *bad.position) << parsed.error().to_string();
  }
}

TEST(Gguf, RefusesABrokenHeader) {
  const std::string rest(64, '\0');
  const Bad cases[] = {
      {"empty", "", "truncated", 0},
      {"magic cut", "GGU", "truncated", 0},
      {"magic", "GGUX" + gguf_header(3, 0, 0).substr(4), "bad_magic", 0},
      {"version 0", gguf_header(0, 0, 0), "unsupported_version", 4},
      {"version 1", gguf_header(1, 0, 0), "unsupported_version", 4},
      {"version 4", gguf_header(4, 0, 0), "unsupported_version", 4},
      {"big-endian version 3", gguf_header(0x03000000, 0, 0), "byte_order", 4},
      {"version cut", "GGUF\3", "truncated", 4},
      {"counts cut", gguf_header(3, 0, 0).substr(0, 20), "truncated", 16},
      {"negative tensor count", gguf_header(3, -1, 0) + rest, "bad_tensor_count", 8},
      {"2^63 - 1 tensors", gguf_header(3, INT64_MAX, 0) + rest, "bad_tensor_count", 8},
      {"more tensors than the file holds", gguf_header(3, 3, 0) + rest, "bad_tensor_count", 8},
      {"negative pair count", gguf_header(3, 0, -1) + rest, "bad_kv_count", 16},
      {"2^62 pairs", gguf_header(3, 0, INT64_C(1) << 62) + rest, "bad_kv_count", 16},
      {"more pairs than the file holds", gguf_header(3, 0, 5) + rest, "bad_kv_count", 16},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Gguf, RefusesBadMetadata) {
  const std::string rest(64, '\0');
  const auto with = [&](const std::string& p) { return gguf({p}, {}, 0); };
  const std::uint64_t at = 24 + arch().size();  // where the second pair begins
  const Bad cases[] = {
      {"key length beyond the file", gguf_header(3, 0, 1) + le<std::uint64_t>(1u << 30) + rest, "string_beyond_file",
       24},
      {"key length 2^64 - 1", gguf_header(3, 0, 1) + le<std::uint64_t>(UINT64_MAX) + rest, "string_beyond_file", 24},
      {"key of 65536 bytes", with(pair(std::string(65'536, 'k'), 0, "x")), "key_too_long", at},
      {"empty key", with(pair("", 0, "x")), "bad_name"},
      {"control character in a key", with(pair("a\033[2J", 0, "x")), "bad_name"},
      {"key not UTF-8", with(pair("a\xff", 0, "x")), "not_utf8", at + 8},
      {"value type 13", with(pair("k", 13, "x")), "bad_value_type", at + 9},
      {"value type -1", with(pair("k", -1, "x")), "bad_value_type", at + 9},
      {"value cut off", gguf_header(3, 0, 1) + pair("kkkkk", 10, "1234567"), "truncated"},
      {"string value beyond the file", with(pair("k", 8, le<std::uint64_t>(1u << 20))), "string_beyond_file"},
      {"string of 64 MiB and a byte", with(pair("k", 8, str(std::string((64u << 20) + 1, 'x')))), "string_too_long"},
      {"bool 2", with(pair("k", 7, "\2")), "bad_bool", at + 13},
      {"bool 2 in an array", with(pair("k", 9, array(7, 1, "\2"))), "bad_bool"},
      {"duplicate key", with(arch()), "duplicate_key", at},
      {"array of arrays", with(pair("k", 9, array(9, 1, array(0, 1, "x")))), "nested_array", at + 13},
      {"array of type 13", with(pair("k", 9, array(13, 1, "x"))), "bad_value_type"},
      {"array of type -1", with(pair("k", 9, array(-1, 1, "x"))), "bad_value_type"},
      {"array length 2^63", with(pair("k", 9, array(8, UINT64_C(1) << 63, ""))), "array_beyond_file"},
      {"array length times size wraps", with(pair("k", 9, array(10, UINT64_C(1) << 61, ""))), "array_beyond_file"},
      {"array longer than the file", with(pair("k", 9, array(0, 1000, "x"))), "array_beyond_file"},
      {"too many array elements", with(pair("k", 9, array(0, 16'777'217, std::string(16'777'217, 'x')))),
       "too_many_values"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Gguf, RefusesKnownKeysOfTheWrongType) {
  const auto with = [&](const std::string& p) { return gguf({p}, {}, 0); };
  const Bad cases[] = {
      {"no architecture", gguf_header(3, 0, 1) + pair("k", 0, "x"), "missing_architecture"},
      {"nothing at all", gguf_header(3, 0, 0), "missing_architecture"},
      {"architecture is a number", gguf_header(3, 0, 1) + pair("general.architecture", 4, le(1u)), "wrong_type"},
      {"architecture is an array", gguf_header(3, 0, 1) + pair("general.architecture", 9, array(8, 1, str("llama"))),
       "wrong_type"},
      {"alignment is u64", with(pair("general.alignment", 10, le<std::uint64_t>(32))), "wrong_type"},
      {"alignment is i32", with(pair("general.alignment", 5, le(32))), "wrong_type"},
      {"alignment is a string", with(pair("general.alignment", 8, str("32"))), "wrong_type"},
      {"tokens are integers", with(pair("tokenizer.ggml.tokens", 9, array(5, 1, le(1)))), "wrong_type"},
      {"tokens are one string", with(pair("tokenizer.ggml.tokens", 8, str("a"))), "wrong_type"},
      {"scores are strings", with(pair("tokenizer.ggml.scores", 9, array(8, 1, str("a")))), "wrong_type"},
      {"scores are integers", with(pair("tokenizer.ggml.scores", 9, array(5, 1, le(1)))), "wrong_type"},
      {"token types are floats", with(pair("tokenizer.ggml.token_type", 9, array(6, 1, le(1.0f)))), "wrong_type"},
      {"merges are floats", with(pair("tokenizer.ggml.merges", 9, array(6, 1, le(1.0f)))), "wrong_type"},
      {"one part of three", with(pair("split.count", 2, le<std::uint16_t>(3))), "split_file"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
  for (const std::uint32_t alignment : {0u, 1u, 4u, 13u, 48u, 1u << 21, 1u << 31, 0xffffffffu})
    expect_refused({"alignment", with(pair("general.alignment", 4, le(alignment))), "bad_alignment"});
  for (const std::uint32_t alignment : {8u, 16u, 64u, 4096u})
    EXPECT_TRUE(parse_gguf(as_span(gguf({pair("general.alignment", 4, le(alignment))}, {{}}, 128, alignment)), "f"))
        << alignment;
}

TEST(Gguf, RefusesBadTensorDeclarations) {
  const auto with = [](const GgufTensor& t) { return gguf({}, {t}, 128); };
  const std::uint64_t at = 24 + arch().size();
  const std::uint64_t rank_at = at + 9, type_at = rank_at + 4 + 8;
  const Bad cases[] = {
      {"name of 64 bytes", with({.name = std::string(64, 'n')}), "name_too_long", at},
      {"name beyond the file", gguf_header(3, 1, 1) + arch() + le<std::uint64_t>(1000) + std::string(40, 'n'),
       "string_beyond_file", at},
      {"empty name", with({.name = ""}), "bad_name"},
      {"zero byte in a name", with({.name = std::string("a\0b", 3)}), "bad_name", at + 8},
      {"name not UTF-8", with({.name = "\xc0\xaf"}), "not_utf8", at + 8},
      {"rank 0", with({.ne = {}}), "bad_rank", rank_at},
      {"rank 5", with({.ne = {1, 1, 1, 1, 32}}), "bad_rank", rank_at},
      {"rank 2^32 - 1", gguf_header(3, 1, 1) + arch() + str("t") + le(0xffffffffu) + std::string(64, '\0'), "bad_rank",
       rank_at},
      {"negative extent", with({.ne = {-1}}), "bad_shape", rank_at + 4},
      {"smallest extent", with({.ne = {INT64_MIN}}), "bad_shape", rank_at + 4},
      {"2^42 + 1 twice", with({.ne = {(INT64_C(1) << 42) + 1, (INT64_C(1) << 42) + 1}}), "overflow", rank_at},
      {"product that wraps to 0", with({.ne = {INT64_C(1) << 32, INT64_C(1) << 32}}), "overflow", rank_at},
      {"bytes that wrap", with({.ne = {INT64_C(1) << 62}}), "overflow", rank_at},
      {"zero extent behind a product that wraps", with({.ne = {0, INT64_C(1) << 32, INT64_C(1) << 32}}), "overflow"},
      {"row of half a block", with({.ne = {16, 2}, .type = 2}), "partial_block", rank_at},
      {"row of 128 for blocks of 256", with({.ne = {128, 2}, .type = 12}), "partial_block", rank_at},
      {"type 43", with({.type = 43}), "unknown_type", type_at},
      {"type -1", with({.type = -1}), "unknown_type", type_at},
      {"type -2^31", with({.type = INT32_MIN}), "unknown_type", type_at},
      {"duplicate name", gguf({}, {{}, {.offset = 128}}, 256), "duplicate_tensor"},
      {"table cut off", gguf({}, {{}}, 0).substr(0, type_at + 8), "truncated"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
  for (const std::int32_t removed : {4, 5, 31, 32, 33, 36, 37, 38})
    expect_refused({"removed type", with({.type = removed}), "removed_type", type_at});
  EXPECT_TRUE(parse_gguf(as_span(with({.name = std::string(63, 'n')})), "f"));
}

TEST(Gguf, RefusesBadOffsetsAndMissingData) {
  const auto pair_of = [](std::uint64_t second, std::size_t data) {
    return gguf({}, {{.name = "a"}, {.name = "b", .offset = second}}, data);
  };
  const std::string good = pair_of(128, 256);
  const Bad cases[] = {
      {"first offset not 0", gguf({}, {{.offset = 32}}, 160), "hole"},
      {"unaligned", pair_of(129, 260), "misaligned_offset"},
      {"overlap", pair_of(96, 256), "overlap"},
      {"same place twice", pair_of(0, 256), "overlap"},
      {"hole", pair_of(160, 288), "hole"},
      {"near 2^64", pair_of(UINT64_MAX - 31, 256), "hole"},
      {"no data", good.substr(0, good.size() - 256), "data_beyond_file"},
      {"last tensor cut", good.substr(0, good.size() - 1), "data_beyond_file", good.size() - 1},
      {"exabytes declared", gguf({}, {{.ne = {INT64_C(1) << 60}}}, 128), "data_beyond_file"},
      {"end that wraps when padded", gguf({}, {{.ne = {(INT64_C(1) << 62) - 1}}}, 128), "overflow"},
      {"trailing bytes", good + "x", "trailing_bytes", good.size()},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Gguf, AcceptsALastTensorWithOrWithoutPadding) {
  const std::string bare = gguf({}, {{.ne = {3}}}, 12);
  EXPECT_TRUE(parse_gguf(as_span(bare), "f"));
  EXPECT_TRUE(parse_gguf(as_span(pad(bare)), "f"));
  EXPECT_TRUE(parse_gguf(as_span(gguf({}, {}, 0)), "f"));
  EXPECT_TRUE(parse_gguf(as_span(gguf({}, {{.ne = {32, 0}}}, 0)), "f"));
}

TEST(Gguf, Version2HasTheSameLayout) {
  std::string bytes = gguf({}, {{}}, 128);
  bytes[4] = 2;
  const auto parsed = parse_gguf(as_span(bytes), "f");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->format, "gguf v2");
}

TEST(Gguf, KeepsMetadataOfEveryTypeWithItsValue) {
  const std::string bytes =
      gguf({pair("u8", 0, "\xff"), pair("i8", 1, "\x80"), pair("i64", 11, le(INT64_MIN)),
            pair("u64", 10, le(UINT64_MAX)), pair("f32", 6, le(0.1f)), pair("nan", 12, le(std::nan(""))),
            pair("bool", 7, "\1"), pair("bytes", 8, str("\xff")), pair("list", 9, array(8, 2, str("a") + str(""))),
            pair("none", 9, array(4, 0, ""))},
           {}, 0);
  const auto parsed = parse_gguf(as_span(bytes), "f");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  const Json& m = parsed->metadata;
  EXPECT_EQ(m["general.architecture"], "llama");
  EXPECT_EQ(m["u8"], 255);
  EXPECT_EQ(m["i8"], -128);
  EXPECT_EQ(m["i64"].get<std::int64_t>(), INT64_MIN);
  EXPECT_EQ(m["u64"].get<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ(m["f32"].get<float>(), 0.1f);
  EXPECT_TRUE(std::isnan(m["nan"].get<double>()));
  EXPECT_EQ(m["bool"], true);
  EXPECT_EQ(m["bytes"].get<std::string>(), "\xff");
  EXPECT_EQ(m["list"], Json({"a", ""}));
  EXPECT_EQ(m["none"], Json::array());
}

// Types without a decoder are still listed with their exact size; reading them is refused by name.
TEST(Gguf, SizesEveryTypeAndNamesTheOnesItCannotDecode) {
  int refused = 0;
  for (const GgmlType& type : kGgmlTypes) {
    if (type.elements == 0) continue;
    const std::string bytes =
        gguf({}, {{.name = "w", .ne = {2 * type.elements, 3}, .type = type.id}}, std::size_t{6} * type.bytes);
    const auto checkpoint = open_checkpoint_bytes(as_span(bytes), "f");
    ASSERT_TRUE(checkpoint) << type.name << checkpoint.error().to_string();
    const TensorInfo* w = (*checkpoint)->find("w");
    ASSERT_NE(w, nullptr);
    EXPECT_EQ(w->type, type.name);
    EXPECT_EQ(w->bytes, std::uint64_t{6} * type.bytes);
    EXPECT_EQ(w->shape, (Shape{3, 2 * static_cast<std::int64_t>(type.elements)}));
    EXPECT_EQ((*checkpoint)->block_size(*w), type.elements);
    std::vector<float> out(w->elements);
    const Status read = (*checkpoint)->read_f32(*w, 0, w->elements, out.data());
    EXPECT_EQ(read.has_value(), w->decodable);
    if (read) continue;
    ++refused;
    EXPECT_EQ(read.error().code, "checkpoint.not_decodable");
    EXPECT_EQ(exit_code(read.error().kind), exit_code(ErrorKind::kUnsupported));
    EXPECT_NE(read.error().message.find(std::string(type.name)), std::string::npos);
  }
  EXPECT_EQ(refused, 19);
}

TEST(Gguf, TheTypeTableIsIndexedById) {
  for (std::size_t i = 0; i < kGgmlTypes.size(); ++i) EXPECT_EQ(kGgmlTypes[i].id, static_cast<std::int32_t>(i));
}

TEST(Gguf, SurvivesEveryCutAndEveryFlippedBit) {
  const std::string good =
      gguf({pair("list", 9, array(8, 2, str("ab") + str("c"))), pair("general.alignment", 4, le(32u))},
           {{.name = "a", .ne = {32, 2}, .type = 8}, {.name = "b", .ne = {3}, .offset = 96}}, 108);
  ASSERT_TRUE(parse_gguf(as_span(good), "f"));
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(parse_gguf(as_span(good.substr(0, n)), "f")) << n;
  for (std::size_t i = 0; i < good.size() - 108; ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      const auto parsed = parse_gguf(as_span(changed), "f");
      if (!parsed) continue;
      for (const TensorInfo& t : parsed->tensors) ASSERT_LE(t.offset + t.bytes, changed.size());
    }
}

}  // namespace
}  // namespace concord
