// Internal to this floor: the one implementation of Checkpoint, over mapped files or bytes that somebody else keeps.
#pragma once
#include <sys/stat.h>

#include "base/file.hpp"
#include "checkpoint/parse.hpp"

namespace concord {

class MappedCheckpoint final : public Checkpoint {
 public:
  // One file. `paths` empty: the bytes do not come from a file.
  static Result<std::unique_ptr<Checkpoint>> open_file(const std::filesystem::path& path);
  static std::unique_ptr<MappedCheckpoint> over(std::span<const std::byte> bytes, ParsedFile parsed,
                                                const std::string& name);
  // All shards of an index that was read from `index_path`.
  static Result<std::unique_ptr<Checkpoint>> open_shards(const ShardIndex& index,
                                                         const std::filesystem::path& index_path);

  std::string format() const override { return format_; }
  std::span<const std::byte> raw(const TensorInfo& tensor) const override;
  Status read_f32(const TensorInfo& tensor, std::uint64_t begin, std::uint64_t count, float* out) const override;
  std::uint64_t block_size(const TensorInfo& tensor) const override;
  void release(const TensorInfo& tensor) const override;
  Status unchanged() const override;

 private:
  // What a file looked like when it was mapped.
  struct Stamp {
    std::uint64_t device, inode, size;
    std::int64_t seconds, nanoseconds;
    bool operator==(const Stamp&) const = default;
  };
  static Result<Stamp> stamp(const std::string& path);
  Status map(const std::filesystem::path& path);
  void sort_tensors();

  std::string format_;
  std::vector<MappedFile> maps_;
  std::vector<Stamp> stamps_;                      // one per map
  std::vector<std::span<const std::byte>> bytes_;  // one per file
};

}  // namespace concord
