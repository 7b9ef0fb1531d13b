#include "digest/weight_tree.hpp"

#include <gtest/gtest.h>
#include <tbb/global_control.h>

namespace concord {
namespace {

// The golden values come from Python:
//   h = lambda b: hashlib.sha256(b).digest()
//   def T(s): L = [h(s[i:i+4096]) for i in range(0, len(s), 4096)] or [h(b"")]; return L[0] if len(L) == 1 else
//   T(b"".join(L)) s = lambda n: bytes((i*i*31 + i*7 + (i >> 9)) & 255 for i in range(n)) W = lambda d, r, c, g, x, y,
//   z: h(b"concord-weight-tree/1\0" + struct.pack("<IQQII", d, r, c, g if d == 6 else 0, 1 if z else 0) + T(x) + T(y) +
//   T(z))
std::vector<std::byte> sample(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * i * 31 + i * 7 + (i >> 9));
  return bytes;
}

struct Golden {
  std::size_t bytes;
  const char* digest;
};

TEST(WeightTree, TreesMatchTheIndependentValues) {
  constexpr Golden kTrees[] = {
      {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
      {55, "40b13d903e319c0905fcc55d22ab849e3068f6a3b0ea624aad8003ddf9cf070d"},
      {56, "8530bd7129724d1f1eadf109e0faa2804dce39d7f1d3cea91678966bbdb428ea"},
      {63, "b29ceda3f8675c7a969e353a88649572e6233b773563c91fb9c6493eb6e8ab08"},
      {64, "6d7f5fdf1b36558350f0a4779d80a35271d416d87b2e57d1c8ba828d2e7d13ae"},
      {4095, "094a764eb2da8589a594695b70ed6efb40a2808063fd2f53431d8e17aeae1310"},
      {4096, "ffbb01be9aad9cf2b18ea85e899a96f8f77187ba9192449ac082724105497cc0"},
      {4097, "bf75ff6c6ea48d87845a172430dcb80985b3e8f299ce3a23879d9aef94763d02"},
      {8192, "14ab53be6973ec14ae853969da059757c4ede8b20d42b9d0a4005130c999aa5e"},
      {524288,
       "e8e26ac156d9431f68cc958ee968e4d1b6496ade52d47487123ea46e06ba38d3"},  // 128 blocks: their digests fill a block
      {524289, "e8dc66098f97f9b4cd6d67cd0a64a6f2361fe5e78b4934cb769e825afc01094e"},  // a third level
      {1228817, "dda9ad6ff568cab3b4fa41d3f1843315966a56eed52e89d14c07c29f5a1d2d7a"},
  };
  for (const Golden& g : kTrees) EXPECT_EQ(hex(tree_digest(sample(g.bytes))), g.digest) << g.bytes;
}

TEST(WeightTree, WeightsMatchTheIndependentValues) {
  const auto data = sample(14000);
  const std::span<const std::byte> s(data);
  EXPECT_EQ(hex(weight_tree_digest({0, 3, 5, 0, s.first(60), {}, {}})),
            "b9c62d16b91220879b20d7bc8b34c3725ed07237be1ec8ea2f5cca05df3d3aa8");
  EXPECT_EQ(hex(weight_tree_digest({2, 7, 1000, 0, s, {}, {}})),
            "caca8bb183e075c94440d304fd48207cd0d00119e87f6a0e7d61ec6e10741774");
  EXPECT_EQ(hex(weight_tree_digest({5, 9, 1025, 0, s.first(9225), s.first(36), {}})),
            "2094d1ac51f67e523b44c3b1915572085bf70f2b440096b5563d09a65e5a0aa7");
  EXPECT_EQ(hex(weight_tree_digest({6, 5, 77, 32, s.first(195), s.first(30), {}})),
            "e679b7520a85bd88e2352f4748b70baf3284bf57c716ca5298c4ec3bc972d146");
  EXPECT_EQ(hex(weight_tree_digest({6, 5, 77, 32, s.first(195), s.first(30), s.first(15)})),
            "abcf183c9340c35feb3393f1e0c67654081309c272a3a6ced6592bac09d8cc8e");
}

TEST(WeightTree, TheGroupCountsForInt4Alone) {
  const auto data = sample(60);
  EXPECT_EQ(weight_tree_digest({0, 3, 5, 0, data, {}, {}}), weight_tree_digest({0, 3, 5, 32, data, {}, {}}));
  EXPECT_NE(weight_tree_digest({6, 3, 40, 32, data, {}, {}}), weight_tree_digest({6, 3, 40, 64, data, {}, {}}));
}

TEST(WeightTree, EveryBlockCounts) {
  auto data = sample(140 * 4096);
  const Sha256 before = tree_digest(data);
  for (std::size_t block = 0; block < 140; block += 23) {
    data[block * 4096 + 4095] ^= std::byte{1};
    EXPECT_NE(tree_digest(data), before) << block;
    data[block * 4096 + 4095] ^= std::byte{1};
  }
  EXPECT_EQ(tree_digest(data), before);
}

TEST(WeightTree, TheNumberOfThreadsDoesNotMatter) {
  const auto data = sample(1'000'000);
  const Sha256 many = tree_digest(data);
  const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
  EXPECT_EQ(tree_digest(data), many);
}

}  // namespace
}  // namespace concord
