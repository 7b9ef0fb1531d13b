// Opening files and folders, shard indices, and access by Hugging Face names.
#include "checkpoint/checkpoint.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>

#include "checkpoint/test_files.hpp"

namespace concord {
namespace {

namespace fs = std::filesystem;
using testing::as_span;
using testing::entry;
using testing::gguf;
using testing::le;
using testing::pair;
using testing::safetensors;
using testing::str;
using testing::TempFolder;

const fs::path kFixtures = CONCORD_SOURCE_DIR "/fixtures";

std::string tensor_file(const std::vector<std::string>& names) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i)
    header += fmt::format(R"({}"{}":{})", i ? "," : "", names[i],
                          entry("U8", "[4]", fmt::format("[{},{}]", 4 * i, 4 * i + 4)));
  return safetensors(header + "}", 4 * names.size());
}

void expect_code(const fs::path& path, const std::string& code) {
  const auto checkpoint = Checkpoint::open(path);
  ASSERT_FALSE(checkpoint) << path;
  EXPECT_EQ(checkpoint.error().code, code) << checkpoint.error().to_string();
  EXPECT_FALSE(checkpoint.error().file.empty());
}

// --- files and folders -----------------------------------------------------------------------------------------------
TEST(Open, GoldenModelsSingleAndSharded) {
  for (const char* name : {"llama-default", "llama-sharded", "qwen2-tied-bias", "qwen3-headdim"}) {
    const auto checkpoint = Checkpoint::open(kFixtures / "golden/models" / name);
    ASSERT_TRUE(checkpoint) << checkpoint.error().to_string();
    const TensorInfo* embedding = (*checkpoint)->find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr) << name;
    EXPECT_EQ(embedding->shape[0], 96);
    EXPECT_TRUE((*checkpoint)->unchanged());
  }
  const auto sharded = Checkpoint::open(kFixtures / "golden/models/llama-sharded");
  EXPECT_EQ((*sharded)->format(), "safetensors (sharded)");
  EXPECT_EQ((*sharded)->files().size(), 2u);
}

TEST(Open, TheContentDecidesNotTheName) {
  const TempFolder folder;
  const auto a = Checkpoint::open(folder.write("model.gguf", tensor_file({"a"})));
  ASSERT_TRUE(a) << a.error().to_string();
  EXPECT_EQ((*a)->format(), "safetensors");
  const auto b = Checkpoint::open(folder.write("model.safetensors", gguf({}, {{}}, 128)));
  ASSERT_TRUE(b) << b.error().to_string();
  EXPECT_EQ((*b)->format(), "gguf v3");
}

TEST(Open, WhatIsNotAModelFileIsNamed) {
  const TempFolder folder;
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {"empty", "", "checkpoint.empty_file"},
      {"pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "checkpoint.lfs_pointer"},
      {"page", "<!DOCTYPE html><html>", "checkpoint.html"},
      {"page2", "<html><body>404", "checkpoint.html"},
      {"zip", "PK\x03\x04zzzzzzzzzzzzzz", "checkpoint.pickle"},
      {"pickle", "\x80\x02}q\x01zzzzzzzzzzzz", "checkpoint.pickle"},
      {"ggml", "lmggzzzzzzzzzzzzzzzz", "checkpoint.old_ggml"},
      {"ggjt", "tjggzzzzzzzzzzzzzzzz", "checkpoint.old_ggml"},
      {"text", "hello, this is no model file at all", "checkpoint.unknown_format"},
      {"zeros", std::string(64, '\0'), "safetensors.empty_header"},
      {"seven", "abcdefg", "safetensors.too_small"},
      {"config", R"({"model_type":"llama"})", "index.missing_weight_map"},
  };
  for (const auto& [name, bytes, code] : cases) expect_code(folder.write(name, bytes), code);
}

TEST(Open, WhatIsNotARegularFileIsRefusedWithoutHanging) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder.path() / "fifo").c_str(), 0600), 0);
  expect_code(folder.path() / "fifo", "file.not_regular");
  expect_code("/dev/null", "file.not_regular");
  expect_code(folder.path() / "absent", "file.not_found");
  fs::create_directory(folder.path() / "model.safetensors");
  expect_code(folder.path(), "file.not_regular");
}

TEST(Open, AFolderMustLeaveNoChoice) {
  const TempFolder folder;
  expect_code(folder.path(), "checkpoint.no_model_file");
  folder.write("a.safetensors", tensor_file({"a"}));
  EXPECT_TRUE(Checkpoint::open(folder.path()));
  folder.write("b.safetensors", tensor_file({"b"}));
  expect_code(folder.path(), "checkpoint.ambiguous_folder");
  folder.write("model.safetensors", tensor_file({"m"}));  // the usual name wins over others
  const auto usual = Checkpoint::open(folder.path());
  ASSERT_TRUE(usual) << usual.error().to_string();
  EXPECT_NE((*usual)->find("m"), nullptr);
  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":"a.safetensors"}})");
  expect_code(folder.path(), "checkpoint.ambiguous_folder");  // consolidated and sharded
  fs::remove(folder.path() / "model.safetensors");
  EXPECT_TRUE(Checkpoint::open(folder.path()));
  folder.write("consolidated.safetensors", tensor_file({"a"}));
  expect_code(folder.path(), "checkpoint.ambiguous_folder");
  fs::remove(folder.path() / "consolidated.safetensors");
  folder.write("model.gguf", gguf({}, {{}}, 128));
  const auto two_formats = Checkpoint::open(folder.path());
  ASSERT_FALSE(two_formats);
  EXPECT_EQ(two_formats.error().code, "checkpoint.ambiguous_folder");
  EXPECT_NE(two_formats.error().message.find("model.gguf"), std::string::npos);
}

TEST(Open, SymbolicLinksAreFollowed) {
  const TempFolder folder;
  fs::create_directory(folder.path() / "blobs");
  folder.write("blobs/1234", tensor_file({"a"}));
  fs::create_directory(folder.path() / "snapshot");
  fs::create_symlink("../blobs/1234", folder.path() / "snapshot/model.safetensors");
  EXPECT_TRUE(Checkpoint::open(folder.path() / "snapshot"));
}

TEST(Open, AFileChangedAfterwardsIsNoticed) {
  const TempFolder folder;
  const fs::path path = folder.write("m.safetensors", tensor_file({"a"}));
  const auto checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint);
  EXPECT_TRUE((*checkpoint)->unchanged());
  folder.write("other", tensor_file({"a", "b"}));
  fs::rename(folder.path() / "other", path);
  const Status replaced = (*checkpoint)->unchanged();
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, "checkpoint.file_changed");
  const auto read = HfTensors(**checkpoint, 1, 1).read("a", {4});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, "checkpoint.file_changed");
  fs::remove(path);
  EXPECT_EQ((*checkpoint)->unchanged().error().code, "checkpoint.file_changed");
}

// --- shard index -----------------------------------------------------------------------------------------------------
TEST(Index, RefusesABrokenIndex) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"weight_map":{"a":"x.safetensors"})", "index.syntax"},
      {R"({"weight_map":{"a":"x.safetensors"}} x)", "index.syntax"},
      {R"({"weight_map":{"a":"x.safetensors"}})" + std::string(1, '\0') + "x", "index.syntax"},
      {"{\"\xff\":1}", "index.not_utf8"},
      {R"({"weight_map":{"a":"x","a":"x"}})", "index.duplicate_key"},
      {R"({"weight_map":{"a":"x","\u0061":"x"}})", "index.duplicate_key"},
      {R"({"metadata":)" + std::string(100'000, '['), "index.too_deep"},
      {R"({"metadata":{}})", "index.missing_weight_map"},
      {R"({"weight_map":[]})", "index.bad_weight_map"},
      {R"({"weight_map":{}})", "index.bad_weight_map"},
      {R"({"weight_map":"x"})", "index.bad_weight_map"},
      {R"({"weight_map":{"a":1}})", "index.bad_weight_map"},
      {R"({"weight_map":{"a":null}})", "index.bad_weight_map"},
      {R"({"metadata":1,"weight_map":{"a":"x"}})", "index.bad_metadata"},
      {R"({"metadata":{"total_size":-1},"weight_map":{"a":"x"}})", "index.bad_metadata"},
      {R"({"metadata":{"total_size":1.5},"weight_map":{"a":"x"}})", "index.bad_metadata"},
      {R"({"metadata":{"total_size":1e300},"weight_map":{"a":"x"}})", "index.bad_metadata"},
      {R"({"metadata":{"total_size":"4"},"weight_map":{"a":"x"}})", "index.bad_metadata"},
  };
  for (const auto& [text, code] : cases) {
    const auto index = parse_shard_index(as_span(text), "f");
    ASSERT_FALSE(index) << text.substr(0, 60);
    EXPECT_EQ(index.error().code, code) << index.error().to_string();
  }
}

TEST(Index, RefusesTooManyValuesAndShards) {
  std::string many = R"({"weight_map":{)", shards = many;
  for (int i = 0; i < 1'010'001; ++i) many += fmt::format(R"("{}":"x",)", i);
  for (int i = 0; i < 10'001; ++i) shards += fmt::format(R"("{0}":"{0}",)", i);
  many.back() = shards.back() = '}';
  EXPECT_EQ(parse_shard_index(as_span(many + "}"), "f").error().code, "index.too_many_values");
  EXPECT_EQ(parse_shard_index(as_span(shards + "}"), "f").error().code, "index.too_many_shards");
}

TEST(Index, RefusesAnIndexOfUnreasonableSizeBeforeReadingIt) {
  const TempFolder folder;
  const fs::path path = folder.write("model.safetensors.index.json", "{\"weight_map\":{}}");
  fs::resize_file(path, (std::uintmax_t{256} << 20) + 1);  // sparse
  expect_code(path, "index.too_large");
}

TEST(Index, RefusesPathsThatLeaveTheFolder) {
  for (const char* path : {"", "/etc/passwd", "../x.safetensors", "a/../../x", "a/..", "..", "./x", "a//x", "a/",
                           "a\\\\x", "..\\\\x", "a\\u0000b", "a\\u001b[2J"}) {
    const auto index = parse_shard_index(as_span(std::string(R"({"weight_map":{"a":")") + path + R"("}})"), "f");
    ASSERT_FALSE(index) << path;
    EXPECT_EQ(index.error().code, "index.path_escape") << path;
  }
}

TEST(Index, AndShardsMustAgree) {
  const TempFolder folder;
  folder.write("1.safetensors", tensor_file({"a", "b"}));
  folder.write("2.safetensors", tensor_file({"c"}));
  folder.write("twice.safetensors", tensor_file({"b", "c"}));
  folder.write("broken.safetensors", tensor_file({"c"}) + "x");
  folder.write("pointer.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  folder.write("g.gguf", gguf({}, {{}}, 128));
  const auto open = [&](const std::string& map, const std::string& total = "12") {
    return Checkpoint::open(
        folder.write("i.json", R"({"metadata":{"total_size":)" + total + R"(},"weight_map":{)" + map + "}}"));
  };
  const std::string first = R"("a":"1.safetensors","b":"1.safetensors")";
  for (const char* total : {"12", "12.0"}) EXPECT_TRUE(open(first + R"(,"c":"2.safetensors")", total)) << total;
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {first + R"(,"c":"3.safetensors")", "12", "index.missing_shard"},
      {first + R"(,"c":"2.safetensors","d":"2.safetensors")", "12", "index.tensor_not_in_shard"},
      {first + R"(,"aa":"2.safetensors","c":"2.safetensors")", "12", "index.tensor_not_in_shard"},
      {R"("a":"1.safetensors","b":"2.safetensors","c":"2.safetensors")", "12", "index.tensor_not_in_shard"},
      {R"("a":"1.safetensors","c":"2.safetensors")", "12", "index.tensor_not_in_index"},
      {R"("a":"1.safetensors","b":"1.safetensors")" + std::string(R"(,"c":"twice.safetensors")"), "16",
       "index.duplicate_tensor"},
      {first + R"(,"c":"2.safetensors")", "13", "index.total_size"},
      {first + R"(,"c":"broken.safetensors")", "12", "safetensors.trailing_bytes"},
      {first + R"(,"c":"g.gguf")", "12", "index.bad_shard"},
      {first + R"(,"c":"i.json")", "12", "index.bad_shard"},
      {first + R"(,"c":"pointer.safetensors")", "12", "checkpoint.lfs_pointer"},
  };
  for (const auto& [map, total, code] : cases) {
    const auto checkpoint = open(map, total);
    ASSERT_FALSE(checkpoint) << map;
    EXPECT_EQ(checkpoint.error().code, code) << checkpoint.error().to_string();
  }
}

// --- Hugging Face names ----------------------------------------------------------------------------------------------
TEST(HfTensors, GgufNames) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight"},
      {"model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight"},
      {"model.layers.3.self_attn.k_proj.bias", "blk.3.attn_k.bias"},
      {"model.layers.3.self_attn.v_proj.bias", "blk.3.attn_v.bias"},
      {"model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"},
      {"model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"},
      {"model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"},
      {"model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"},
      {"model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight"},
      {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
      {"model.layers.x.mlp.up_proj.weight", ""},
      {"model.layers.03.mlp.up_proj.weight", ""},
      {"model.layers..mlp.up_proj.weight", ""},
      {"model.layers.3", ""},
      {"model.layers.3.mlp.up_proj", ""},
      {"model.layers.3.mlp.up_proj.scales", ""},
      {"model.layers.3.self_attn.rotary_emb.inv_freq", ""},
      {"", ""},
  };
  for (const auto& [hf, expected] : cases) EXPECT_EQ(gguf_name(hf), expected) << hf;
}

TEST(HfTensors, ThePermutationIsUndoneForWeightsAndBiases) {
  const auto stored = Checkpoint::open(kFixtures / "golden/gguf/permuted.gguf");
  const auto plain = Checkpoint::open(kFixtures / "golden/gguf/permuted.safetensors");
  ASSERT_TRUE(stored && plain);
  const HfTensors got(**stored, 4, 2), expected(**plain, 4, 2);
  int differ = 0;
  ASSERT_EQ((*plain)->tensors().size(), 6u);
  for (const TensorInfo& t : (*plain)->tensors()) {
    const auto a = got.read(t.name, t.shape), b = expected.read(t.name, t.shape);
    ASSERT_TRUE(a && b) << t.name;
    EXPECT_EQ(*a, *b) << t.name;
    std::vector<float> as_stored(t.elements);
    ASSERT_TRUE((*stored)->read_f32(*got.info(t.name), 0, t.elements, as_stored.data()));
    differ += as_stored != *b;
  }
  EXPECT_EQ(differ, 4);  // q and k, weight and bias: the fixture would prove nothing if it were not permuted
}

TEST(HfTensors, RowsOfAMatrixAreThoseOfTheWhole) {
  const auto stored = Checkpoint::open(kFixtures / "golden/gguf/permuted.gguf");
  ASSERT_TRUE(stored);
  const HfTensors tensors(**stored, 4, 2);
  std::size_t permuted = 0, matrices = 0;
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}) {
    const std::string full = std::string("model.layers.0.") + name + ".weight";
    const TensorInfo* info = tensors.info(full);
    ASSERT_NE(info, nullptr) << full;
    const auto whole = tensors.read(full, info->shape);
    const auto matrix = tensors.matrix(full, info->shape);
    ASSERT_TRUE(whole && matrix) << full;
    const std::int64_t rows = info->shape[0], width = info->shape[1];
    ++matrices;
    permuted += matrix->stored_in_order().empty();
    for (const std::int64_t step : {std::int64_t{1}, std::int64_t{5}, rows})
      for (std::int64_t begin = 0; begin < rows; begin += step) {
        const std::int64_t end = std::min(begin + step, rows);
        std::vector<float> part(static_cast<std::size_t>((end - begin) * width));
        ASSERT_TRUE(matrix->read_rows(begin, end, part.data()));
        ASSERT_TRUE(std::equal(part.begin(), part.end(), whole->begin() + begin * width)) << full << " row " << begin;
      }
  }
  EXPECT_EQ(permuted, 2u);
  EXPECT_EQ(matrices, 4u);
  EXPECT_EQ(tensors.matrix("model.layers.0.self_attn.q_proj.weight", {1, 2}).error().code, "checkpoint.shape_mismatch");
  EXPECT_EQ(tensors.matrix("model.layers.7.self_attn.q_proj.weight", {32, 32}).error().code, "checkpoint.missing_tensor");
  EXPECT_EQ(HfTensors(**stored, 5, 2).matrix("model.layers.0.self_attn.q_proj.weight", {32, 32}).error().code,
            "checkpoint.bad_heads");
}

TEST(HfTensors, WhatWasReleasedIsReadAgain) {
  const auto checkpoint = Checkpoint::open(kFixtures / "golden/quantize/quantize.safetensors");
  ASSERT_TRUE(checkpoint);
  for (const TensorInfo& t : (*checkpoint)->tensors()) {
    const auto raw = (*checkpoint)->raw(t);
    const std::vector<std::byte> before(raw.begin(), raw.end());
    (*checkpoint)->release(t);
    EXPECT_TRUE(std::ranges::equal(before, (*checkpoint)->raw(t))) << t.name;
  }
}

TEST(HfTensors, ErrorsNameWhatIsMissing) {
  const auto stored = Checkpoint::open(kFixtures / "golden/gguf/permuted.gguf");
  ASSERT_TRUE(stored);
  const HfTensors tensors(**stored, 4, 2);
  EXPECT_TRUE(tensors.has("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_FALSE(tensors.has("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(tensors.has("blk.0.attn_q.weight"));
  const auto missing = tensors.read("model.layers.1.self_attn.q_proj.weight", {32, 32});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, "checkpoint.missing_tensor");
  EXPECT_NE(missing.error().message.find("blk.1.attn_q.weight"), std::string::npos);
  const auto shape = tensors.read("model.layers.0.self_attn.k_proj.weight", {32, 16});
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.error().code, "checkpoint.shape_mismatch");
  EXPECT_NE(shape.error().message.find("[16, 32]"), std::string::npos);
  EXPECT_NE(shape.error().message.find("[32, 16]"), std::string::npos);
  for (const std::int64_t heads : {0, -1, 3, 32}) {
    const auto bad = HfTensors(**stored, heads, 2).read("model.layers.0.self_attn.q_proj.weight", {32, 32});
    ASSERT_FALSE(bad) << heads;
    EXPECT_EQ(bad.error().code, "checkpoint.bad_heads");
  }
}

// The same trained weights stored as F16 and as Q8_0 must be the same model. One Q8_0 step is amax / 127 of its block
// of 32, so an element is off by at most half a step plus the rounding of the half-precision scale (2^-11 relative,
// times at most 127 steps).
TEST(HfTensors, RealWeightsAgreeBetweenF16AndQ80) {
  const std::string folder = CONCORD_SHARED_MODELS;
  if (folder.empty() || !fs::exists(fs::path(folder) / "stories15M.F16.gguf"))
    GTEST_SKIP() << "SKIPPED: configure with -DCONCORD_SHARED_MODELS=FOLDER, FOLDER being one with stories15M.F16.gguf "
                    "and stories15M.Q8_0.gguf to run this on real weights";
  const auto half = Checkpoint::open(fs::path(folder) / "stories15M.F16.gguf"),
             eight = Checkpoint::open(fs::path(folder) / "stories15M.Q8_0.gguf");
  ASSERT_TRUE(half && eight);
  const HfTensors a(**half, 6, 6), b(**eight, 6, 6);
  int quantised = 0;
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.5.self_attn.k_proj.weight",
        "model.layers.3.mlp.up_proj.weight", "model.norm.weight"}) {
    ASSERT_TRUE(a.has(name) && b.has(name)) << name;
    const auto x = a.read(name, a.info(name)->shape), y = b.read(name, a.info(name)->shape);
    ASSERT_TRUE(x && y) << name;
    quantised += b.info(name)->type == "Q8_0";
    for (std::size_t i = 0; i < x->size(); i += 32) {
      float largest = 0;
      for (std::size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::abs((*x)[j]));
      for (std::size_t j = i; j < i + 32; ++j)
        ASSERT_LE(std::abs((*x)[j] - (*y)[j]), largest * (0.5 / 127 + 0x1p-10)) << name << " " << j;
    }
  }
  EXPECT_EQ(quantised, 4);
}

}  // namespace
}  // namespace concord
