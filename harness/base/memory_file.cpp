#include "base/memory_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace concord {
namespace {

constexpr std::uint64_t kKept = std::uint64_t{256} << 20;  // a file up to this size is kept for the next use [bytes]

std::unexpected<Error> memory_error(std::string_view code, std::string_view what, int number) {
  return fail(ErrorKind::kIo, code, fmt::format("{}: {}", what, std::strerror(number)));
}

}  // namespace

Result<MemoryFile> MemoryFile::create(const char* name) {
  MemoryFile file;
  file.fd_ = ::memfd_create(name, MFD_CLOEXEC);
  if (file.fd_ < 0) return memory_error("memory.create", "cannot create a memory file", errno);
  file.read_only_fd_ = ::open(fmt::format("/proc/self/fd/{}", file.fd_).c_str(), O_RDONLY | O_CLOEXEC);
  if (file.read_only_fd_ < 0)
    return memory_error("memory.create", "cannot open a memory file for reading alone", errno);
  return file;
}

MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(read_only_fd_, other.read_only_fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MemoryFile::~MemoryFile() {
  if (data_) ::munmap(data_, size_);
  for (const int fd : {fd_, read_only_fd_})
    if (fd >= 0) ::close(fd);
}

Status MemoryFile::grow(std::uint64_t bytes) {
  if (bytes <= size_) return {};
  int code;
  do code = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  while (code == EINTR);
  if (code != 0) return memory_error("memory.reserve", fmt::format("cannot reserve {} bytes", bytes), code);
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (p == MAP_FAILED) return memory_error("memory.map", fmt::format("cannot map {} bytes", bytes), errno);
  if (data_) ::munmap(data_, size_);
  data_ = static_cast<std::byte*>(p);
  size_ = bytes;
  return {};
}

void MemoryFile::release() {
  if (size_ <= kKept) return;
  ::munmap(std::exchange(data_, nullptr), std::exchange(size_, 0));
  if (::ftruncate(fd_, 0) != 0) return;  // the pages stay reserved, which is wasteful and nothing worse
}

Result<MemoryView> MemoryView::map(int fd, std::uint64_t bytes, bool writable) {
  MemoryView view;
  view.size_ = bytes;
  if (bytes == 0) return view;
  struct stat st{};
  if (::fstat(fd, &st) != 0) return memory_error("memory.map", "cannot examine a memory file", errno);
  if (static_cast<std::uint64_t>(st.st_size) < bytes)
    return fail(ErrorKind::kIo, "memory.map",
                fmt::format("a memory file of {} bytes is asked for {}", st.st_size, bytes));
  void* p = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return memory_error("memory.map", fmt::format("cannot map {} bytes", bytes), errno);
  view.data_ = static_cast<std::byte*>(p);
  return view;
}

MemoryView::~MemoryView() {
  if (data_) ::munmap(data_, size_);
}

}  // namespace concord
