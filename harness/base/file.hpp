// Files: mapped for reading, written whole or not at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace concord {

// A read-only private mapping of a regular file. Movable; unmapped by the destructor.
// Errors: file.not_found, file.not_regular (directory, FIFO, device), file.open, file.map.
// The size is taken once, from the open descriptor. A file that another process shortens afterwards can still raise SIGBUS.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::filesystem::path path_;
};

// The whole of a text file of at most `limit` bytes. Errors as MappedFile's, and file.too_large.
Result<std::string> read_text(const std::filesystem::path& path, std::size_t limit = 64u << 20);

// Writes to PATH.tmp.<pid>, then fsync and rename on commit(); an uncommitted file is removed by the destructor.
// Errors: file.create, file.write (full disk, with the bytes wanted), file.commit.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  Status append(std::span<const std::byte> data);
  Status append(std::string_view text) { return append(std::as_bytes(std::span(text.data(), text.size()))); }
  Status write_at(std::uint64_t offset, std::span<const std::byte> data);
  Status commit();

 private:
  AtomicFile() = default;
  int fd_ = -1;
  std::filesystem::path path_, temporary_;
};

// write_atomically = create + append + commit.
Status write_atomically(const std::filesystem::path& path, std::string_view text);

// Appends one line to a journal and syncs it, so that a crash loses at most the line being written.
Status append_line(const std::filesystem::path& path, std::string_view line);

}  // namespace concord
