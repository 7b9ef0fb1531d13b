#include <functional>

#include "capture/base64.hpp"
#include "capture/testing.hpp"

namespace concord {
namespace {

std::string base64(std::string_view text) { return to_base64(std::as_bytes(std::span(text.data(), text.size()))); }

TEST(Base64, MatchesTheVectorsOfRfc4648) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : vectors) {
    EXPECT_EQ(base64(plain), coded);
    const auto back = from_base64(coded);
    ASSERT_TRUE(back);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(back->data()), back->size()), plain);
  }
}

TEST(Base64, ComesBackForEveryByteAndLength) {
  std::vector<std::byte> bytes;
  for (int i = 0; i < 600; ++i) {
    ASSERT_EQ(*from_base64(to_base64(bytes)), bytes) << i;
    bytes.push_back(static_cast<std::byte>(i * 37 + i / 256));
  }
}

TEST(Base64, OnlyTheCanonicalTextIsAccepted) {
  for (const char* bad : {"Z", "Zg", "Zg=", "Zg===", "Zm9v\n", " Zm9v", "Zm9vZg=v",
                          "Zh==", "Zm9=", "Z===", "====", "=m9v", "Zg==Zm9v", "Zm-_"})
    EXPECT_FALSE(from_base64(bad)) << bad;
}

class Opening : public CaptureFolder {
 protected:
  Opening() {
    EXPECT_TRUE(write_capture(file("a"), small_header()));
    capture_.emplace(*Capture::open(file("a")));
  }
  Json opening(std::int64_t layer = 2, std::size_t chunk = 1) const {
    return Json::parse(make_opening(*capture_, layer, chunk)->dump());
  }
  // The error code after a change, or "" when the opening still holds.
  std::string code(const std::function<void(Json&)>& change) const {
    Json o = opening();
    change(o);
    const Status status = check_opening(o, capture_->root(), "o.json");
    return status ? "" : status.error().code;
  }
  std::optional<Capture> capture_;
};

TEST_F(Opening, EveryChunkOpens) {
  for (const std::int64_t layer : capture_->header().layers)
    for (std::size_t chunk = 0; chunk < capture_->chunks(); ++chunk) {
      const Json o = opening(layer, chunk);
      const Status status = check_opening(o, capture_->root(), "o.json");
      EXPECT_TRUE(status) << status.error().to_string();
      const auto bytes = from_base64(o["leaf"]["bytes"].get<std::string>());
      EXPECT_TRUE(std::ranges::equal(*bytes, capture_->chunk(layer, chunk)));
    }
  EXPECT_EQ(opening(2, 1)["leaf"]["positions"], Json({37, 38, 39}));
}

TEST_F(Opening, TheContextOpensAlone) {
  const Json o = Json::parse(make_context_opening(*capture_)->dump());
  EXPECT_FALSE(o.contains("leaf"));
  EXPECT_TRUE(check_opening(o, capture_->root(), "o.json"));
  EXPECT_EQ(o["context"]["nonce"], capture_->header().nonce);
}

TEST_F(Opening, ACaptureOfOneLeafBesidesTheContextOpens) {
  CaptureHeader h = small_header();
  h.layers = {5}, h.positions = {39};
  ASSERT_TRUE(write_capture(file("b"), h));
  const auto b = Capture::open(file("b"));
  EXPECT_TRUE(check_opening(Json::parse(make_opening(*b, 5, 0)->dump()), b->root(), "o.json"));
}

TEST_F(Opening, WhatIsNotThereCannotBeOpened) {
  EXPECT_EQ(make_opening(*capture_, 1, 0).error().code, "opening.no_such_leaf");
  EXPECT_EQ(make_opening(*capture_, 2, 2).error().code, "opening.no_such_leaf");
  std::string bytes = *read_text(file("a"));
  bytes[bytes.size() - 4 * 35 - 4 * 40] = 'x';  // the first token
  const auto changed = Capture::from_bytes(std::as_bytes(std::span(bytes)), "a");
  ASSERT_TRUE(changed) << changed.error().to_string();
  EXPECT_EQ(make_opening(*changed, 2, 0).error().code, "capture.root_mismatch");
  EXPECT_EQ(make_context_opening(*changed).error().code, "capture.root_mismatch");
}

std::string other_hash(const Json& hash) {
  std::string text = hash.get<std::string>();
  text[5] = text[5] == '0' ? '1' : '0';
  return text;
}

TEST_F(Opening, TamperingIsRefused) {
  struct Case {
    const char* code;
    std::function<void(Json&)> change;
  };
  const auto flip_bytes = [](Json& o) {
    auto bytes = *from_base64(o["leaf"]["bytes"].get<std::string>());
    bytes[11] ^= std::byte{1};
    o["leaf"]["bytes"] = to_base64(bytes);
  };
  const auto as_layer = [](std::int64_t layer, std::int64_t index) {
    return [=](Json& o) { o["leaf"]["layer"] = layer, o["leaf"]["index"] = index; };
  };
  const Case cases[] = {
      {"", [](Json&) {}},
      {"opening.bad_proof", flip_bytes},
      {"opening.bad_proof", as_layer(0, 2)},  // the chunk of another layer
      {"opening.bad_proof", [](Json& o) { o["leaf"]["proof"][0] = other_hash(o["leaf"]["proof"][0]); }},
      {"opening.bad_proof", [](Json& o) { o["leaf"]["proof"].erase(o["leaf"]["proof"].begin()); }},
      {"opening.bad_proof", [](Json& o) { o["leaf"]["proof"].push_back(std::string(64, '0')); }},
      {"opening.bad_proof", [](Json& o) { std::swap(o["leaf"]["proof"][0], o["leaf"]["proof"][1]); }},
      {"opening.bad_proof", [](Json& o) { o["context"]["proof"][1] = other_hash(o["context"]["proof"][1]); }},
      {"opening.bad_proof", [](Json& o) { o["context"]["nonce"] = "ffff"; }},
      {"opening.bad_proof", [](Json& o) { o["context"]["workload_digest"] = sha256_hex("other"); }},
      {"opening.bad_proof", [](Json& o) { o["context"]["tokens"][3] = 7; }},
      {"opening.bad_proof",
       [](Json& o) {
         o["context"]["positions"][0] = 1, o["context"]["positions"][1] = 2, o["context"]["positions"][2] = 3,
         o["context"]["positions"].erase(3);
         o["leaf_count"] = 7;
         o["leaf"]["positions"] = {38, 39};
         o["leaf"]["bytes"] = to_base64(std::vector<std::byte>(48));
       }},
      {"opening.wrong_root", [](Json& o) { o["root"] = sha256_hex("other"); }},
      {"opening.schema_version", [](Json& o) { o["schema"] = "concord.opening/2"; }},
      {"opening.missing_field", [](Json& o) { o.erase("schema"); }},
      {"opening.missing_field", [](Json& o) { o["leaf"].erase("bytes"); }},
      {"opening.missing_field", [](Json& o) { o.erase("context"); }},
      {"opening.wrong_type", [](Json& o) { o["leaf"]["chunk"] = "1"; }},
      {"opening.out_of_range", [](Json& o) { o["leaf"]["chunk"] = 2; }},
      {"opening.out_of_range", [](Json& o) { o["leaf"]["chunk"] = -1; }},
      {"opening.unknown_field", [](Json& o) { o["leaf"]["note"] = "trust me"; }},
      {"opening.unknown_field", [](Json& o) { o["note"] = "trust me"; }},
      {"opening.bad_field", as_layer(1, 2)},  // a layer that was not captured
      {"opening.bad_field", as_layer(2, 3)},
      {"opening.bad_field", [](Json& o) { o["leaf_count"] = 8; }},
      {"opening.bad_field", [](Json& o) { o["leaf_rule"] = "concord.leaf/2"; }},
      {"opening.bad_field", [](Json& o) { o["chunk_positions"] = 16; }},
      {"opening.bad_field", [](Json& o) { o["leaf"]["positions"][0] = 36; }},
      {"opening.bad_field", [](Json& o) { o["leaf"]["bytes"] = "AAAA"; }},
      {"opening.bad_field", [](Json& o) { o["leaf"]["bytes"] = o["leaf"]["bytes"].get<std::string>() + "\n"; }},
      {"opening.bad_field", [](Json& o) { o["leaf"]["proof"][0] = "zz"; }},
      {"opening.bad_field", [](Json& o) { o["root"] = "abc"; }},
      {"opening.bad_field", [](Json& o) { o["context"]["dtype"] = "F128"; }},
      {"opening.bad_field", [](Json& o) { o["context"]["dtype"] = "F64"; }},
      {"opening.bad_field", [](Json& o) { o["context"]["dtype"] = "F16"; }},  // the bytes would be twice too long
      {"opening.bad_field", [](Json& o) { o["context"]["layers"] = {0, 5, 2}; }},
  };
  for (std::size_t i = 0; i < std::size(cases); ++i) EXPECT_EQ(code(cases[i].change), cases[i].code) << "case " << i;
}

TEST_F(Opening, AnotherRootIsRefused) {
  EXPECT_EQ(check_opening(opening(), sha256({}), "o.json").error().code, "opening.wrong_root");
  EXPECT_EQ(check_opening(Json::array(), capture_->root(), "o.json").error().code, "opening.wrong_type");
}

TEST_F(Opening, NoBitOfAProofOrOfTheDataMayFlip) {
  const Json good = opening(5, 0);
  for (const char* part : {"leaf", "context"})
    for (std::size_t i = 0; i < good[part]["proof"].size(); ++i)
      for (std::size_t digit = 0; digit < 64; digit += 5) {
        Json o = good;
        std::string text = o[part]["proof"][i].get<std::string>();
        text[digit] = text[digit] == '7' ? '6' : '7';
        o[part]["proof"][i] = text;
        EXPECT_EQ(check_opening(o, capture_->root(), "o").error().code, "opening.bad_proof");
      }
  const auto bytes = *from_base64(good["leaf"]["bytes"].get<std::string>());
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 13) {
    auto changed = bytes;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    Json o = good;
    o["leaf"]["bytes"] = to_base64(changed);
    EXPECT_EQ(check_opening(o, capture_->root(), "o").error().code, "opening.bad_proof");
  }
}

}  // namespace
}  // namespace concord
