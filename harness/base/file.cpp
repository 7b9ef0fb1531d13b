#include "base/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace concord {
namespace {

std::unexpected<Error> io_error(std::string_view code, const std::filesystem::path& path, std::string_view what) {
  return fail(ErrorKind::kIo, code, fmt::format("{}: {}", what, std::strerror(errno)), path.string());
}

Result<int> open_regular(const std::filesystem::path& path, std::size_t& size) {
  // O_NONBLOCK: opening a FIFO must not hang; it is refused below.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return io_error(errno == ENOENT ? "file.not_found" : "file.open", path, "cannot open for reading");
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return bad_input("file.not_regular", "expected a regular file, found a directory, FIFO or device", path.string());
  }
  size = static_cast<std::size_t>(st.st_size);
  return fd;
}

Status write_all(int fd, std::span<const std::byte> data, const std::filesystem::path& path, std::int64_t offset) {
  while (!data.empty()) {
    const ssize_t n = offset < 0 ? ::write(fd, data.data(), data.size()) : ::pwrite(fd, data.data(), data.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error("file.write", path, fmt::format("cannot write {} more bytes", data.size()));
    data = data.subspan(static_cast<std::size_t>(n));
    if (offset >= 0) offset += n;
  }
  return {};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  MappedFile file;
  file.path_ = path;
  CONCORD_TRY(const int fd, open_regular(path, file.size_));
  if (file.size_ > 0) {
    void* p = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      auto error = io_error("file.map", path, "cannot map");
      ::close(fd);
      file.size_ = 0;
      return error;
    }
    file.data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> read_text(const std::filesystem::path& path, std::size_t limit) {
  CONCORD_TRY(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  if (bytes.size() > limit)
    return bad_input("file.too_large", fmt::format("expected at most {} bytes, found {}", limit, bytes.size()), path.string());
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path.string() + fmt::format(".tmp.{}", ::getpid());
  file.fd_ = ::open(file.temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) return io_error("file.create", path, "cannot create");
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), temporary_(std::move(other.temporary_)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Status AtomicFile::append(std::span<const std::byte> data) { return write_all(fd_, data, path_, -1); }

Status AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> data) {
  return write_all(fd_, data, path_, static_cast<std::int64_t>(offset));
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return io_error("file.commit", path_, "cannot sync");
  if (::close(std::exchange(fd_, -1)) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    auto error = io_error("file.commit", path_, "cannot rename the finished temporary file");
    ::unlink(temporary_.c_str());
    return error;
  }
  return {};
}

Status write_atomically(const std::filesystem::path& path, std::string_view text) {
  CONCORD_TRY(AtomicFile file, AtomicFile::create(path));
  CONCORD_CHECK(file.append(text));
  return file.commit();
}

Status append_line(const std::filesystem::path& path, std::string_view line) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return io_error("file.create", path, "cannot open for appending");
  const std::string text = std::string(line) + "\n";  // one write call, so that lines of two writers do not mix
  Status status = write_all(fd, std::as_bytes(std::span(text.data(), text.size())), path, -1);
  if (status && ::fsync(fd) != 0) status = io_error("file.commit", path, "cannot sync");
  ::close(fd);
  return status;
}

}  // namespace concord
