// The digest of a weight as a device holds it: a tree of SHA-256, so that a GPU can compute it in parallel.
// docs/weight-digest.md.
#pragma once
#include "digest/digest.hpp"

namespace concord {

// A weight in the bytes of concord_weight_desc (backends/abi/concord_backend.h); what it does not have is empty.
struct WeightParts {
  std::uint32_t dtype = 0;  // concord_dtype
  std::uint64_t rows = 0, cols = 0;
  std::uint32_t group = 0;  // counts for U4 alone
  std::span<const std::byte> data, scales, zeros;
};

// T(s) of the document, the blocks spread over the threads of oneTBB; the same for any number of them.
Sha256 tree_digest(std::span<const std::byte> bytes);
Sha256 weight_tree_digest(const WeightParts& weight);

}  // namespace concord
