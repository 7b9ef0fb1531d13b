// Hidden states on their way from the thread that computes to a capture file: a bounded ring of reusable blocks and one
// thread that converts, writes and hashes them while the next layer runs.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "capture/capture.hpp"

namespace concord {

class CaptureQueue {
 public:
  // All the memory that the queue ever holds: blocks * block_bytes, and one block more when the states are converted.
  struct Limits {
    std::size_t blocks = 4;
    std::size_t block_bytes = 2u << 20;  // rounded down to whole rows, at least one
  };
  // Room for the states of one layer at positions first_position + r, r < rows, in the dtype given to start().
  struct Block {
    std::int64_t first_position = 0, rows = 0;
    std::span<std::byte> bytes;
  };

  // `from`: the dtype that the states come in. Errors: capture.bad_dtype (no float type), capture.thread.
  static Result<std::unique_ptr<CaptureQueue>> start(CaptureWriter writer, DType from, const Limits& limits);
  // Without finish(): what waits is dropped, and nothing appears under the file's name.
  ~CaptureQueue();
  CaptureQueue(const CaptureQueue&) = delete;
  CaptureQueue& operator=(const CaptureQueue&) = delete;

  bool wants(std::int64_t layer) const;
  // First position and rows of the least run within [first_position, first_position + rows) that holds all that the
  // plan names there; rows 0 where it names none.
  std::pair<std::int64_t, std::int64_t> part(std::int64_t first_position, std::int64_t rows) const;
  // The part of [first_position, first_position + rows) that is to be filled next: from the first position of the plan
  // to the last one that fits in a block; rows 0 where the plan has none. The caller goes on behind it. Waits while all
  // blocks are full. Errors: the first one of the background thread (file.write, capture.duplicate_row, ...), for good.
  // From open() to submit() the block is the caller's; all calls come from one thread.
  Result<Block> open(std::int64_t layer, std::int64_t first_position, std::int64_t rows);
  void submit();  // the block that was opened last is filled
  // Waits until all is written, then CaptureWriter::finish. Errors: the background thread's, and those of the writer.
  Result<Sha256> finish(std::vector<std::int32_t> tokens, OrderedJson provenance);

 private:
  struct Slot {
    std::unique_ptr<std::byte[]> bytes;
    std::int64_t layer = 0, first_position = 0, rows = 0;
  };
  CaptureQueue(CaptureWriter writer, DType from, const Limits& limits);
  void serve();
  Status write(Slot& slot);
  std::span<const std::byte> gather(Slot& slot, std::size_t begin, std::size_t count);
  Slot& slot(std::uint64_t number) { return slots_[number % slots_.size()]; }

  CaptureWriter writer_;  // the background thread's, while blocks are waiting
  const DType from_;
  const std::size_t row_bytes_, block_rows_;
  std::vector<Slot> slots_;
  std::unique_ptr<std::byte[]> converted_;  // a block in the capture's dtype, where that is another one
  std::mutex mutex_;                        // of the rest
  std::condition_variable filled_, emptied_;
  std::uint64_t submitted_ = 0, written_ = 0;  // blocks
  bool stopping_ = false;
  Status status_;
  std::thread thread_;
};

}  // namespace concord
