#include "digest/weight_tree.hpp"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>

namespace concord {
namespace {

constexpr std::size_t kBlock = 4096, kDigest = sizeof(Sha256);
constexpr std::uint32_t kU4 = 6;  // CONCORD_U4; this floor does not know the ABI

// The digests of the blocks, one behind the other.
std::vector<std::byte> level_above(std::span<const std::byte> bytes) {
  std::vector<std::byte> level((bytes.size() + kBlock - 1) / kBlock * kDigest);
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, level.size() / kDigest, 64), [&](const auto& range) {
    Hasher hasher;
    for (std::size_t i = range.begin(); i < range.end(); ++i) {
      const Sha256 digest =
          hasher.update(bytes.subspan(i * kBlock, std::min(kBlock, bytes.size() - i * kBlock))).finish();
      std::copy(digest.begin(), digest.end(), level.begin() + static_cast<std::ptrdiff_t>(i * kDigest));
    }
  });
  return level;
}

}  // namespace

Sha256 tree_digest(std::span<const std::byte> bytes) {
  std::vector<std::byte> level;
  while (bytes.size() > kBlock) {
    level = level_above(bytes);
    bytes = level;
  }
  return sha256(bytes);
}

Sha256 weight_tree_digest(const WeightParts& weight) {
  Hasher hasher;
  hasher.update("concord-weight-tree/1").u8(0).u32(weight.dtype).u64(weight.rows).u64(weight.cols);
  hasher.u32(weight.dtype == kU4 ? weight.group : 0).u32(weight.zeros.empty() ? 0 : 1);
  for (const auto part : {weight.data, weight.scales, weight.zeros}) hasher.update(tree_digest(part));
  return hasher.finish();
}

}  // namespace concord
