#include "gpu/staging.hpp"

#include <algorithm>
#include <new>

namespace CONCORD_GPU {

concord_status Staging::create(std::unique_ptr<Staging>& staging, concord_error* err) {
  staging.reset(new Staging);
  for (Block& b : staging->blocks_) {
    if (const auto s = status_of(allocate_host(&b.memory, kBlock), "page-locked memory", err); s != CONCORD_OK) return s;
    if (const auto s = status_of(create_event(&b.copied), "event", err); s != CONCORD_OK) return s;
  }
  return CONCORD_OK;
}

Staging::~Staging() {
  for (Block& b : blocks_) {
    if (b.copied) (void)wait_event(b.copied), (void)destroy_event(b.copied);
    if (b.memory) (void)release_host(b.memory);
  }
}

namespace {

// Bytes [at, at + n) of the padded layout.
void fill(std::byte* out, const std::byte* from, std::size_t at, std::size_t n, std::size_t row_bytes, std::size_t pitch) {
  if (pitch == row_bytes) {
    std::memcpy(out, from + at, n);
    return;
  }
  while (n > 0) {
    const std::size_t row = at / pitch, column = at % pitch, part = std::min(n, pitch - column);
    const std::size_t real = column < row_bytes ? std::min(part, row_bytes - column) : 0;
    if (real) std::memcpy(out, from + row * row_bytes + column, real);
    std::memset(out + real, 0, part - real);
    out += part, at += part, n -= part;
  }
}

}  // namespace

concord_status Staging::in(std::byte* to, const std::byte* from, std::size_t rows, std::size_t row_bytes, std::size_t pitch, Stream stream, concord_error* err) {
  const std::size_t total = rows * pitch;
  for (std::size_t at = 0; at < total;) {
    Block& b = blocks_[next_++ % 2];
    const std::size_t n = std::min(kBlock, total - at);
    if (const auto s = status_of(wait_event(b.copied), "waiting for an upload", err); s != CONCORD_OK) return s;
    fill(static_cast<std::byte*>(b.memory), from, at, n, row_bytes, pitch);
    if (const auto s = status_of(copy_in(to + at, b.memory, n, stream), "upload", err); s != CONCORD_OK) return s;
    if (const auto s = status_of(record(b.copied, stream), "upload", err); s != CONCORD_OK) return s;
    at += n;
  }
  return CONCORD_OK;
}

concord_status Staging::out(std::byte* to, const std::byte* from, std::size_t bytes, Stream stream, concord_error* err) {
  struct Pending {
    Block* block = nullptr;
    std::size_t at = 0, n = 0;
  } pending;
  const auto collect = [&]() -> concord_status {
    if (!pending.block) return CONCORD_OK;
    const auto s = status_of(wait_event(pending.block->copied), "download", err);
    if (s == CONCORD_OK) std::memcpy(to + pending.at, pending.block->memory, pending.n);
    return s;
  };
  for (std::size_t at = 0; at < bytes;) {
    Block& b = blocks_[next_++ % 2];
    const std::size_t n = std::min(kBlock, bytes - at);
    if (const auto s = status_of(wait_event(b.copied), "waiting for a copy", err); s != CONCORD_OK) return s;
    if (const auto s = status_of(copy_out(b.memory, from + at, n, stream), "download", err); s != CONCORD_OK) return s;
    if (const auto s = status_of(record(b.copied, stream), "download", err); s != CONCORD_OK) return s;
    if (const auto s = collect(); s != CONCORD_OK) return s;
    pending = {&b, at, n};
    at += n;
  }
  return collect();
}

}  // namespace CONCORD_GPU
