// Hidden states on their way from a device's memory to their sinks, beside the device's work: copied on streams of
// their own into page-locked memory while the next layer runs, and handed over one layer later.
#pragma once
#include <array>
#include <vector>

#include "device/device.hpp"
#include "model/hidden_sink.hpp"

namespace concord {

class HiddenCopies {
 public:
  // For a device with copies_beside_work(). Nothing is allocated before the first copy: then two page-locked blocks of
  // step_rows * row_bytes.
  HiddenCopies(std::int64_t step_rows, std::uint64_t row_bytes, std::int64_t sequences);

  // What is copied from now on belongs to the next layer: hands over the states of the layer before the last one, so
  // that the device has the last one's work to do meanwhile. Called once per layer, whether anybody wants its states or
  // not.
  Status next_layer(Device& device);
  // Copies one sequence's states when the work queued until now is done: `from` holds row first_row + r of position
  // start + r.
  Status copy(Device& device, const HiddenSink& sink, std::int64_t layer, const Buffer& from, std::int64_t start,
              std::int64_t first_row, std::int64_t rows);
  // The device's work queued from now on begins when the copies are done: before a buffer that was copied from is
  // overwritten.
  Status before_overwrite(Device& device);
  // Hands over everything. After it the copies and all work of the device are done and no error of them is unheard.
  Status finish(Device& device);
  // Waits for copies and work, and forgets them and their errors: after a first error.
  void abandon(Device& device);

 private:
  struct Part {
    const HiddenSink* sink;
    std::int64_t layer, start, first_row, rows;
  };
  struct Lane {
    Stream stream;
    HostBlock block;
    std::vector<Part> parts;  // copied, not yet handed over
    bool open = false;        // copies that no later work waits for
  };
  Status prepare(Device& device, Lane& lane);
  Status hand_over(Device& device, Lane& lane);
  Status hand_over(const Lane& lane, const Part& part);
  Lane& current() { return lanes_[layers_ % lanes_.size()]; }

  std::int64_t step_rows_;
  std::uint64_t row_bytes_;
  std::size_t sequences_;
  std::uint64_t layers_ = 0;  // of all steps
  std::array<Lane, 2> lanes_;
};

}  // namespace concord
