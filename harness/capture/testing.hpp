// Small captures with known contents, for the tests of this folder.
#pragma once
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/rng.hpp"
#include "capture/capture.hpp"

namespace concord {

// A folder of its own for every test, removed at the end.
class CaptureFolder : public testing::Test {
 protected:
  CaptureFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("concord_" + std::to_string(::getpid()) + "_" + std::filesystem::path(info->name()).filename().string());
    std::filesystem::create_directories(folder_);
  }
  ~CaptureFolder() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path folder_;
};

// 40 tokens, 35 positions (two chunks, the second of 3 rows), hidden-state indices 0, 2, 5 of a model of 5 layers.
inline CaptureHeader small_header(DType dtype = DType::kF32, std::int64_t hidden = 6) {
  CaptureHeader h;
  h.workload_id = "short";
  h.workload_digest = sha256_hex("workload");
  h.model = "tiny";
  h.weights_digest = sha256_hex("weights");
  h.source_digest = sha256_hex("source");
  h.nonce = "00112233445566778899aabbccddeeff";
  h.role = "prover";
  h.configuration = {{"device", "cpu:strict"}, {"activations", "f32"}};
  h.provenance = {{"machine", "test"}};
  h.hidden = hidden;
  h.dtype = dtype;
  h.model_layers = 5;
  h.prompt_tokens = 30;
  h.layers = {0, 2, 5};
  for (std::int32_t i = 0; i < 35; ++i) h.positions.push_back(i + (i >= 10 ? 5 : 0));
  for (std::int32_t i = 0; i < 40; ++i) h.tokens.push_back(100 + i);
  return h;
}

// Any bits at all, NaN among them: a capture carries what the prover had.
inline std::vector<std::byte> row_of(const CaptureHeader& h, std::int64_t layer, std::size_t row) {
  std::vector<std::byte> out(static_cast<std::size_t>(h.hidden) * dtype_bits(h.dtype) / 8);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(philox4x32({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(row), 0, 0},
                                               {static_cast<std::uint32_t>(layer), 7})[0]);
  return out;
}

struct Cell {
  std::int64_t layer;
  std::size_t row;
};
inline std::vector<Cell> all_cells(const CaptureHeader& h) {
  std::vector<Cell> out;
  for (const std::int64_t layer : h.layers)
    for (std::size_t row = 0; row < h.positions.size(); ++row) out.push_back({layer, row});
  return out;
}

inline Result<Sha256> write_capture(const std::filesystem::path& path, const CaptureHeader& h,
                                    const std::vector<Cell>& order) {
  CONCORD_TRY(CaptureWriter writer, CaptureWriter::create(path, h));
  for (const Cell& cell : order) CONCORD_CHECK(writer.put(cell.layer, cell.row, row_of(h, cell.layer, cell.row)));
  return writer.finish(h.tokens, h.provenance);
}
inline Result<Sha256> write_capture(const std::filesystem::path& path, const CaptureHeader& h) {
  return write_capture(path, h, all_cells(h));
}

// A file size limit stands in for a full disk: the kernel refuses the write in the same place.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace concord
