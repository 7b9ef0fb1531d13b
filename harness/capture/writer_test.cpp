#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "capture/testing.hpp"

namespace concord {
namespace {

class Writer : public CaptureFolder {};

std::string bytes_of(const std::filesystem::path& path) { return *read_text(path); }

TEST_F(Writer, WhatIsWrittenIsReadBack) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const CaptureHeader h = small_header(dtype);
    const auto path = file("a.safetensors");
    const auto root = write_capture(path, h);
    ASSERT_TRUE(root) << root.error().to_string();
    const auto capture = Capture::open(path);
    ASSERT_TRUE(capture) << capture.error().to_string();
    EXPECT_TRUE(capture->verify());
    EXPECT_EQ(capture->root(), *root);
    const CaptureHeader& r = capture->header();
    EXPECT_EQ(r.tokens, h.tokens);
    EXPECT_EQ(r.positions, h.positions);
    EXPECT_EQ(r.layers, h.layers);
    EXPECT_EQ(std::tie(r.workload_id, r.workload_digest, r.model, r.weights_digest, r.source_digest, r.nonce, r.role),
              std::tie(h.workload_id, h.workload_digest, h.model, h.weights_digest, h.source_digest, h.nonce, h.role));
    EXPECT_EQ(std::tie(r.hidden, r.dtype, r.model_layers, r.prompt_tokens), std::tie(h.hidden, h.dtype, h.model_layers, h.prompt_tokens));
    EXPECT_EQ(r.configuration.dump(), h.configuration.dump());  // in its own order
    for (const Cell& cell : all_cells(h)) {
      const auto row = row_of(h, cell.layer, cell.row);
      EXPECT_TRUE(std::ranges::equal(capture->states(cell.layer).subspan(cell.row * row.size(), row.size()), row));
    }
    EXPECT_TRUE(capture->states(1).empty());
    EXPECT_EQ(capture->chunks(), 2u);
    EXPECT_EQ(capture->chunk(2, 1).size(), 3 * row_of(h, 0, 0).size());
    EXPECT_TRUE(capture->chunk(2, 2).empty());
  }
}

}  // namespace
}  // namespace concord
