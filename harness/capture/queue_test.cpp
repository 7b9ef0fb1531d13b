#include "capture/queue.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

#include "base/counting_new.hpp"
#include "capture/testing.hpp"

namespace concord {
namespace {

class Queue : public CaptureFolder {};

// 150 positions with gaps (five chunks), six of seven layers.
CaptureHeader long_header(DType dtype) {
  CaptureHeader h = small_header(dtype, 24);
  h.model_layers = 6;
  h.layers = {0, 1, 2, 4, 5, 6};
  h.prompt_tokens = 190;
  h.positions.clear();
  for (std::int32_t i = 0; i < 150; ++i) h.positions.push_back(i + i / 10 * 3);
  h.tokens.assign(200, 1);
  return h;
}

// The state of one layer at one position, exact in every float type.
double state(std::int64_t layer, std::int64_t position, std::int64_t i) {
  const auto bits = philox4x32(
      {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(layer), 0},
      {3, 5})[0];
  return (static_cast<double>(bits % 255) - 127) / 64;
}

std::vector<std::byte> row_in(DType dtype, const CaptureHeader& h, std::int64_t layer, std::int64_t position) {
  std::vector<std::byte> out(static_cast<std::size_t>(h.hidden) * dtype_bits(dtype) / 8);
  for (std::int64_t i = 0; i < h.hidden; ++i)
    store_from_f64(dtype, out.data(), static_cast<std::size_t>(i), state(layer, position, i));
  return out;
}

std::string written_row_by_row(const std::filesystem::path& path, const CaptureHeader& h) {
  auto writer = CaptureWriter::create(path, h);
  for (const std::int64_t layer : h.layers)
    for (std::size_t i = 0; i < h.positions.size(); ++i)
      EXPECT_TRUE(writer->put(layer, i, row_in(h.dtype, h, layer, h.positions[i])));
  EXPECT_TRUE(writer->finish(h.tokens, h.provenance));
  return *read_text(path);
}

Result<std::unique_ptr<CaptureQueue>> start(const std::filesystem::path& path, const CaptureHeader& h, DType from,
                                            CaptureQueue::Limits limits) {
  CONCORD_TRY(CaptureWriter writer, CaptureWriter::create(path, h));
  return CaptureQueue::start(std::move(writer), from, limits);
}

// What a decoder does with one step: all layers, each cut as the queue asks for it. Rows outside the plan are filled
// too.
Status feed(CaptureQueue& queue, const CaptureHeader& h, DType from, std::int64_t first, std::int64_t rows,
            std::set<const std::byte*>* blocks = nullptr) {
  for (std::int64_t layer = 0; layer <= h.model_layers; ++layer) {
    if (!queue.wants(layer)) continue;
    for (std::int64_t at = first; at < first + rows;) {
      CONCORD_TRY(const CaptureQueue::Block block, queue.open(layer, at, first + rows - at));
      if (block.rows == 0) break;
      if (blocks) blocks->insert(block.bytes.data());
      const std::size_t row = block.bytes.size() / static_cast<std::size_t>(block.rows);
      for (std::int64_t r = 0; r < block.rows; ++r) {
        std::byte* out = block.bytes.data() + static_cast<std::size_t>(r) * row;
        for (std::int64_t i = 0; i < h.hidden; ++i)
          store_from_f64(from, out, static_cast<std::size_t>(i), state(layer, block.first_position + r, i));
      }
      queue.submit();
      at = block.first_position + block.rows;
    }
  }
  return {};
}

Status feed_in_steps(CaptureQueue& queue, const CaptureHeader& h, DType from, std::int64_t step) {
  for (std::int64_t at = 0; at < 200; at += step) CONCORD_CHECK(feed(queue, h, from, at, std::min(step, 200 - at)));
  return {};
}

TEST_F(Queue, TheFileIsTheOneThatRowsPutOneByOneMake) {
  struct Case {
    DType from, to;
  };
  const Case cases[] = {{DType::kF32, DType::kF32}, {DType::kF16, DType::kF16},  {DType::kBF16, DType::kBF16},
                        {DType::kF64, DType::kF32}, {DType::kF32, DType::kBF16}, {DType::kBF16, DType::kF32}};
  for (const Case& c : cases) {
    const CaptureHeader h = long_header(c.to);
    const std::string expected = written_row_by_row(file("rows"), h);
    for (const std::size_t blocks : {1, 2, 4})
      for (const std::size_t bytes : {1, 1000, 2 << 20})
        for (const std::int64_t step : {200, 64, 7, 1}) {
          auto queue = start(file("queue"), h, c.from, {blocks, bytes});
          ASSERT_TRUE(queue);
          ASSERT_TRUE(feed_in_steps(**queue, h, c.from, step));
          const auto root = (*queue)->finish(h.tokens, h.provenance);
          ASSERT_TRUE(root) << root.error().to_string();
          ASSERT_TRUE(*read_text(file("queue")) == expected)
              << blocks << " blocks of " << bytes << ", steps of " << step;
          EXPECT_EQ(Capture::open(file("queue"))->root(), *root);
        }
  }
}

TEST_F(Queue, BlocksAreReusedAndNothingIsAllocatedOnTheWay) {
  const CaptureHeader h = long_header(DType::kF32);
  std::set<const std::byte*> blocks;
  auto queue = start(file("a"), h, DType::kF32, {3, 1000});
  ASSERT_TRUE(queue);
  ASSERT_TRUE(feed(**queue, h, DType::kF32, 0, 100, &blocks));
  EXPECT_EQ(blocks.size(), 3u);
  const std::uint64_t before = testing_support::allocations();
  ASSERT_TRUE(feed(**queue, h, DType::kF32, 100, 90));
  EXPECT_EQ(testing_support::allocations() - before, 0u);
  ASSERT_TRUE(feed(**queue, h, DType::kF32, 190, 10, &blocks));
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_TRUE((*queue)->finish(h.tokens, h.provenance));
}

TEST_F(Queue, AsksOnlyForWhatThePlanWants) {
  CaptureHeader h = long_header(DType::kF32);
  h.positions = {5, 6, 9, 100};
  auto queue = start(file("a"), h, DType::kF32, {2, 4 * 24 * 8});  // eight rows
  ASSERT_TRUE(queue);
  EXPECT_FALSE((*queue)->wants(3));
  const auto block = (*queue)->open(0, 0, 200);
  ASSERT_TRUE(block);
  EXPECT_EQ(block->first_position, 5);
  EXPECT_EQ(block->rows, 5);  // 5 to 9; 100 does not fit in the same block
  EXPECT_EQ((*queue)->open(0, 10, 190)->first_position, 100);
  EXPECT_EQ((*queue)->open(0, 10, 190)->rows, 1);
  EXPECT_EQ((*queue)->open(0, 10, 90)->rows, 0);
  EXPECT_EQ((*queue)->open(0, 101, 99)->rows, 0);
  EXPECT_EQ((*queue)->open(0, 0, 5)->rows, 0);
}

// Whoever copies ahead of open() must have copied every row that it will ask for, and should not copy more than lies between.
TEST_F(Queue, ThePartIsTheLeastRunThatHoldsWhatIsOpened) {
  CaptureHeader h = long_header(DType::kF32);
  auto queue = start(file("a"), h, DType::kF32, {2, 4 * 24 * 8});
  ASSERT_TRUE(queue);
  for (std::int64_t first = 0; first < 200; ++first)
    for (const std::int64_t rows : {1, 2, 3, 11, 50, 200}) {
      std::int64_t low = 0, high = -1;
      for (const std::int32_t p : h.positions) {
        if (p < first || p >= first + rows) continue;
        if (high < low) low = p;
        high = p;
      }
      const auto [begin, count] = (*queue)->part(first, rows);
      ASSERT_EQ(count, high < low ? 0 : high - low + 1) << first << " " << rows;
      if (count > 0) {
        ASSERT_EQ(begin, low);
      }
    }
}

TEST_F(Queue, AFullDiskStopsTheNextCallAndLeavesTheOldFileAlone) {
  CaptureHeader h = long_header(DType::kF32);
  h.hidden = 1024;  // 150 rows of 4 KiB in each of six layers
  ASSERT_TRUE(write_atomically(file("a"), "what was there before"));
  {
    const FileSizeLimit limit(1u << 20);
    auto queue = start(file("a"), h, DType::kF32, {2, 8192});
    ASSERT_TRUE(queue);
    const Status fed = feed_in_steps(**queue, h, DType::kF32, 50);
    ASSERT_FALSE(fed);  // far more blocks than the queue holds come after the first that did not fit
    EXPECT_EQ(fed.error().code, "file.write");
    EXPECT_EQ((*queue)->open(0, 0, 1).error().code, "file.write");  // for good
    EXPECT_EQ((*queue)->finish(h.tokens, h.provenance).error().code, "file.write");
  }
  EXPECT_EQ(*read_text(file("a")), "what was there before");
  EXPECT_EQ(files(), 1u);
}

TEST_F(Queue, AnErrorInTheLastBlockSurfacesInFinish) {
  const CaptureHeader h = long_header(DType::kF32);
  for (const std::int64_t layer : {0, 3}) {  // a block twice; a layer that is not in the plan
    auto queue = start(file("a"), h, DType::kF32, {4, 1u << 20});
    ASSERT_TRUE(queue);
    ASSERT_TRUE(feed_in_steps(**queue, h, DType::kF32, 200));
    const auto block = (*queue)->open(layer, 0, 200);
    ASSERT_TRUE(block);
    std::memset(block->bytes.data(), 0, block->bytes.size());
    (*queue)->submit();
    const auto root = (*queue)->finish(h.tokens, h.provenance);
    ASSERT_FALSE(root);
    EXPECT_EQ(root.error().code, layer == 0 ? "capture.duplicate_row" : "capture.unknown_row");
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(Queue, WhatTheWriterRefusesCanBeCompleted) {
  const CaptureHeader h = long_header(DType::kF32);
  auto queue = start(file("a"), h, DType::kF32, {});
  ASSERT_TRUE(queue);
  ASSERT_TRUE(feed(**queue, h, DType::kF32, 0, 100));
  EXPECT_EQ((*queue)->finish(h.tokens, h.provenance).error().code, "capture.incomplete");
  ASSERT_TRUE(feed(**queue, h, DType::kF32, 100, 100));
  EXPECT_TRUE((*queue)->finish(h.tokens, h.provenance));
  EXPECT_TRUE(*read_text(file("a")) == written_row_by_row(file("rows"), h));
}

TEST_F(Queue, AbandonedAtAnyPointItLeavesNothingBehind) {
  const CaptureHeader h = long_header(DType::kF32);
  for (std::int64_t rows = 0; rows <= 200; rows += 10) {
    auto queue = start(file("a"), h, DType::kF32, {2, 500});
    ASSERT_TRUE(queue);
    if (rows > 0) {
      ASSERT_TRUE(feed(**queue, h, DType::kF32, 0, rows));
    }
    if (rows % 20 == 0) {
      ASSERT_TRUE((*queue)->open(6, 0, 200));  // a block that is never filled
    }
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(Queue, StatesAreFloats) {
  EXPECT_EQ(start(file("a"), long_header(DType::kF32), DType::kI32, {}).error().code, "capture.bad_dtype");
  EXPECT_EQ(files(), 0u);
}

// Either side is the slow one by turns: the queue runs full and empty many times.
TEST_F(Queue, StressWithUnevenPaces) {
  const CaptureHeader h = long_header(DType::kBF16);
  const std::string expected = written_row_by_row(file("rows"), h);
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    auto queue = start(file("queue"), h, DType::kBF16, {1 + random() % 3, random() % 2000});
    ASSERT_TRUE(queue);
    for (std::int64_t at = 0; at < 200;) {
      const std::int64_t rows = std::min<std::int64_t>(1 + random() % 60, 200 - at);
      ASSERT_TRUE(feed(**queue, h, DType::kBF16, at, rows));
      if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
      at += rows;
    }
    ASSERT_TRUE((*queue)->finish(h.tokens, h.provenance));
    ASSERT_TRUE(*read_text(file("queue")) == expected);
  }
}

}  // namespace
}  // namespace concord
