// What the writer and the reader of a capture share: limits, checks, metadata, layout. Not for other floors.
#pragma once
#include <map>
#include <string>

#include "capture/capture.hpp"

namespace concord {

inline constexpr const char* kLeafRule = "concord.leaf/1";

// Limits of a plan. They bound what a hostile header can make a reader do; real captures stay far below.
inline constexpr std::int64_t kMaxModelLayers = 4096, kMaxHidden = 1 << 20, kMaxTokens = 1 << 24, kMaxLeaves = 1 << 24;
inline constexpr std::size_t kMaxMetadataValues = 10'000;  // JSON values in `configuration` or `provenance`
inline constexpr std::size_t kMaxMetadataText = 4u << 20;  // bytes of any one metadata value

// Starts the hash of a data leaf; the chunk's bytes follow.
void begin_data_leaf(Hasher& hasher, std::uint32_t layer, std::uint32_t chunk, std::uint64_t bytes);

inline std::size_t row_bytes(const CaptureHeader& h) {
  return static_cast<std::size_t>(h.hidden) * dtype_bits(h.dtype) / 8;
}
inline std::size_t chunk_count(const CaptureHeader& h) {
  return (h.positions.size() + kChunkPositions - 1) / kChunkPositions;
}
// Rows of chunk `chunk`: kChunkPositions, fewer in the last one.
inline std::size_t chunk_rows(const CaptureHeader& h, std::size_t chunk) {
  return std::min<std::size_t>(kChunkPositions, h.positions.size() - chunk * kChunkPositions);
}
inline std::size_t leaf_count(const CaptureHeader& h) { return 1 + h.layers.size() * chunk_count(h); }
inline std::string state_name(std::int64_t layer) { return "hidden." + std::to_string(layer); }

// Sizes, layers, positions, prompt length, dtype. Errors: capture.bad_dtype, .bad_size, .bad_layers, .bad_positions,
// .bad_prompt. Token values are checked by check_tokens, because a writer learns them last (capture.bad_tokens).
Status check_plan(const CaptureHeader& header, const std::string& file);
Status check_tokens(const std::vector<std::int32_t>& tokens, const std::string& file);

// The metadata of a capture: a safetensors __metadata__ object, every value a string.
OrderedJson encode_metadata(const CaptureHeader& header, const Sha256& root);
struct DecodedMetadata {
  CaptureHeader header;  // without positions and tokens, which are tensors
  Sha256 root{};
  std::int64_t expected_tensors = 0;
};
// Errors: capture.schema_version, .missing_metadata, .bad_metadata, .bad_digest, .bad_json, .bad_dtype, .unknown_rule.
Result<DecodedMetadata> decode_metadata(const Json& metadata, const std::string& file);

}  // namespace concord
