// For this floor's tests: a checkpoint in memory, and an expectation on errors.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "model/spec.hpp"

namespace concord::testing_model {

// Tensors of float32 zeros (or given values), held in memory. GGUF names and shapes are given as they appear after
// reading.
class FakeCheckpoint : public Checkpoint {
 public:
  explicit FakeCheckpoint(std::string format = "safetensors") : format_(std::move(format)) { files_ = {"fake"}; }

  FakeCheckpoint& add(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> values = {},
                      std::string type = "F32") {
    TensorInfo info{.name = name, .type = std::move(type), .shape = shape, .decodable = true};
    std::uint64_t n = 1;
    for (const std::int64_t d : shape) n *= static_cast<std::uint64_t>(d);
    info.elements = n;
    info.bytes = n * 4;
    info.offset = data_.size();
    values.resize(n);
    const auto bytes = std::as_bytes(std::span<const float>(values));
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const TensorInfo& t, const std::string& key) { return t.name < key; });
    tensors_.insert(at, std::move(info));
    return *this;
  }
  FakeCheckpoint& add_all(const ModelSpec& spec) {
    for (const ExpectedTensor& t : expected_tensors(spec))
      add(format_.starts_with("gguf") ? gguf_name(t.name) : t.name, t.shape);
    return *this;
  }
  FakeCheckpoint& remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorInfo& t) { return t.name == name; });
    return *this;
  }
  Json& meta() { return metadata_; }

  std::string format() const override { return format_; }
  std::span<const std::byte> raw(const TensorInfo& t) const override {
    return std::span(data_).subspan(t.offset, t.bytes);
  }
  Status read_f32(const TensorInfo& t, std::uint64_t begin, std::uint64_t count, float* out) const override {
    std::memcpy(out, data_.data() + t.offset + begin * 4, count * 4);
    return {};
  }
  std::uint64_t block_size(const TensorInfo&) const override { return 1; }
  Status unchanged() const override { return {}; }

 private:
  std::string format_;
  std::vector<std::byte> data_;
};

// A new empty folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::path(::testing::TempDir()) /
              ("concord-model-" + std::to_string(::getpid()) + "-" + std::to_string(next()++))) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }

 private:
  static int& next() {
    static int n = 0;
    return n;
  }
  std::filesystem::path path_;
};

template <class T>
void expect_error(const Result<T>& result, const std::string& code, const std::string& fragment = "") {
  ASSERT_FALSE(result.has_value()) << "expected " << code;
  EXPECT_EQ(result.error().code, code) << result.error().to_string();
  EXPECT_THAT(result.error().message, ::testing::HasSubstr(fragment));
}

}  // namespace concord::testing_model
