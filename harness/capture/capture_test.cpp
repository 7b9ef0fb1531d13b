#include <fmt/format.h>

#include <cstdlib>
#include <functional>

#include "capture/testing.hpp"

namespace concord {
namespace {

// A capture taken apart, changed and put together again.
struct Parts {
  OrderedJson header;  // the safetensors header
  std::string data;

  OrderedJson& metadata() { return header["__metadata__"]; }
  // Offsets are kept in step: the tensors lie in the order of the header.
  void drop(const std::string& name) {
    const auto begin = header[name]["data_offsets"][0].get<std::size_t>(),
               end = header[name]["data_offsets"][1].get<std::size_t>();
    data.erase(begin, end - begin);
    header.erase(name);
    for (auto& [key, tensor] : header.items()) {
      if (key == "__metadata__") continue;
      for (auto& offset : tensor["data_offsets"])
        if (offset.get<std::size_t>() >= end) offset = offset.get<std::size_t>() - (end - begin);
    }
  }
  void add(const std::string& name, const char* dtype, Shape shape, const std::string& bytes) {
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  void set_integer(const std::string& name, std::size_t index, std::int32_t value) {
    const auto begin = header[name]["data_offsets"][0].get<std::size_t>();
    std::memcpy(data.data() + begin + 4 * index, &value, 4);
  }
  std::string bytes() const {
    const std::string json = header.dump();
    std::string out;
    for (unsigned shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(json.size() >> shift));
    return out + json + data;
  }
};

Parts take_apart(const std::filesystem::path& path) {
  const std::string text = read_text(path).value();
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(text.at(i));
  return {OrderedJson::parse(text.substr(8, length)), text.substr(8 + length)};
}

struct Wrong {
  const char* name;
  const char* code;
  std::function<void(Parts&)> change;
};
void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.name; }

std::function<void(Parts&)> set(const char* key, OrderedJson value) {
  return [=](Parts& p) { p.metadata()[key] = value; };
}

class CaptureRefuses : public CaptureFolder, public testing::WithParamInterface<Wrong> {};

TEST_P(CaptureRefuses, WithItsOwnCode) {
  ASSERT_TRUE(write_capture(file("a"), small_header()));
  Parts parts = take_apart(file("a"));
  const std::string untouched = parts.bytes();
  ASSERT_TRUE(Capture::from_bytes(std::as_bytes(std::span(untouched)), "untouched"));
  GetParam().change(parts);
  const std::string bytes = parts.bytes();
  const auto capture = Capture::from_bytes(std::as_bytes(std::span(bytes)), "changed");
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().code, GetParam().code) << capture.error().to_string();
  EXPECT_EQ(capture.error().file, "changed");
  EXPECT_EQ(exit_code(capture.error().kind), 2);
}

const std::string kRow(6 * 4, '\0');  // one row of the small capture

INSTANTIATE_TEST_SUITE_P(
    Capture, CaptureRefuses,
    testing::Values(
        Wrong{"UnknownSchema", "capture.schema_version", set("schema", "concord.capture/2")},
        Wrong{"NoSchema", "capture.schema_version", [](Parts& p) { p.metadata().erase("schema"); }},
        Wrong{"NoMetadata", "capture.schema_version", [](Parts& p) { p.header.erase("__metadata__"); }},
        Wrong{"NoWorkload", "capture.missing_metadata", [](Parts& p) { p.metadata().erase("workload_digest"); }},
        Wrong{"NoRoot", "capture.missing_metadata", [](Parts& p) { p.metadata().erase("merkle_root"); }},
        Wrong{"NoExpectation", "capture.missing_metadata", [](Parts& p) { p.metadata().erase("expected_tensors"); }},
        Wrong{"NegativeHidden", "capture.bad_metadata", set("hidden", "-6")},
        Wrong{"HiddenWithUnit", "capture.bad_metadata", set("hidden", "6 elements")},
        Wrong{"HiddenTooLong", "capture.bad_metadata", set("hidden", "99999999999999999999")},
        Wrong{"LayersNotIntegers", "capture.bad_metadata", set("layers", "[0,2.5]")},
        Wrong{"LayersNegative", "capture.bad_metadata", set("layers", "[-1]")},
        Wrong{"LayersNotAnArray", "capture.bad_metadata", set("layers", "3")},
        Wrong{"UnknownRole", "capture.bad_metadata", set("role", "judge")},
        Wrong{"ShortDigest", "capture.bad_digest", set("workload_digest", "abcd")},
        Wrong{"DigestNotHex", "capture.bad_digest", set("weights_digest", std::string(64, 'x'))},
        Wrong{"EmptyRoot", "capture.bad_digest", set("merkle_root", "")},
        Wrong{"OddNonce", "capture.bad_digest", set("nonce", "abc")},
        Wrong{"LongNonce", "capture.bad_digest", set("nonce", std::string(130, 'a'))},
        Wrong{"ConfigurationNotJson", "capture.bad_json", set("configuration", "{")},
        Wrong{"ConfigurationTwice", "capture.bad_json", set("configuration", R"({"a":1,"a":2})")},
        Wrong{"ProvenanceNotAnObject", "capture.bad_json", set("provenance", "[]")},
        Wrong{"ProvenanceTooDeep", "capture.bad_json",
              set("provenance", R"({"a":)" + std::string(50, '[') + std::string(50, ']') + "}")},
        Wrong{"UnknownRule", "capture.unknown_rule", set("leaf_rule", "concord.leaf/2")},
        Wrong{"OtherChunks", "capture.unknown_rule", set("chunk_positions", "64")},
        Wrong{"FewerAnnounced", "capture.tensor_count", set("expected_tensors", "4")},
        Wrong{"LayerMissing", "capture.missing_tensor", [](Parts& p) { p.drop("hidden.2"); }},
        Wrong{"TokensMissing", "capture.missing_tensor", [](Parts& p) { p.drop("tokens"); }},
        Wrong{"PositionsMissing", "capture.missing_tensor", [](Parts& p) { p.drop("positions"); }},
        Wrong{"ExtraLayer", "capture.unexpected_tensor", [](Parts& p) { p.add("hidden.3", "F32", {1, 6}, kRow); }},
        Wrong{"ExtraTensor", "capture.unexpected_tensor", [](Parts& p) { p.add("logits", "F32", {1, 6}, kRow); }},
        Wrong{"OneLayerInAnotherType", "capture.dtype_mismatch",
              [](Parts& p) { p.header["hidden.2"]["dtype"] = "I32"; }},
        Wrong{"TokensInAnotherType", "capture.dtype_mismatch", [](Parts& p) { p.header["tokens"]["dtype"] = "F32"; }},
        Wrong{"AllInAnotherTypeThanDeclared", "capture.dtype_mismatch", set("dtype", "BF16")},
        Wrong{"OtherShapeOfTheSameSize", "capture.bad_shape",
              [](Parts& p) { p.header["hidden.2"]["shape"] = {70, 3}; }},
        Wrong{"FlatStates", "capture.bad_shape", [](Parts& p) { p.header["hidden.0"]["shape"] = {210}; }},
        Wrong{"SquareTokens", "capture.bad_shape", [](Parts& p) { p.header["tokens"]["shape"] = {8, 5}; }},
        Wrong{"UnknownType", "capture.bad_dtype", set("dtype", "F128")},
        Wrong{"DoubleStates", "capture.bad_dtype", set("dtype", "F64")},
        Wrong{"HiddenZero", "capture.bad_size", set("hidden", "0")},
        Wrong{"HiddenHuge", "capture.bad_size", set("hidden", "9999999999")},
        Wrong{"NoModelLayers", "capture.bad_size", set("model_layers", "0")},
        Wrong{"TokensEmpty", "capture.bad_size", [](Parts& p) { p.drop("tokens"), p.add("tokens", "I32", {0}, ""); }},
        Wrong{"LayerBeyondTheModel", "capture.bad_layers", set("model_layers", "4")},
        Wrong{"LayersDescending", "capture.bad_layers", set("layers", "[2,0,5]")},
        Wrong{"NoLayers", "capture.bad_layers",
              [](Parts& p) {
                for (const char* name : {"hidden.0", "hidden.2", "hidden.5"}) p.drop(name);
                p.metadata()["layers"] = "[]", p.metadata()["expected_tensors"] = "2";
              }},
        Wrong{"PositionTwice", "capture.bad_positions", [](Parts& p) { p.set_integer("positions", 3, 2); }},
        Wrong{"PositionsDescending", "capture.bad_positions", [](Parts& p) { p.set_integer("positions", 3, 0); }},
        Wrong{"PositionNegative", "capture.bad_positions", [](Parts& p) { p.set_integer("positions", 0, -1); }},
        Wrong{"PositionBeyondTheTokens", "capture.bad_positions", [](Parts& p) { p.set_integer("positions", 34, 40); }},
        Wrong{"PromptLongerThanTheTokens", "capture.bad_prompt", set("prompt_tokens", "41")},
        Wrong{"TokenNegative", "capture.bad_tokens", [](Parts& p) { p.set_integer("tokens", 39, -2); }}),
    [](const auto& one) { return one.param.name; });

class CaptureFile : public CaptureFolder {};

TEST_F(CaptureFile, LayersThatRepeatAreRefused) {
  ASSERT_TRUE(write_capture(file("a"), small_header()));
  Parts parts = take_apart(file("a"));
  parts.metadata()["layers"] = "[0,2,2,5]";
  parts.metadata()["expected_tensors"] = "6";
  const std::string bytes = parts.bytes();
  EXPECT_EQ(Capture::from_bytes(std::as_bytes(std::span(bytes)), "a").error().code, "capture.bad_layers");
}

TEST_F(CaptureFile, EveryTruncationIsRefused) {
  ASSERT_TRUE(write_capture(file("a"), small_header()));
  const std::string bytes = take_apart(file("a")).bytes();  // without the padding, to try every length
  const auto view = std::as_bytes(std::span(bytes));
  ASSERT_TRUE(Capture::from_bytes(view, "a"));
  for (std::size_t n = 0; n < bytes.size(); ++n) ASSERT_FALSE(Capture::from_bytes(view.first(n), "a")) << n;
  const std::string longer = bytes + '\0';
  EXPECT_FALSE(Capture::from_bytes(std::as_bytes(std::span(longer)), "a"));
}

TEST_F(CaptureFile, WhatIsNotACaptureIsRefused) {
  EXPECT_EQ(Capture::open(file("absent")).error().code, "file.not_found");
  EXPECT_EQ(Capture::open("/").error().code, "file.not_regular");
  for (const char* text : {"", "short", "this is some text and no capture at all"}) {
    ASSERT_TRUE(write_atomically(file("a"), text));
    const auto capture = Capture::open(file("a"));
    ASSERT_FALSE(capture) << text;
    EXPECT_EQ(capture.error().code.substr(0, 12), "safetensors.") << capture.error().to_string();
  }
  const auto model =
      std::filesystem::path(CONCORD_SOURCE_DIR) / "fixtures/golden/models/llama-default/model.safetensors";
  EXPECT_EQ(Capture::open(model).error().code, "capture.schema_version");
}

TEST_F(CaptureFile, EveryChangedByteOfTheDataIsFoundByTheRoot) {
  ASSERT_TRUE(write_capture(file("a"), small_header()));
  const Parts parts = take_apart(file("a"));
  const std::string original = parts.bytes();
  const std::size_t start = original.size() - parts.data.size();
  for (std::size_t i = start; i < original.size(); i += 7) {
    std::string bytes = original;
    bytes[i] = static_cast<char>(bytes[i] ^ 1);
    const auto capture = Capture::from_bytes(std::as_bytes(std::span(bytes)), "a");
    if (!capture) continue;  // a position or token that became illegal is refused earlier
    ASSERT_EQ(capture->verify().error().code, "capture.root_mismatch") << i - start;
  }
}

TEST_F(CaptureFile, SwappedChunksAndForeignContextAreFoundByTheRoot) {
  ASSERT_TRUE(write_capture(file("a"), small_header()));
  const auto verify = [&](const std::function<void(Parts&)>& change) {
    Parts parts = take_apart(file("a"));
    change(parts);
    const std::string bytes = parts.bytes();
    const auto capture = Capture::from_bytes(std::as_bytes(std::span(bytes)), "a");
    EXPECT_TRUE(capture) << capture.error().to_string();
    return capture ? capture->verify() : Status{};
  };
  EXPECT_TRUE(verify([](Parts&) {}));
  const auto mismatch = [&](const std::function<void(Parts&)>& change) {
    const Status status = verify(change);
    return !status && status.error().code == "capture.root_mismatch";
  };
  EXPECT_TRUE(mismatch([](Parts& p) { std::swap(p.header["hidden.0"], p.header["hidden.2"]); }));
  EXPECT_TRUE(mismatch(set("nonce", "ff112233445566778899aabbccddeeff")));
  EXPECT_TRUE(mismatch(set("workload_digest", sha256_hex("another workload"))));
  EXPECT_TRUE(mismatch(set("weights_digest", sha256_hex("other weights"))));
  EXPECT_TRUE(mismatch(set("merkle_root", sha256_hex("another root"))));
}

TEST_F(CaptureFile, EmptyDigestsAndNonceAreAllowedForForeignEngines) {
  CaptureHeader h = small_header();
  h.nonce = h.weights_digest = h.source_digest = h.workload_id = h.model = "";
  h.provenance = {};
  ASSERT_TRUE(write_capture(file("a"), h));
  EXPECT_TRUE(Capture::open(file("a"))->verify());
}

int python(const std::string& arguments) {
  return std::system(
      fmt::format("python3 {}/scripts/check_capture.py {} >/dev/null 2>&1", CONCORD_SOURCE_DIR, arguments).c_str());
}

TEST_F(CaptureFile, TheIndependentPythonCheckerAgrees) {
  if (std::system("python3 -c '' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "NO python3 HERE: the independent checker was not run";
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t hidden : {6, 5}) {
      ASSERT_TRUE(write_capture(file("a"), small_header(dtype, hidden)));
      EXPECT_EQ(python(file("a").string()), 0);
      const auto capture = Capture::open(file("a"));
      const std::string root = hex(capture->root());
      ASSERT_TRUE(write_atomically(file("o.json"), make_opening(*capture, 2, 1)->dump()));
      EXPECT_EQ(python(fmt::format("--opening {} --root {}", file("o.json").string(), root)), 0);
      EXPECT_NE(python(fmt::format("--opening {} --root {}", file("o.json").string(), sha256_hex("other"))), 0);
      Parts parts = take_apart(file("a"));
      parts.data[0] = static_cast<char>(parts.data[0] ^ 1);
      ASSERT_TRUE(write_atomically(file("a"), parts.bytes()));
      EXPECT_NE(python(file("a").string()), 0);
    }
}

}  // namespace
}  // namespace concord
