// Internal to this floor: from bytes to tensor tables. Nothing here opens a file, so a fuzzer can call it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.hpp"

namespace concord {

// What one file holds. Tensors are in the file's own order; every [offset, offset + bytes) lies inside the bytes
// parsed.
struct ParsedFile {
  std::vector<TensorInfo> tensors;
  Json metadata = Json::object();
  std::string format;
};

// Limits that keep memory and time in proportion, whatever a header claims. docs/checkpoints.md lists them.
namespace checkpoint_limits {
inline constexpr std::uint64_t kSafetensorsHeader = 100'000'000;  // [bytes], as the safetensors library
inline constexpr std::size_t kTensors = 1'000'000;                // per file
inline constexpr std::size_t kMetadataEntries = 1'000'000;
inline constexpr std::size_t kNameBytes = 4096;
inline constexpr std::size_t kRank = 32;
inline constexpr std::size_t kShards = 10'000;
inline constexpr std::size_t kIndexBytes = 256u << 20;        // a shard index
inline constexpr std::size_t kGgufValues = 16'777'216;        // metadata values, array elements included
inline constexpr std::size_t kGgufKeyBytes = 65'535;          // from the specification
inline constexpr std::uint64_t kGgufStringBytes = 64u << 20;  // one metadata string
inline constexpr std::size_t kGgufNameBytes = 63;             // GGML_MAX_NAME without the terminating zero
inline constexpr std::uint32_t kGgufAlignment = 1u << 20;
}  // namespace checkpoint_limits

// `file` only names the bytes in errors. Error codes: docs/checkpoints.md.
Result<ParsedFile> parse_safetensors(std::span<const std::byte> bytes, const std::string& file);
Result<ParsedFile> parse_gguf(std::span<const std::byte> bytes, const std::string& file);
// Either of them, by content. Shard indices are not files of tensors and are refused here (checkpoint.unknown_format).
Result<ParsedFile> parse_model_file(std::span<const std::byte> bytes, const std::string& file);

// What the first bytes say a file is.
enum class Content { kSafetensors, kGguf, kShardIndex };
// Errors checkpoint.empty_file, .lfs_pointer, .html, .pickle, .old_ggml, .unknown_format.
Result<Content> detect_content(std::span<const std::byte> bytes, const std::string& file);

// One shard index, checked as far as that is possible without the shards.
struct ShardIndex {
  std::vector<std::string> shards;                                // distinct file names, sorted
  std::vector<std::pair<std::string, std::uint32_t>> weight_map;  // tensor name -> shard; sorted by name
  std::optional<std::uint64_t> total_size;                        // [bytes]
};
Result<ShardIndex> parse_shard_index(std::span<const std::byte> bytes, const std::string& file);

// Index and shards against each other. `tensors` is what the shards hold, in name order; TensorInfo::file is the
// position in index.shards.
Status check_index(const ShardIndex& index, std::span<const TensorInfo> tensors, const std::string& index_file);

// Products and sums of extents from outside; empty on overflow.
inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r = 0;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}
inline std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}
// Elements of a shape without negative extents. A zero extent gives 0, but the product of the others must still fit in
// int64, in whatever order they come, so that nobody who multiplies them later can overflow.
std::optional<std::uint64_t> checked_elements(std::span<const std::int64_t> shape);

}  // namespace concord
