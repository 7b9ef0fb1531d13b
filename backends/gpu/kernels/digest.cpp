// The digest of a weight as it lies in device memory: docs/weight-digest.md. A thread hashes a block of 4096 bytes, a
// kernel a level of the tree; the host hashes the last 146 bytes.
#include "gpu/device.hpp"
#include "gpu/sha256.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kThreads = 64, kBlock = 4096, kDigest = 32;

std::uint64_t blocks_of(std::uint64_t count) { return count ? (count + kBlock - 1) / kBlock : 1; }

GPU_KERNEL GPU_BOUNDS(kThreads) hash_blocks(ByteRows s, std::uint64_t count, std::byte* digests) {
  const std::uint64_t index = std::uint64_t{block()} * kThreads + thread(), first = index * kBlock;
  if (index >= count) return;
  const auto bytes = static_cast<std::uint32_t>(s.count - first < kBlock ? s.count - first : kBlock);
  sha256_of(s, first, bytes, digests + index * kDigest);
}

Error hash_level(const ByteRows& s, std::byte* digests, Stream stream) {
  const std::uint64_t count = blocks_of(s.count);
  return GPU_LAUNCH(hash_blocks, ceil_div(count, kThreads), 1, kThreads, 0, stream, s, count, digests);
}

// T(s) -> `to`. `levels`: memory for the digests of the first two levels, one behind the other; each further level
// takes the place of the one before the last.
Error hash_tree(ByteRows s, std::byte* levels, std::byte* to, Stream stream) {
  std::byte* place[2] = {levels, levels + blocks_of(s.count) * kDigest};
  for (unsigned level = 0; blocks_of(s.count) > 1; ++level) {
    std::byte* digests = place[level % 2];
    if (const Error e = hash_level(s, digests, stream); e != kSuccess) return e;
    const std::uint64_t bytes = blocks_of(s.count) * kDigest;
    s = {digests, bytes, bytes, bytes};
  }
  return hash_level(s, to, stream);
}

class Text {
 public:
  void number(std::uint64_t v, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) text_[size_++] = static_cast<std::byte>(v >> (8 * i));
  }
  void add(const void* from, std::size_t bytes) {
    std::memcpy(text_ + size_, from, bytes), size_ += static_cast<std::uint32_t>(bytes);
  }
  void digest(std::byte* to) const { sha256_of({text_, size_, 1, 1}, 0, size_, to); }

 private:
  alignas(16) std::byte text_[192] = {};
  std::uint32_t size_ = 0;
};

}  // namespace

concord_status weight_digest(concord_device& d, const concord_weight& w, std::uint8_t digest[32], concord_error* err) {
  const auto rows = static_cast<std::uint64_t>(w.rows), groups = static_cast<std::uint64_t>(w.groups);
  const std::uint64_t data = rows * w.row_bytes,
                      scales = w.dtype == CONCORD_I8   ? rows * 4
                               : w.dtype == CONCORD_U4 ? rows * groups * 2
                                                       : 0,
                      zeros = w.zeros ? rows * groups : 0;
  const ByteRows parts[3] = {{w.data, data, w.row_bytes, w.pitch},
                             {w.scales, scales, 1, 1},
                             {reinterpret_cast<const std::byte*>(w.zeros), zeros, 1, 1}};
  const std::uint64_t largest = blocks_of(data > scales ? data : scales),
                      room = (largest + blocks_of(largest * kDigest)) * kDigest;
  void* memory = nullptr;
  if (const auto s = scratch(d, kSlotPartial, room + 3 * kDigest, d.stream, &memory, err); s != CONCORD_OK) return s;
  auto* levels = static_cast<std::byte*>(memory);
  Error e = kSuccess;
  for (unsigned i = 0; i < 3 && e == kSuccess; ++i)
    e = hash_tree(parts[i], levels, levels + room + i * kDigest, d.stream);
  std::byte trees[3 * kDigest];
  if (e == kSuccess) e = copy_out(trees, levels + room, sizeof trees, d.stream);
  if (e == kSuccess) e = wait_stream(d.stream);
  if (e != kSuccess) return status_of(e, "weight_digest", err);
  Text text;
  text.add("concord-weight-tree/1", 22);
  text.number(w.dtype, 4), text.number(rows, 8), text.number(static_cast<std::uint64_t>(w.cols), 8);
  text.number(w.dtype == CONCORD_U4 ? w.group : 0, 4), text.number(w.zeros ? 1 : 0, 4);
  text.add(trees, sizeof trees);
  text.digest(reinterpret_cast<std::byte*>(digest));
  return CONCORD_OK;
}

}  // namespace CONCORD_GPU
