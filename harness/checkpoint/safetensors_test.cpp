// Every way in which a safetensors file can be wrong, and the ones that only look wrong.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>

#include "checkpoint/test_files.hpp"

namespace concord {
namespace {

using testing::as_span;
using testing::entry;
using testing::le;
using testing::safetensors;

struct Bad {
  const char* what;
  std::string bytes;
  std::string code;
  std::optional<std::uint64_t> position = {};
};

void expect_refused(const Bad& bad) {
  SCOPED_TRACE(bad.what);
  const auto parsed = parse_safetensors(as_span(bad.bytes), "f");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, "safetensors." + bad.code) << parsed.error().to_string();
  EXPECT_EQ(exit_code(parsed.error().kind), exit_codes::kBadInput);
  EXPECT_LT(parsed.error().message.size(), 600u);
  ASSERT_TRUE(parsed.error().offset);
  EXPECT_LE(*parsed.error().offset, bad.bytes.size());
  if (bad.position) {
    EXPECT_EQ(*parsed.error().offset, *bad.position) << parsed.error().to_string();
  }
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets, std::size_t data) {
  return safetensors(R"({"t":)" + entry(dtype, shape, offsets) + "}", data);
}
std::string two(const std::string& a, const std::string& b, std::size_t data) {
  return safetensors(R"({"a":)" + entry("U8", "[4]", a) + R"(,"b":)" + entry("U8", "[4]", b) + "}", data);
}

TEST(Safetensors, RefusesABrokenFrame) {
  const std::string good = one("F32", "[2,2]", "[0,16]", 16);
  const Bad cases[] = {
      {"empty", "", "too_small", 0},
      {"seven bytes", std::string(7, '\1'), "too_small", 0},
      {"length 0", std::string(16, '\0'), "empty_header", 0},
      {"length beyond the file", le<std::uint64_t>(1000) + "{}", "header_beyond_file", 0},
      {"length one byte too much", le<std::uint64_t>(3) + "{}", "header_beyond_file", 0},
      {"length above the limit", le<std::uint64_t>(100'000'001) + "{}", "header_too_large", 0},
      {"length that wraps when 8 is added", le<std::uint64_t>(UINT64_MAX) + "{}", "header_too_large", 0},
      {"leading white space", safetensors(" {}", 0), "header_start", 8},
      {"byte order mark", safetensors("\xEF\xBB\xBF{}", 0), "header_start", 8},
      {"data cut off", good.substr(0, good.size() - 1), "truncated", good.size() - 1},
      {"all data cut off", good.substr(0, good.size() - 16), "truncated"},
      {"one byte too many", good + "x", "trailing_bytes", good.size()},
      {"data without tensors", safetensors("{}", 3), "trailing_bytes", 10},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesHeadersThatAreNotUtf8) {
  const Bad cases[] = {
      {"lone 0xff", safetensors("\xff", 0), "not_utf8", 8},
      {"inside a name", safetensors("{\"a\xff\":1}", 0), "not_utf8", 11},
      {"truncated sequence", safetensors("{\"a\xe2\x9c", 0), "not_utf8", 11},
      {"overlong slash", safetensors("{\"\xc0\xaf\":1}", 0), "not_utf8", 10},
      {"surrogate", safetensors("{\"\xed\xa0\x80\":1}", 0), "not_utf8", 10},
      {"above U+10FFFF", safetensors("{\"\xf4\x90\x80\x80\":1}", 0), "not_utf8", 10},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesWhatIsNotOneJsonObject) {
  const std::string object = R"({"t":)" + entry("U8", "[0]", "[0,0]") + "}";
  const Bad cases[] = {
      {"a brace", safetensors("{", 0), "syntax", 9},
      {"cut inside a string", safetensors("{\"t", 0), "syntax"},
      {"trailing garbage", safetensors(object + "x", 0), "syntax"},
      {"two objects", safetensors(object + "{}", 0), "syntax"},
      {"zero byte, then more", safetensors(object + std::string(1, '\0') + "[[[", 0), "syntax", 8 + object.size()},
      {"comment", safetensors("{/**/}", 0), "syntax"},
      {"trailing comma", safetensors(R"({"t":)" + entry("U8", "[0,]", "[0,0]") + "}", 0), "syntax"},
      {"lone surrogate escape", safetensors(R"({"\ud800":1})", 0), "syntax"},
      {"array", safetensors("[]", 0), "not_object"},
      {"string", safetensors("\"x\"", 0), "not_object"},
      {"number", safetensors("12", 0), "not_object"},
      {"null", safetensors("null", 0), "not_object"},
      {"true", safetensors("true", 0), "not_object"},
      {"a million brackets", safetensors(std::string(1'000'000, '['), 0), "not_object", 9},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesEntriesThatBreakTheSchema) {
  const auto body = [](const std::string& fields) { return safetensors(R"({"t":{)" + fields + "}}", 4); };
  const Bad cases[] = {
      {"entry is a number", safetensors(R"({"t":1})", 0), "bad_entry", 15},
      {"entry is null", safetensors(R"({"t":null})", 0), "bad_entry"},
      {"entry is an array", safetensors(R"({"t":[]})", 0), "bad_entry"},
      {"no dtype", body(R"("shape":[4],"data_offsets":[0,4])"), "missing_field"},
      {"no shape", body(R"("dtype":"U8","data_offsets":[0,4])"), "missing_field"},
      {"no offsets", body(R"("dtype":"U8","shape":[4])"), "missing_field"},
      {"nothing", body(""), "missing_field"},
      {"unknown field", body(R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"stride":1)"), "unknown_field"},
      {"unknown field of great depth", body(R"("x":)" + std::string(100'000, '[')), "unknown_field"},
      {"unknown dtype", body(R"("dtype":"F128","shape":[4],"data_offsets":[0,4])"), "unknown_dtype"},
      {"lower case dtype", body(R"("dtype":"f32","shape":[4],"data_offsets":[0,4])"), "unknown_dtype"},
      {"dtype is a number", body(R"("dtype":32,"shape":[4],"data_offsets":[0,4])"), "unknown_dtype"},
      {"dtype is an array", body(R"("dtype":["U8"],"shape":[4],"data_offsets":[0,4])"), "unknown_dtype"},
      {"empty name", safetensors(R"({"":)" + entry("U8", "[0]", "[0,0]") + "}", 0), "bad_name"},
      {"zero byte in a name", safetensors(R"({"a\u0000b":)" + entry("U8", "[0]", "[0,0]") + "}", 0), "bad_name"},
      {"escape sequence in a name", safetensors(R"({"\u001b[2J":)" + entry("U8", "[0]", "[0,0]") + "}", 0), "bad_name"},
      {"name of 5000 bytes", safetensors("{\"" + std::string(5000, 'n') + "\":" + entry("U8", "[0]", "[0,0]") + "}", 0),
       "bad_name"},
      {"metadata is a list", safetensors(R"({"__metadata__":[]})", 0), "metadata"},
      {"metadata is a string", safetensors(R"({"__metadata__":"x"})", 0), "metadata"},
      {"metadata value is a number", safetensors(R"({"__metadata__":{"a":1}})", 0), "metadata"},
      {"metadata value is null", safetensors(R"({"__metadata__":{"a":null}})", 0), "metadata"},
      {"metadata value is an object", safetensors(R"({"__metadata__":{"a":{}}})", 0), "metadata"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesBadShapesAndOffsets) {
  for (const char* shape : {"[-1]", "[1.0]", "[1e3]", "[\"4\"]", "[null]", "[true]", "[18446744073709551616]",
                            "[9223372036854775808]", "4", "{}", "null", "[[4]]", "\"4\""})
    expect_refused({shape, one("U8", shape, "[0,4]", 4), "bad_shape"});
  for (const char* offsets : {"[]", "[0]", "[0,4,8]", "[4,0]", "[-4,0]", "[0.0,4]", "[0,\"4\"]", "[0,4e0]",
                              "[0,18446744073709551616]", "4", "{}", "null", "[[0,4]]"})
    expect_refused({offsets, one("U8", "[4]", offsets, 4), "bad_offsets"});
  std::string many = "[1";
  for (int i = 0; i < 1'000'000; ++i) many += ",1";
  expect_refused({"a million dimensions", one("U8", many + "]", "[0,1]", 1), "rank"});
  std::string most = "[1";
  for (int i = 1; i < 32; ++i) most += ",1";
  EXPECT_TRUE(parse_safetensors(as_span(one("U8", most + "]", "[0,1]", 1)), "f"));
  expect_refused({"33 dimensions", one("U8", most + ",1]", "[0,1]", 1), "rank"});
}

TEST(Safetensors, RefusesSizesThatDoNotAgree) {
  const Bad cases[] = {
      {"too few bytes", one("F32", "[2,2]", "[0,12]", 12), "size_mismatch", 12},
      {"too many bytes", one("F32", "[2,2]", "[0,20]", 20), "size_mismatch", 12},
      {"scalar without bytes", one("F32", "[]", "[0,0]", 0), "size_mismatch"},
      {"product that wraps to 0", one("U8", "[4294967296,4294967296]", "[0,0]", 0), "overflow"},
      {"product that wraps to 4", one("U8", "[4611686018427387905,4]", "[0,4]", 4), "overflow"},
      {"bits that wrap", one("F64", "[2305843009213693953]", "[0,8]", 8), "overflow"},
      {"zero extent behind a product that wraps", one("U8", "[4294967296,4294967296,0]", "[0,0]", 0), "overflow"},
      {"zero extent before a product that wraps", one("U8", "[0,4294967296,4294967296]", "[0,0]", 0), "overflow"},
      {"end that wraps when the header is added", one("U8", "[4]", "[18446744073709551611,18446744073709551615]", 4),
       "overflow"},
      {"three 4-bit values", one("F4", "[3]", "[0,2]", 2), "partial_byte"},
      {"two 6-bit values", one("F6_E2M3", "[2]", "[0,2]", 2), "partial_byte"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesHolesAndOverlaps) {
  const Bad cases[] = {
      {"first offset not 0", one("U8", "[4]", "[1,5]", 5), "first_offset"},
      {"hole", two("[0,4]", "[5,9]", 9), "hole"},
      {"overlap by one", two("[0,4]", "[3,7]", 7), "overlap"},
      {"same bytes twice", two("[0,4]", "[0,4]", 4), "overlap"},
      {"overlap declared in reverse", two("[3,7]", "[0,4]", 7), "overlap"},
      {"offsets far behind the file", two("[0,4]", "[1099511627776,1099511627780]", 8), "hole"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

TEST(Safetensors, RefusesDuplicateKeysHoweverTheyAreWritten) {
  const std::string e = entry("U8", "[0]", "[0,0]");
  const Bad cases[] = {
      {"same body", safetensors(R"({"t":)" + e + R"(,"t":)" + e + "}", 0), "duplicate_key"},
      {"different body", safetensors(R"({"t":)" + e + R"(,"t":)" + entry("U8", "[4]", "[0,4]") + "}", 4),
       "duplicate_key"},
      {"by escape", safetensors(R"({"t":)" + e + R"(,"\u0074":)" + e + "}", 0), "duplicate_key"},
      {"metadata twice", safetensors(R"({"__metadata__":{},"__metadata__":{}})", 0), "duplicate_key"},
      {"metadata twice by escape", safetensors(R"({"__metadata__":{},"__metadata\u005f_":{}})", 0), "duplicate_key"},
      {"metadata key", safetensors(R"({"__metadata__":{"a":"1","a":"1"}})", 0), "duplicate_key"},
      {"metadata key by escape", safetensors(R"({"__metadata__":{"a":"1","\u0061":"2"}})", 0), "duplicate_key"},
      {"dtype", safetensors(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
       "duplicate_key"},
      {"shape by escape", safetensors(R"({"t":{"dtype":"U8","shape":[0],"sh\u0061pe":[4],"data_offsets":[0,0]}})", 0),
       "duplicate_key"},
      {"offsets", safetensors(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0),
       "duplicate_key"},
  };
  for (const Bad& bad : cases) expect_refused(bad);
}

// attacks/README.md of the safetensors repository: many entries over the same bytes. The limit applies while reading.
TEST(Safetensors, RefusesMillionsOfTensorsInLinearTime) {
  std::string header = "{";
  for (int i = 0; i <= 1'000'000; ++i)
    header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  header.back() = '}';
  const std::clock_t start = std::clock();  // processor time, so that a busy machine does not matter
  expect_refused({"a million and one", safetensors(header, 0), "too_many_tensors"});
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 60.0);
}

TEST(Safetensors, RefusesAMillionMetadataEntries) {
  std::string header = R"({"__metadata__":{)";
  for (int i = 0; i <= 1'000'000; ++i) header += fmt::format(R"("{}":"",)", i);
  header.back() = '}';
  expect_refused({"a million and one", safetensors(header + "}", 0), "metadata"});
}

TEST(Safetensors, ReadsWhatOnlyLooksWrong) {
  const std::string cases[] = {
      safetensors("{}", 0),
      safetensors("{}\r \t\n", 0),
      safetensors(R"({"__metadata__":{}})", 0),
      one("I32", "[2,2]", "[0,16]", 16),
      one("F32", "[]", "[0,4]", 4),
      one("F32", "[3,0,2]", "[0,0]", 0),
      one("F4", "[4]", "[0,2]", 2),
      two("[4,8]", "[0,4]", 8),  // declared in another order than stored
      safetensors(R"({"../../etc/passwd":)" + entry("U8", "[1]", "[0,1]") + "}", 1),
      safetensors(R"({"dtype":)" + entry("U8", "[1]", "[0,1]") + "}", 1),
      safetensors("{\"\xE2\x9C\x93\":" + entry("U8", "[1]", "[0,1]") + "}", 1),
  };
  for (const std::string& bytes : cases) {
    const auto parsed = parse_safetensors(as_span(bytes), "f");
    EXPECT_TRUE(parsed) << bytes.substr(8) << ": " << parsed.error().to_string();
  }
}

TEST(Safetensors, ReportsEveryFieldOfATensor) {
  const std::string bytes = safetensors(R"({"__metadata__":{"k":"v"},"b":)" + entry("BF16", "[2,3]", "[4,16]") +
                                            R"(,"a":)" + entry("F4", "[8]", "[0,4]") + "}",
                                        16);
  const auto checkpoint = open_checkpoint_bytes(as_span(bytes), "f");
  ASSERT_TRUE(checkpoint) << checkpoint.error().to_string();
  EXPECT_EQ((*checkpoint)->format(), "safetensors");
  EXPECT_EQ((*checkpoint)->metadata(), Json({{"k", "v"}}));
  const TensorInfo* b = (*checkpoint)->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, "BF16");
  EXPECT_EQ(b->shape, (Shape{2, 3}));
  EXPECT_EQ(b->elements, 6u);
  EXPECT_EQ(b->bytes, 12u);
  EXPECT_EQ(b->offset, bytes.size() - 12);
  EXPECT_TRUE(b->decodable);
  EXPECT_EQ((*checkpoint)->raw(*b).data(), as_span(bytes).data() + b->offset);
  const TensorInfo* a = (*checkpoint)->find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_FALSE(a->decodable);
  float out[8];
  const Status read = (*checkpoint)->read_f32(*a, 0, 8, out);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, "checkpoint.not_decodable");
  EXPECT_EQ((*checkpoint)->find("c"), nullptr);
}

// Cutting a good file anywhere, or changing any one byte of its header, must never be read as something else without an
// error or crash.
TEST(Safetensors, SurvivesEveryCutAndEveryFlippedByte) {
  const std::string good = two("[0,4]", "[4,8]", 8);
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(parse_safetensors(as_span(good.substr(0, n)), "f")) << n;
  for (std::size_t i = 0; i < good.size() - 8; ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      const auto parsed = parse_safetensors(as_span(changed), "f");
      if (!parsed) continue;
      for (const TensorInfo& t : parsed->tensors) ASSERT_LE(t.offset + t.bytes, changed.size());
    }
}

}  // namespace
}  // namespace concord
