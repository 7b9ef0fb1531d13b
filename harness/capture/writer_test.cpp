#include <algorithm>
#include <random>
#include <tuple>

#include "capture/testing.hpp"

namespace concord {
namespace {

class Writer : public CaptureFolder {};

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
    EXPECT_EQ(std::tie(r.tokens, r.positions, r.layers), std::tie(h.tokens, h.positions, h.layers));
    EXPECT_EQ(std::tie(r.workload_id, r.workload_digest, r.model, r.weights_digest, r.source_digest, r.nonce, r.role),
              std::tie(h.workload_id, h.workload_digest, h.model, h.weights_digest, h.source_digest, h.nonce, h.role));
    EXPECT_EQ(std::tie(r.hidden, r.dtype, r.model_layers, r.prompt_tokens),
              std::tie(h.hidden, h.dtype, h.model_layers, h.prompt_tokens));
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

TEST_F(Writer, TheOrderOfArrivalDoesNotShow) {
  const CaptureHeader h = small_header();
  auto order = all_cells(h);
  ASSERT_TRUE(write_capture(file("layers"), h, order));
  const std::string expected = *read_text(file("layers"));
  std::ranges::stable_sort(order, {},
                           &Cell::row);  // as a decoder makes them: all layers of one position, then the next
  ASSERT_TRUE(write_capture(file("positions"), h, order));
  EXPECT_TRUE(*read_text(file("positions")) == expected);
  std::ranges::reverse(order);
  ASSERT_TRUE(write_capture(file("backwards"), h, order));
  EXPECT_TRUE(*read_text(file("backwards")) == expected);
  std::mt19937 random(1);
  for (int i = 0; i < 10; ++i) {
    std::ranges::shuffle(order, random);
    ASSERT_TRUE(write_capture(file("shuffled"), h, order));
    EXPECT_TRUE(*read_text(file("shuffled")) == expected);
  }
}

TEST_F(Writer, TensorsAreAlignedAndStatesStartOnACacheLine) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const std::int64_t hidden : {6, 5}) {
      const CaptureHeader h = small_header(dtype, hidden);  // 3 * 35 * 5 half words end on an odd one
      ASSERT_TRUE(write_capture(file("a"), h));
      const auto mapped = MappedFile::open(file("a"));
      const auto capture = Capture::from_bytes(mapped->bytes(), "a");
      ASSERT_TRUE(capture) << capture.error().to_string();
      const auto address = [&](std::int64_t layer) { return capture->states(layer).data() - mapped->bytes().data(); };
      const bool odd = dtype == DType::kBF16 && hidden == 5;
      EXPECT_EQ(address(0) % (odd ? 4 : 64), 0);
      EXPECT_EQ(address(2) % (odd ? 2 : 4), 0);
      EXPECT_TRUE(capture->verify());
    }
}

TEST_F(Writer, RefusesRowsThatAreNotInThePlan) {
  const CaptureHeader h = small_header();
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  const auto row = row_of(h, 2, 0);
  EXPECT_EQ(writer->put(1, 0, row).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put(6, 0, row).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put(2, 35, row).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put(2, 0, std::span(row).first(row.size() - 1)).error().code, "capture.bad_row");
  ASSERT_TRUE(writer->put(2, 0, row));
  EXPECT_EQ(writer->put(2, 0, row).error().code, "capture.duplicate_row");
  ASSERT_TRUE(writer->put(2, 5, row));  // held, because it came early
  EXPECT_EQ(writer->put(2, 5, row).error().code, "capture.duplicate_row");
}

TEST_F(Writer, RunsOfRowsGiveTheSameFileHoweverTheyAreCut) {
  const CaptureHeader h = small_header();
  ASSERT_TRUE(write_capture(file("rows"), h));
  struct Cut {
    std::int64_t layer;
    std::size_t first, count;
  };
  std::mt19937 random(2);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<Cut> cuts;
    for (const std::int64_t layer : h.layers)
      for (std::size_t at = 0; at < 35;) {
        const std::size_t count = trial == 0 ? 35 : std::min<std::size_t>(1 + random() % 20, 35 - at);
        cuts.push_back({layer, at, count});
        at += count;
      }
    std::ranges::shuffle(cuts, random);
    auto writer = CaptureWriter::create(file("runs"), h);
    ASSERT_TRUE(writer);
    for (const Cut& cut : cuts) {
      std::vector<std::byte> rows;
      for (std::size_t i = 0; i < cut.count; ++i) {
        const auto row = row_of(h, cut.layer, cut.first + i);
        rows.insert(rows.end(), row.begin(), row.end());
      }
      ASSERT_TRUE(writer->put_rows(cut.layer, cut.first, cut.count, rows));
    }
    ASSERT_TRUE(writer->finish(h.tokens, h.provenance));
    EXPECT_TRUE(*read_text(file("runs")) == *read_text(file("rows")));
  }
}

TEST_F(Writer, ARunWithOneBadRowIsRefusedWhole) {
  const CaptureHeader h = small_header();
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  const std::vector<std::byte> rows(35 * row_of(h, 0, 0).size());
  const auto first = [&](std::size_t count) { return std::span(rows).first(count * row_of(h, 0, 0).size()); };
  ASSERT_TRUE(writer->put_rows(2, 33, 1, first(1)));
  const auto twice = writer->put_rows(2, 0, 35, first(35));
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, "capture.duplicate_row");
  EXPECT_NE(twice.error().message.find("layer 2, position 38 came twice"), std::string::npos) << twice.error().message;
  EXPECT_EQ(writer->put_rows(2, 34, 2, first(2)).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put_rows(2, 0, SIZE_MAX, first(1)).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put_rows(2, 0, 0, first(0)).error().code, "capture.unknown_row");
  EXPECT_EQ(writer->put_rows(2, 0, 2, first(1)).error().code, "capture.bad_row");
  EXPECT_TRUE(writer->put_rows(2, 0, 33, first(33)));  // nothing of the refused run stayed
}

TEST_F(Writer, AnIncompleteCaptureIsRefusedWithWhatIsMissingAndCanBeCompleted) {
  const CaptureHeader h = small_header();
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  for (const Cell& cell : all_cells(h))
    if (cell.row != 34) {
      ASSERT_TRUE(writer->put(cell.layer, cell.row, row_of(h, cell.layer, cell.row)));
    }
  const auto refused = writer->finish(h.tokens, h.provenance);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, "capture.incomplete");
  EXPECT_NE(refused.error().message.find(
                "3 of 105 rows are missing: layer 0 position 39, layer 2 position 39, layer 5 position 39"),
            std::string::npos)
      << refused.error().message;
  EXPECT_FALSE(std::filesystem::exists(file("a")));
  for (const std::int64_t layer : h.layers) ASSERT_TRUE(writer->put(layer, 34, row_of(h, layer, 34)));
  ASSERT_TRUE(writer->finish(h.tokens, h.provenance));
  EXPECT_TRUE(Capture::open(file("a"))->verify());
  EXPECT_EQ(writer->put(0, 0, row_of(h, 0, 0)).error().code, "capture.finished");
  EXPECT_EQ(writer->finish(h.tokens, h.provenance).error().code, "capture.finished");
  EXPECT_EQ(files(), 1u);
}

TEST_F(Writer, AnAbandonedCaptureLeavesNothingBehind) {
  {
    auto writer = CaptureWriter::create(file("a"), small_header());
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->put(0, 0, row_of(small_header(), 0, 0)));
    EXPECT_EQ(files(), 1u);  // the temporary
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(Writer, TokensAreCheckedWhenTheyAreKnown) {
  CaptureHeader h = small_header();
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  for (const Cell& cell : all_cells(h)) ASSERT_TRUE(writer->put(cell.layer, cell.row, row_of(h, cell.layer, cell.row)));
  EXPECT_EQ(writer->finish({1, 2}, {}).error().code, "capture.bad_tokens");
  auto tokens = h.tokens;
  tokens[7] = -1;
  EXPECT_EQ(writer->finish(tokens, {}).error().code, "capture.bad_tokens");
  EXPECT_TRUE(writer->finish(h.tokens, {}));
}

TEST_F(Writer, ProvenanceBeyondTheReservedRoomIsRefusedAndNothingIsOverwritten) {
  const CaptureHeader h = small_header();
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  for (const Cell& cell : all_cells(h)) ASSERT_TRUE(writer->put(cell.layer, cell.row, row_of(h, cell.layer, cell.row)));
  EXPECT_EQ(writer->finish(h.tokens, {{"log", std::string(100'000, 'x')}}).error().code, "capture.header_overflow");
  ASSERT_TRUE(writer->finish(h.tokens, {{"log", std::string(60'000, 'x')}}));
  const auto capture = Capture::open(file("a"));
  ASSERT_TRUE(capture) << capture.error().to_string();
  EXPECT_TRUE(capture->verify());
  EXPECT_EQ(capture->header().provenance["log"].get<std::string>().size(), 60'000u);
}

TEST_F(Writer, ThePlanIsCheckedBeforeAnythingIsWritten) {
  struct Case {
    const char* code;
    void (*change)(CaptureHeader&);
  };
  const Case cases[] = {
      {"capture.bad_dtype", [](CaptureHeader& h) { h.dtype = DType::kF64; }},
      {"capture.bad_size", [](CaptureHeader& h) { h.hidden = 0; }},
      {"capture.bad_size", [](CaptureHeader& h) { h.tokens.clear(); }},
      {"capture.bad_layers", [](CaptureHeader& h) { h.layers = {0, 6}; }},
      {"capture.bad_layers", [](CaptureHeader& h) { h.layers = {2, 0}; }},
      {"capture.bad_layers", [](CaptureHeader& h) { h.layers = {}; }},
      {"capture.bad_positions", [](CaptureHeader& h) { h.positions = {0, 0}; }},
      {"capture.bad_positions", [](CaptureHeader& h) { h.positions = {40}; }},
      {"capture.bad_prompt", [](CaptureHeader& h) { h.prompt_tokens = 41; }},
      {"capture.bad_digest", [](CaptureHeader& h) { h.workload_digest = "abc"; }},
      {"capture.bad_digest", [](CaptureHeader& h) { h.nonce = "xyz"; }},
      {"capture.bad_json", [](CaptureHeader& h) { h.configuration = 3; }},
      {"capture.bad_metadata", [](CaptureHeader& h) { h.role = "judge"; }},
      {"capture.bad_metadata", [](CaptureHeader& h) { h.model = std::string(5u << 20, 'x'); }},
  };
  for (const Case& c : cases) {
    CaptureHeader h = small_header();
    c.change(h);
    const auto writer = CaptureWriter::create(file("a"), h);
    ASSERT_FALSE(writer) << c.code;
    EXPECT_EQ(writer.error().code, c.code);
  }
  EXPECT_EQ(files(), 0u);
  EXPECT_EQ(CaptureWriter::create(file("no/such/folder"), small_header()).error().code, "file.create");
}

TEST_F(Writer, AFullDiskIsAnErrorAndLeavesTheOldFileAlone) {
  const CaptureHeader h = small_header(DType::kF32, 4096);
  ASSERT_TRUE(write_atomically(file("a"), "what was there before"));
  {
    const FileSizeLimit limit(1u << 20);
    const auto root = write_capture(file("a"), h);  // 105 rows of 16 KiB
    ASSERT_FALSE(root);
    EXPECT_EQ(root.error().code, "file.write");
    EXPECT_EQ(exit_code(root.error().kind), 2);
  }
  EXPECT_EQ(*read_text(file("a")), "what was there before");
  EXPECT_EQ(files(), 1u);
}

TEST_F(Writer, ARowThatCouldNotBeWrittenCountsAsMissing) {
  const CaptureHeader h = small_header(DType::kF32, 4096);
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  {
    const FileSizeLimit limit(1024);
    EXPECT_EQ(writer->put(0, 0, row_of(h, 0, 0)).error().code, "file.write");
  }
  for (const Cell& cell : all_cells(h))
    if (cell.layer != 0 || cell.row != 0) {
      ASSERT_TRUE(writer->put(cell.layer, cell.row, row_of(h, cell.layer, cell.row)));
    }
  EXPECT_EQ(writer->finish(h.tokens, h.provenance).error().code, "capture.incomplete");
  ASSERT_TRUE(writer->put(0, 0, row_of(h, 0, 0)));  // the disk has room again
  ASSERT_TRUE(writer->finish(h.tokens, h.provenance));
  EXPECT_TRUE(Capture::open(file("a"))->verify());
}

}  // namespace
}  // namespace concord
