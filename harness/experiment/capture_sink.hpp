// What a run does with its hidden states: they go to a capture file while the model runs on, or nowhere.
#pragma once
#include <filesystem>
#include <memory>
#include <vector>

#include "capture/queue.hpp"
#include "model/decoder.hpp"

namespace concord {

class CaptureSink {
 public:
  CaptureSink() = default;  // switched off: nothing is downloaded from the device
  // step: most tokens in one forward(). The queue holds four blocks, together 8 MiB or two layers of one step,
  // whichever is more. Errors: those of CaptureWriter::create and CaptureQueue::start.
  static Result<CaptureSink> to_file(const std::filesystem::path& path, CaptureHeader header, DType activations,
                                     std::int64_t step);

  // For Decoder::forward; nullptr where switched off. Valid while this object stays where it is.
  const HiddenSink* sink() const { return queue_ ? &sink_ : nullptr; }
  // Waits until everything is on disk and gives the Merkle root. Only with a file. Errors: CaptureQueue::finish.
  Result<Sha256> finish(std::vector<std::int32_t> tokens, OrderedJson provenance);

 private:
  std::unique_ptr<CaptureQueue> queue_;
  HiddenSink sink_;
};

}  // namespace concord
