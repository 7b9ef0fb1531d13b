#include "capture/queue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <system_error>

namespace concord {

CaptureQueue::CaptureQueue(CaptureWriter writer, DType from, const Limits& limits)
    : writer_(std::move(writer)),
      from_(from),
      row_bytes_(static_cast<std::size_t>(writer_.header().hidden) * dtype_bits(from) / 8),
      block_rows_(std::max<std::size_t>(1, limits.block_bytes / row_bytes_)),
      slots_(std::max<std::size_t>(1, limits.blocks)) {
  for (Slot& s : slots_) s.bytes = std::make_unique_for_overwrite<std::byte[]>(block_rows_ * row_bytes_);
  if (const CaptureHeader& h = writer_.header(); h.dtype != from)
    converted_ = std::make_unique_for_overwrite<std::byte[]>(block_rows_ * static_cast<std::size_t>(h.hidden) *
                                                             dtype_bits(h.dtype) / 8);
}

Result<std::unique_ptr<CaptureQueue>> CaptureQueue::start(CaptureWriter writer, DType from, const Limits& limits) {
  if (!is_float(from))
    return bad_input("capture.bad_dtype", fmt::format("states cannot be {}", dtype_name(from)), writer.path());
  std::unique_ptr<CaptureQueue> queue(new CaptureQueue(std::move(writer), from, limits));
  try {
    queue->thread_ = std::thread([q = queue.get()] { q->serve(); });
  } catch (const std::system_error& e) {
    return fail(ErrorKind::kInternal, "capture.thread", fmt::format("cannot start the writing thread: {}", e.what()),
                queue->writer_.path());
  }
  return queue;
}

CaptureQueue::~CaptureQueue() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  filled_.notify_one();
  thread_.join();
}

bool CaptureQueue::wants(std::int64_t layer) const {
  return std::ranges::binary_search(writer_.header().layers, layer);
}

std::pair<std::int64_t, std::int64_t> CaptureQueue::part(std::int64_t first_position, std::int64_t rows) const {
  const auto& positions = writer_.header().positions;
  const auto begin = std::ranges::lower_bound(positions, first_position);
  const auto end = std::lower_bound(begin, positions.end(), first_position + rows);
  if (begin == end) return {first_position, 0};
  return {*begin, *std::prev(end) - *begin + 1};
}

Result<CaptureQueue::Block> CaptureQueue::open(std::int64_t layer, std::int64_t first_position, std::int64_t rows) {
  const auto& positions = writer_.header().positions;
  const auto begin = std::ranges::lower_bound(positions, first_position);
  if (begin == positions.end() || *begin >= first_position + rows) return Block{};
  const std::int64_t end = std::min(first_position + rows, *begin + static_cast<std::int64_t>(block_rows_));
  const auto last = std::prev(std::lower_bound(begin, positions.end(), end));
  std::unique_lock lock(mutex_);
  emptied_.wait(lock, [this] { return !status_ || submitted_ - written_ < slots_.size(); });
  CONCORD_CHECK(status_);
  Slot& s = slot(submitted_);
  s.layer = layer, s.first_position = *begin, s.rows = *last - *begin + 1;
  return Block{s.first_position, s.rows, {s.bytes.get(), static_cast<std::size_t>(s.rows) * row_bytes_}};
}

void CaptureQueue::submit() {
  {
    const std::lock_guard lock(mutex_);
    ++submitted_;
  }
  filled_.notify_one();
}

Result<Sha256> CaptureQueue::finish(std::vector<std::int32_t> tokens, OrderedJson provenance) {
  {
    std::unique_lock lock(mutex_);
    emptied_.wait(lock, [this] { return !status_ || submitted_ == written_; });
    CONCORD_CHECK(status_);
  }
  return writer_.finish(std::move(tokens), std::move(provenance));
}

void CaptureQueue::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    filled_.wait(lock, [this] { return stopping_ || (status_ && written_ < submitted_); });
    if (stopping_) return;
    Slot& s = slot(written_);
    lock.unlock();
    Status status = write(s);
    lock.lock();
    ++written_;
    status_ = std::move(status);
    emptied_.notify_one();
  }
}

// An exception must not end the program from this thread: it becomes the error of the next call.
Status CaptureQueue::write(Slot& s) try {
  const auto& positions = writer_.header().positions;
  const auto begin = std::ranges::lower_bound(positions, s.first_position);
  const auto end = std::lower_bound(begin, positions.end(), s.first_position + s.rows);
  const auto index = static_cast<std::size_t>(begin - positions.begin()), count = static_cast<std::size_t>(end - begin);
  return writer_.put_rows(s.layer, index, count, gather(s, index, count));
} catch (const std::exception& e) {
  return fail(ErrorKind::kInternal, "capture.thread", e.what(), writer_.path());
}

// The rows of the plan side by side, in the capture's dtype.
std::span<const std::byte> CaptureQueue::gather(Slot& s, std::size_t begin, std::size_t count) {
  const CaptureHeader& h = writer_.header();
  const auto hidden = static_cast<std::size_t>(h.hidden), width = hidden * dtype_bits(h.dtype) / 8;
  std::byte* out = converted_ ? converted_.get() : s.bytes.get();
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::size_t>(h.positions[begin + i] - s.first_position);
    const std::byte* from = s.bytes.get() + row * row_bytes_;
    if (converted_)
      convert_floats(from_, from, h.dtype, out + i * width, hidden);
    else if (row != i)  // rows move down over ones that nobody asked for
      std::memmove(out + i * width, from, width);
  }
  return {out, count * width};
}

}  // namespace concord
