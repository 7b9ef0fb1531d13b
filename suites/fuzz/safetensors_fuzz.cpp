// Arbitrary bytes as a safetensors file and as a shard index: an error or a checkpoint whose every tensor can be read,
// never a read outside the bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "checkpoint/finite.hpp"
#include "checkpoint/parse.hpp"

namespace {

// Every tensor must lie inside the bytes and decode, or be refused by name.
void read_everything(const concord::Checkpoint& checkpoint, std::size_t size) {
  for (const concord::TensorInfo& t : checkpoint.tensors()) {
    if (t.offset > size || t.bytes > size - t.offset) std::abort();
    if (checkpoint.raw(t).size() != t.bytes) std::abort();
    const concord::Status status = concord::check_finite(checkpoint, t);
    if (!status && status.error().code != "checkpoint.not_finite" && status.error().code != "checkpoint.not_decodable")
      std::abort();
    if (checkpoint.find(t.name) == nullptr) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto parsed = concord::parse_safetensors(bytes, "input"); !parsed && parsed.error().code.empty())
    std::abort();
  if (const auto checkpoint = concord::open_checkpoint_bytes(bytes, "input")) read_everything(**checkpoint, size);
  if (const auto index = concord::parse_shard_index(bytes, "input")) {
    for (const auto& [name, shard] : index->weight_map)
      if (shard >= index->shards.size()) std::abort();
    (void)concord::check_index(*index, {}, "input");
  }
  return 0;
}
