#include "experiment/capture_sink.hpp"

#include <algorithm>

namespace concord {

Result<CaptureSink> CaptureSink::to_file(const std::filesystem::path& path, CaptureHeader header, DType activations,
                                         std::int64_t step) {
  const std::int64_t row = header.hidden * dtype_bits(activations) / 8;
  CaptureQueue::Limits limits;
  limits.block_bytes = std::max(limits.block_bytes, static_cast<std::size_t>((step + 1) / 2 * row));
  CONCORD_TRY(CaptureWriter writer, CaptureWriter::create(path, std::move(header)));
  CaptureSink out;
  CONCORD_TRY(out.queue_, CaptureQueue::start(std::move(writer), activations, limits));
  CaptureQueue* queue = out.queue_.get();
  out.sink_ = {.wants = [queue](std::int64_t layer) { return queue->wants(layer); },
               .open = [queue](std::int64_t layer, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
                 CONCORD_TRY(const CaptureQueue::Block block, queue->open(layer, first, rows));
                 return HiddenBlock{block.first_position, block.rows, block.bytes};
               },
               .submit = [queue](std::int64_t, const HiddenBlock&) -> Status {
                 queue->submit();
                 return {};
               },
               .part = [queue](std::int64_t first, std::int64_t rows) { return queue->part(first, rows); }};
  return out;
}

Result<Sha256> CaptureSink::finish(std::vector<std::int32_t> tokens, OrderedJson provenance) {
  if (!queue_) return fail(ErrorKind::kInternal, "capture.switched_off", "there is no capture to finish");
  return queue_->finish(std::move(tokens), std::move(provenance));
}

}  // namespace concord
