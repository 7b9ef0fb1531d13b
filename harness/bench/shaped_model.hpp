// A model that nobody trained: the dimensions of a real one, bf16 weights from a seed, in memory. Its bytes are those
// of a safetensors file, so that what is measured here and what another program loads from disk is the same.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/json.hpp"
#include "checkpoint/checkpoint.hpp"
#include "model/spec.hpp"

namespace concord::bench {

// Anonymous memory, zero until it is written; no page of it is taken before.
class AnonymousMemory {
 public:
  static Result<AnonymousMemory> map(std::uint64_t bytes);  // memory.map
  AnonymousMemory(AnonymousMemory&& o) noexcept : bytes_(std::exchange(o.bytes_, {})) {}
  AnonymousMemory& operator=(AnonymousMemory&&) = delete;
  ~AnonymousMemory();
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit AnonymousMemory(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

class ShapedModel {
 public:
  // `shape`: the name of a file in suites/ops/models, or the path of one like them (concord.dimensions/1). Errors:
  // bench.unknown_shape, bench.unsupported_shape (a mixture of experts), bench.too_little_memory, and those of the
  // file.
  static Result<ShapedModel> make(const std::string& shape, std::uint64_t seed);

  const std::string& name() const { return name_; }  // "qwen2.5-7b, random bf16, seed 1"
  const ModelSpec& spec() const { return spec_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  // FOLDER/config.json and FOLDER/model.safetensors. Error bench.disk_full when the folder's file system has no room.
  Status write(const std::filesystem::path& folder) const;

 private:
  ShapedModel(OrderedJson config, ModelSpec spec, AnonymousMemory memory)
      : config_(std::move(config)), spec_(std::move(spec)), memory_(std::move(memory)) {}
  std::string name_;
  OrderedJson config_;
  ModelSpec spec_;
  AnonymousMemory memory_;
  std::unique_ptr<Checkpoint> checkpoint_;  // over memory_
};

}  // namespace concord::bench
