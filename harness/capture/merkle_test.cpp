#include <gtest/gtest.h>

#include "base/text.hpp"
#include "capture/capture.hpp"

namespace concord {
namespace {

std::vector<Sha256> numbered_leaves(std::size_t n) {
  std::vector<Sha256> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(Hasher().u8(0).u32(static_cast<std::uint32_t>(i)).finish());
  return out;
}

TEST(Merkle, RootsMatchThoseOfCertificateTransparency) {
  // Inputs and roots of the RFC 6962 reference tests (google/certificate-transparency, merkle_tree_test); recomputed
  // with Python's hashlib.
  const char* inputs[] = {
      "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"};
  const char* roots[] = {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                         "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                         "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                         "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                         "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<Sha256> leaves;
  for (std::size_t i = 0; i < 8; ++i) {
    leaves.push_back(Hasher().u8(0).update(*from_hex(inputs[i])).finish());
    EXPECT_EQ(hex(merkle_root(leaves)), roots[i]) << i + 1 << " leaves";
  }
}

TEST(Merkle, LeavesMatchTheIndependentValues) {
  // Computed with Python: sha256(b"\0concord.context/1" + pack("<I", len(s)) + s for the three texts + bytes([10]) +
  // pack("<Q", 8) + pack("<Q", n) + pack("<nI", ...) for layers, positions, tokens), and sha256(b"\0concord.leaf/1" +
  // pack("<IIQ", 24, 1, 4) + b"\1\2\3\4").
  CaptureHeader h;
  for (int i = 0; i < 32; ++i) h.workload_digest += "ab";
  h.nonce = "0011";
  h.dtype = DType::kBF16;
  h.hidden = 8;
  h.layers = {0, 24};
  h.positions = {0, 3, 9};
  for (std::int32_t i = 50; i < 60; ++i) h.tokens.push_back(i);
  EXPECT_EQ(hex(context_leaf(h)), "2be3172a1807bab9953fd1d49fdb55f1f0eb529d784bc4583d598ce2975c77ae");
  EXPECT_EQ(hex(data_leaf(24, 1, *from_hex("01020304"))),
            "2f3c864a5db8b4e5e5c67eaf6cf392392958bf4ff07d813d39292d4e317f62f4");
}

TEST(Merkle, EveryFieldOfTheContextCounts) {
  CaptureHeader h;
  h.workload_digest = std::string(2, 'a');
  h.nonce = std::string(2, 'b');
  h.weights_digest = std::string(2, 'c');
  h.hidden = 4, h.layers = {1}, h.positions = {2}, h.tokens = {3, 4, 5};
  const Sha256 base = context_leaf(h);
  const auto changed = [&](auto change) {
    CaptureHeader other = h;
    change(other);
    return context_leaf(other) != base;
  };
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.workload_digest = "ab"; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.nonce = "bc"; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.weights_digest = "cd"; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.workload_digest = "aabb", o.nonce = ""; }));  // the frame holds
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.dtype = DType::kF16; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.hidden = 5; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.layers = {2}; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.positions = {1}; }));
  EXPECT_TRUE(changed([](CaptureHeader& o) { o.tokens = {3, 5, 4}; }));
  EXPECT_FALSE(changed([](CaptureHeader& o) { o.model = "informative"; }));
}

TEST(Merkle, EveryDataLeafKnowsItsPlace) {
  const std::vector<std::byte> bytes(8);
  const Sha256 leaf = data_leaf(1, 2, bytes);
  EXPECT_NE(data_leaf(2, 1, bytes), leaf);
  EXPECT_NE(data_leaf(1, 3, bytes), leaf);
  EXPECT_NE(data_leaf(1, 2, std::span(bytes).first(7)), leaf);
}

TEST(Merkle, ProofsOfAllSmallTreesHoldAndNoOtherIndexDoes) {
  for (std::size_t n = 1; n <= 17; ++n) {
    const auto leaves = numbered_leaves(n);
    const Sha256 root = merkle_root(leaves);
    for (std::size_t i = 0; i < n; ++i) {
      const auto proof = merkle_proof(leaves, i);
      EXPECT_TRUE(merkle_verify(leaves[i], i, n, proof, root)) << i << " of " << n;
      for (std::size_t other = 0; other <= n; ++other) {
        if (other != i) {
          EXPECT_FALSE(merkle_verify(leaves[i], other, n, proof, root)) << i << " as " << other << " of " << n;
        }
      }
    }
  }
}

TEST(Merkle, AnyTamperingFails) {
  for (std::size_t n = 2; n <= 17; ++n) {
    const auto leaves = numbered_leaves(n);
    const Sha256 root = merkle_root(leaves);
    for (std::size_t i = 0; i < n; ++i) {
      const auto proof = merkle_proof(leaves, i);
      for (std::size_t bit = 0; bit < 256; bit += 17) {
        const auto flip = [bit](Sha256 hash) {
          hash[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
          return hash;
        };
        EXPECT_FALSE(merkle_verify(flip(leaves[i]), i, n, proof, root));
        EXPECT_FALSE(merkle_verify(leaves[i], i, n, proof, flip(root)));
        auto changed = proof;
        changed[bit % proof.size()] = flip(changed[bit % proof.size()]);
        EXPECT_FALSE(merkle_verify(leaves[i], i, n, changed, root));
      }
      auto shorter = proof, longer = proof, front = proof;
      shorter.pop_back();
      longer.push_back(leaves[0]);
      front.erase(front.begin());
      EXPECT_FALSE(merkle_verify(leaves[i], i, n, shorter, root));
      EXPECT_FALSE(merkle_verify(leaves[i], i, n, longer, root));
      EXPECT_FALSE(merkle_verify(leaves[i], i, n, front, root));
    }
  }
}

TEST(Merkle, ReorderedOrMissingLeavesChangeTheRoot) {
  for (std::size_t n = 2; n <= 17; ++n) {
    const auto leaves = numbered_leaves(n);
    const Sha256 root = merkle_root(leaves);
    for (std::size_t i = 0; i + 1 < n; ++i) {
      auto swapped = leaves;
      std::swap(swapped[i], swapped[i + 1]);
      EXPECT_NE(merkle_root(swapped), root);
    }
    EXPECT_NE(merkle_root(std::span(leaves).first(n - 1)), root);
    auto repeated = leaves;  // the flaw of trees that copy an odd last leaf
    repeated.push_back(leaves.back());
    EXPECT_NE(merkle_root(repeated), root);
  }
}

TEST(Merkle, AnInnerNodeCannotPassForALeaf) {
  // Without the 00 / 01 prefixes, a tree of the two inner nodes of a four-leaf tree would have its root with half the
  // leaves.
  const auto leaves = numbered_leaves(4);
  const Sha256 left = Hasher().u8(1).update(leaves[0]).update(leaves[1]).finish();
  const Sha256 right = Hasher().u8(1).update(leaves[2]).update(leaves[3]).finish();
  ASSERT_EQ(merkle_root(std::vector{left, right}),
            merkle_root(leaves));  // so a forger needs a chunk whose leaf hash is `left` ...
  std::vector<std::byte> preimage;
  for (const Sha256& half : {leaves[0], leaves[1]}) preimage.insert(preimage.end(), half.begin(), half.end());
  EXPECT_NE(data_leaf(0, 0, preimage), left);                 // ... and the one preimage he knows does not give it,
  EXPECT_NE(Hasher().u8(0).update(preimage).finish(), left);  // because leaves start with 00.
}

}  // namespace
}  // namespace concord
