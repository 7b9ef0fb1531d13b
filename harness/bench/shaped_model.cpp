#include "bench/shaped_model.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/file.hpp"
#include "base/tensor.hpp"
#include "base/text.hpp"
#include "bench/random_values.hpp"
#include "experiment/suite.hpp"

namespace concord::bench {
namespace {
namespace fs = std::filesystem;

// A standard deviation of 0.02 in the matrices, as usual before training: products of normalised inputs stay near 1.
constexpr Uniform kMatrix{0, 0.035f}, kGain{1, 0.1f}, kBias{0, 0.035f};

struct Family {
  bool qkv_bias, qk_norm;
  const char *model_type, *architecture;
};
constexpr Family kFamilies[] = {{false, false, "llama", "LlamaForCausalLM"},
                                {true, false, "qwen2", "Qwen2ForCausalLM"},
                                {false, true, "qwen3", "Qwen3ForCausalLM"}};

// In the files' words and in Hugging Face's.
constexpr std::pair<const char*, const char*> kSizes[] = {
    {"hidden", "hidden_size"},        {"intermediate", "intermediate_size"},
    {"heads", "num_attention_heads"}, {"kv_heads", "num_key_value_heads"},
    {"head_dim", "head_dim"},         {"layers", "num_hidden_layers"},
    {"vocab", "vocab_size"},          {"context", "max_position_embeddings"}};
constexpr std::size_t kPiece = std::size_t{64} << 20;  // written at once by one thread
constexpr double kRopeTheta = 1e6;                     // the files do not say, and speed does not depend on it

Result<std::string> shape_file(const std::string& shape) {
  std::error_code ignored;
  if (shape.find('/') != std::string::npos || shape.ends_with(".json")) return shape;
  const fs::path folder = fs::path(suites_folder()) / "ops" / "models";
  const fs::path file = folder / (shape + ".json");
  if (fs::exists(file, ignored)) return file.string();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return fail(ErrorKind::kUsage, "bench.unknown_shape",
              fmt::format("no shape is called \"{}\"; there are {}", printable(shape), fmt::join(names, ", ")),
              folder.string());
}

Result<OrderedJson> config_of(const JsonFields& file) {
  CONCORD_CHECK(file.schema("concord.dimensions/1"));
  CONCORD_TRY(const JsonFields d, file.object("dimensions"));
  CONCORD_TRY(const JsonFields words, file.object("words"));
  if (d.has("experts"))
    return fail(ErrorKind::kUsage, "bench.unsupported_shape", "a mixture of experts cannot be run", file.file());
  CONCORD_TRY(const std::int64_t bias, d.integer("qkv_bias", 0, 1));
  CONCORD_TRY(const std::int64_t norm, d.integer("qk_norm", 0, 1));
  CONCORD_TRY(const std::int64_t tied, d.integer("tied", 0, 1));
  const auto family = std::ranges::find_if(
      kFamilies, [&](const Family& f) { return f.qkv_bias == (bias == 1) && f.qk_norm == (norm == 1); });
  if (family == std::end(kFamilies))
    return fail(ErrorKind::kUsage, "bench.unsupported_shape", "no architecture has both qkv_bias and qk_norm",
                file.file());
  OrderedJson c{{"architectures", {family->architecture}}, {"model_type", family->model_type}, {"hidden_act", "silu"}};
  for (const auto& [ours, theirs] : kSizes) {
    CONCORD_TRY(c[theirs], d.integer(ours, 1, std::int64_t{1} << 31));
  }
  CONCORD_TRY(const std::string eps, words.string("eps"));
  CONCORD_TRY(const Json number, parse_json(eps, file.file(), "suite"));
  c["rms_norm_eps"] = number, c["rope_theta"] = kRopeTheta, c["tie_word_embeddings"] = tied == 1;
  c["torch_dtype"] = "bfloat16", c["use_cache"] = true;
  return c;
}

Uniform values_of(const ExpectedTensor& t) { return t.matrix ? kMatrix : t.name.ends_with(".bias") ? kBias : kGain; }

std::uint64_t tensor_bytes(const ExpectedTensor& t) { return static_cast<std::uint64_t>(element_count(t.shape)) * 2; }

// The header of the safetensors file, with its length in front; data follow in the order of the tensors.
std::string header_of(const std::vector<ExpectedTensor>& tensors) {
  OrderedJson header{{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t at = 0;
  for (const ExpectedTensor& t : tensors) {
    const std::uint64_t end = at + tensor_bytes(t);
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 63) / 64 * 64, ' ');  // the data begin at a multiple of 8 at least
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return out + text;
}

std::uint64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string word; in >> word;) {
    std::uint64_t kib = 0;
    if (word == "MemAvailable:" && in >> kib) return kib * 1024;
  }
  return 0;
}

Status check_memory(std::uint64_t bytes) {
  const std::uint64_t there = available_memory();
  if (there == 0 || bytes < there / 10 * 9) return {};
  return fail(ErrorKind::kUsage, "bench.too_little_memory",
              fmt::format("the weights of this shape take {} bytes of memory, {} are available; take a smaller shape",
                          bytes, there));
}

}  // namespace

Result<AnonymousMemory> AnonymousMemory::map(std::uint64_t bytes) {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return fail(ErrorKind::kIo, "memory.map", fmt::format("{} bytes: {}", bytes, std::strerror(errno)));
  ::madvise(p, bytes, MADV_HUGEPAGE);
  return AnonymousMemory({static_cast<std::byte*>(p), bytes});
}

AnonymousMemory::~AnonymousMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<ShapedModel> ShapedModel::make(const std::string& shape, std::uint64_t seed) {
  CONCORD_TRY(const std::string file, shape_file(shape));
  CONCORD_TRY(const Json json, read_json(file, "suite", 1u << 20));
  CONCORD_TRY(const JsonFields fields, JsonFields::from(json, file, "suite"));
  CONCORD_TRY(OrderedJson config, config_of(fields));
  CONCORD_TRY(ModelSpec spec, spec_from_hf_config(Json::parse(config.dump()), file));
  const std::vector<ExpectedTensor> tensors = expected_tensors(spec);
  const std::string header = header_of(tensors);
  std::uint64_t bytes = header.size();
  for (const ExpectedTensor& t : tensors) bytes += tensor_bytes(t);
  CONCORD_CHECK(check_memory(bytes));
  CONCORD_TRY(AnonymousMemory memory, AnonymousMemory::map(bytes));
  std::memcpy(memory.bytes().data(), header.data(), header.size());
  std::uint64_t at = header.size();
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t size = tensor_bytes(tensors[i]);
    fill_uniform(DType::kBF16, seed, i, values_of(tensors[i]), memory.bytes().subspan(at, size));
    at += size;
  }
  ShapedModel model(std::move(config), std::move(spec), std::move(memory));
  model.name_ = fmt::format("{}, random bf16, seed {}", fs::path(file).stem().string(), seed);
  CONCORD_TRY(model.checkpoint_, open_checkpoint_bytes(model.memory_.bytes(), model.name_));
  return model;
}

Status ShapedModel::write(const fs::path& folder) const {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), folder.string());
  const fs::space_info space = fs::space(folder, error);
  if (const std::uint64_t needed = memory_.bytes().size() + (16u << 20); !error && space.available < needed)
    return fail(ErrorKind::kIo, "bench.disk_full",
                fmt::format("{} bytes are needed, {} are free", needed, std::uint64_t{space.available}),
                folder.string());
  CONCORD_TRY(AtomicFile file, AtomicFile::create(folder / "model.safetensors"));
  const std::span<const std::byte> bytes = memory_.bytes();
  std::vector<Status> written((bytes.size() + kPiece - 1) / kPiece);
  tbb::parallel_for(std::size_t{0}, written.size(), [&](std::size_t i) {
    const std::size_t piece = i * kPiece;
    written[i] = file.write_at(piece, bytes.subspan(piece, std::min(kPiece, bytes.size() - piece)));
  });
  for (const Status& s : written) CONCORD_CHECK(s);
  CONCORD_CHECK(file.commit());
  return write_atomically(folder / "config.json", config_.dump(2) + "\n");
}

}  // namespace concord::bench
