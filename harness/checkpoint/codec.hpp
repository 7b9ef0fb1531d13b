// Internal to this floor: how stored elements become float32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace concord {

// Decodes `blocks` whole blocks. `src` need not be aligned; nothing but src[0, blocks * bytes) is read. Thread-safe.
using DecodeBlocks = void (*)(const std::byte* src, std::uint64_t blocks, float* out);

struct Codec {
  std::string_view name;   // safetensors token or ggml type name (F32 and the integers mean the same in both)
  std::uint32_t elements;  // per block; 1 for plain types
  std::uint32_t bytes;     // per block
  DecodeBlocks decode;
};

// nullptr when there is no way to turn that type into floats here.
const Codec* find_codec(std::string_view type);

}  // namespace concord
