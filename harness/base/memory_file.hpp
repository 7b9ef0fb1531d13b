// Memory that two processes share: an anonymous file that one of them creates and the other maps through an inherited
// descriptor.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/error.hpp"

namespace concord {

// The owner's side. Grows only, until release(). Pages are reserved when it grows, so that a lack of memory is an error
// here and no SIGBUS later. Errors: memory.create, memory.reserve, memory.map (kIo).
class MemoryFile {
 public:
  static Result<MemoryFile> create(const char* name);
  MemoryFile(MemoryFile&& other) noexcept { *this = std::move(other); }
  MemoryFile& operator=(MemoryFile&& other) noexcept;
  ~MemoryFile();

  Status grow(std::uint64_t bytes);
  void release();  // gives the memory back when the file is large; its contents are lost
  std::span<std::byte> first(std::uint64_t bytes) const { return {data_, bytes}; }
  int fd() const { return fd_; }
  int read_only_fd() const { return read_only_fd_; }  // maps of it cannot be made writable

 private:
  MemoryFile() = default;
  int fd_ = -1, read_only_fd_ = -1;
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
};

// The other side: the first `bytes` of a memory file, while this object lives. Errors: memory.map (also when the file
// is shorter).
class MemoryView {
 public:
  static Result<MemoryView> map(int fd, std::uint64_t bytes, bool writable);
  MemoryView(MemoryView&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  MemoryView& operator=(MemoryView&&) = delete;
  ~MemoryView();
  std::span<const std::byte> bytes() const { return {data_, data_ ? size_ : 0}; }
  std::span<std::byte> writable() const { return {data_, data_ ? size_ : 0}; }  // only where it was mapped so

 private:
  MemoryView() = default;
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
};

}  // namespace concord
