#include "model/hidden_copies.hpp"

#include <cstring>

namespace concord {

HiddenCopies::HiddenCopies(std::int64_t step_rows, std::uint64_t row_bytes, std::int64_t sequences)
    : step_rows_(step_rows), row_bytes_(row_bytes), sequences_(static_cast<std::size_t>(sequences)) {}

Status HiddenCopies::prepare(Device& device, Lane& lane) {
  if (lane.stream.get()) return {};
  CONCORD_TRY(lane.block, device.allocate_host(static_cast<std::uint64_t>(step_rows_) * row_bytes_));
  lane.parts.reserve(sequences_);
  CONCORD_TRY(lane.stream, device.create_stream());
  return {};
}

Status HiddenCopies::next_layer(Device& device) {
  ++layers_;
  return hand_over(device, current());
}

Status HiddenCopies::copy(Device& device, const HiddenSink& sink, std::int64_t layer, const Buffer& from,
                          std::int64_t start, std::int64_t first_row, std::int64_t rows) {
  const auto [first, count] = sink.part ? sink.part(start, rows) : std::pair{start, rows};
  if (count <= 0) return {};
  Lane& lane = current();
  CONCORD_CHECK(prepare(device, lane));
  if (lane.parts.empty()) {
    CONCORD_CHECK(device.wait_for_default(lane.stream));
  }
  const std::uint64_t at = static_cast<std::uint64_t>(first_row + first - start) * row_bytes_;
  lane.open = true;
  CONCORD_CHECK(device.download_async(
      from, at, lane.block.bytes().subspan(at, static_cast<std::uint64_t>(count) * row_bytes_), lane.stream));
  lane.parts.push_back({&sink, layer, start, first_row, rows});
  return {};
}

Status HiddenCopies::before_overwrite(Device& device) {
  for (Lane& lane : lanes_) {
    if (!lane.open) continue;
    CONCORD_CHECK(device.default_waits_for(lane.stream));
    lane.open = false;
  }
  return {};
}

Status HiddenCopies::hand_over(Device& device, Lane& lane) {
  if (lane.parts.empty()) return {};
  CONCORD_CHECK(device.synchronize(lane.stream));
  lane.open = false;
  for (const Part& part : lane.parts) CONCORD_CHECK(hand_over(lane, part));
  lane.parts.clear();
  return {};
}

Status HiddenCopies::hand_over(const Lane& lane, const Part& part) {
  for (std::int64_t at = part.start; at < part.start + part.rows;) {
    CONCORD_TRY(const HiddenBlock block, part.sink->open(part.layer, at, part.start + part.rows - at));
    if (block.rows == 0) break;
    const auto from = static_cast<std::uint64_t>(part.first_row + block.first_position - part.start) * row_bytes_;
    std::memcpy(block.bytes.data(), lane.block.bytes().data() + from, block.bytes.size());
    CONCORD_CHECK(part.sink->submit(part.layer, block));
    at = block.first_position + block.rows;
  }
  return {};
}

Status HiddenCopies::finish(Device& device) {
  CONCORD_CHECK(next_layer(device));
  CONCORD_CHECK(next_layer(device));
  return device.synchronize();
}

void HiddenCopies::abandon(Device& device) {
  for (Lane& lane : lanes_) {
    if (lane.stream.get()) static_cast<void>(device.synchronize(lane.stream));
    lane.parts.clear(), lane.open = false;
  }
  static_cast<void>(device.synchronize());  // what else went wrong is not the next step's error
}

}  // namespace concord
