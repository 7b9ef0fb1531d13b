// The Merkle tree over the leaves of a capture: RFC 6962, section 2.1 (tree and paths), RFC 9162, section 2.1.3.2
// (checking a path).
#include <bit>
#include <cassert>

#include "capture/capture.hpp"
#include "capture/format.hpp"

namespace concord {
namespace {

Sha256 node(const Sha256& left, const Sha256& right) { return Hasher().u8(1).update(left).update(right).finish(); }

// The largest power of two smaller than n, for n >= 2.
std::size_t split(std::size_t n) { return std::bit_floor(n - 1); }

template <class T>
void put_list(Hasher& hasher, const std::vector<T>& values) {
  hasher.u64(values.size());
  for (const T v : values) hasher.u32(static_cast<std::uint32_t>(v));
}

void put_text(Hasher& hasher, const std::string& text) {
  hasher.u32(static_cast<std::uint32_t>(text.size())).update(text);
}

}  // namespace

Sha256 context_leaf(const CaptureHeader& header) {
  Hasher hasher;
  hasher.u8(0).update("concord.context/1");
  put_text(hasher, header.workload_digest);
  put_text(hasher, header.nonce);
  put_text(hasher, header.weights_digest);
  hasher.u8(static_cast<std::uint8_t>(header.dtype)).u64(static_cast<std::uint64_t>(header.hidden));
  put_list(hasher, header.layers);
  put_list(hasher, header.positions);
  put_list(hasher, header.tokens);
  return hasher.finish();
}

void begin_data_leaf(Hasher& hasher, std::uint32_t layer, std::uint32_t chunk, std::uint64_t bytes) {
  hasher.u8(0).update(kLeafRule).u32(layer).u32(chunk).u64(bytes);
}

Sha256 data_leaf(std::uint32_t layer, std::uint32_t chunk, std::span<const std::byte> bytes) {
  Hasher hasher;
  begin_data_leaf(hasher, layer, chunk, bytes.size());
  return hasher.update(bytes).finish();
}

Sha256 merkle_root(std::span<const Sha256> leaves) {
  assert(!leaves.empty());
  if (leaves.size() == 1) return leaves[0];
  const std::size_t k = split(leaves.size());
  return node(merkle_root(leaves.first(k)), merkle_root(leaves.subspan(k)));
}

std::vector<Sha256> merkle_proof(std::span<const Sha256> leaves, std::size_t index) {
  assert(index < leaves.size());
  if (leaves.size() == 1) return {};
  const std::size_t k = split(leaves.size());
  const bool left = index < k;
  auto proof = left ? merkle_proof(leaves.first(k), index) : merkle_proof(leaves.subspan(k), index - k);
  proof.push_back(merkle_root(left ? leaves.subspan(k) : leaves.first(k)));
  return proof;
}

bool merkle_verify(const Sha256& leaf, std::size_t index, std::size_t leaf_count, std::span<const Sha256> proof,
                   const Sha256& root) {
  if (index >= leaf_count) return false;
  std::size_t at = index, last = leaf_count - 1;  // of the current level: our node, and its rightmost node
  Sha256 hash = leaf;
  for (const Sha256& sibling : proof) {
    if (last == 0) return false;  // the proof is longer than the tree is high
    if ((at & 1) || at == last) {
      hash = node(sibling, hash);
      while (!(at & 1) && at != 0) at >>= 1, last >>= 1;  // a rightmost node without a sibling moves up unchanged
    } else {
      hash = node(hash, sibling);
    }
    at >>= 1;
    last >>= 1;
  }
  return last == 0 && hash == root;
}

}  // namespace concord
