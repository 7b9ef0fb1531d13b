// Arbitrary bytes as a GGUF file: an error or a checkpoint whose every tensor can be read, also by Hugging Face name,
// never a read outside the bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "checkpoint/finite.hpp"
#include "checkpoint/parse.hpp"

namespace {

void read_everything(const concord::Checkpoint& checkpoint, std::size_t size) {
  for (const concord::TensorInfo& t : checkpoint.tensors()) {
    if (t.offset > size || t.bytes > size - t.offset) std::abort();
    if (checkpoint.raw(t).size() != t.bytes) std::abort();
    const concord::Status status = concord::check_finite(checkpoint, t);
    if (!status && status.error().code != "checkpoint.not_finite" && status.error().code != "checkpoint.not_decodable")
      std::abort();
    if (checkpoint.find(t.name) == nullptr) std::abort();
  }
  const concord::HfTensors tensors(checkpoint, 2, 1);
  for (const char* name : {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.bias"})
    if (const concord::TensorInfo* info = tensors.info(name)) (void)tensors.read(name, info->shape);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto parsed = concord::parse_gguf(bytes, "input"); !parsed && parsed.error().code.empty()) std::abort();
  if (const auto checkpoint = concord::open_checkpoint_bytes(bytes, "input")) {
    read_everything(**checkpoint, size);
    (void)(*checkpoint)->metadata().dump(-1, ' ', true, concord::Json::error_handler_t::replace);
  }
  return 0;
}
