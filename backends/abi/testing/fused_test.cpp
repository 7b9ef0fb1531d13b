// Operators in one call against the same operators one by one, on the device under test: equal bits.
#include "bench.hpp"

namespace concord::testing {
namespace {

class Fused : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Dtypes, Fused, ::testing::ValuesIn(activation_dtypes()),
                         [](const auto& p) { return std::string(dtype_name(p.param)); });

// With z a matmul has the bits of the matmul and the operator behind it, one by one; z may be the output.
TEST_P(Fused, MatmulWithZIsTheTwoOperators) {
  constexpr std::int64_t n = 100, k = 70;
  for (const std::int64_t tokens : {1, 9})
    for (const std::uint32_t flag : {CONCORD_PLUS, CONCORD_GATED}) {
      Bench device(subject());
      const HostWeight w = make_weight(kWeightForms[2], n, k, dtype(), 13);
      const Values z = noise(14, Bench::count({tokens, n}), 3);
      concord_call plain = make_call(CONCORD_OP_MATMUL);
      plain.in[0] = device.put(dtype(), {tokens, k}, noise(15, Bench::count({tokens, k})));
      plain.in[1] = device.put(DType::kF32, {n}, noise(16, n)), plain.weight = device.weight(w.desc);
      plain.out[0] = device.room(dtype(), {tokens, n}), plain.n_in = 2, plain.n_out = 1;
      concord_call fused = plain, second = make_call(flag == CONCORD_PLUS ? CONCORD_OP_ADD : CONCORD_OP_SWIGLU);
      second.in[0] = device.put(dtype(), {tokens, n}, z), second.in[1] = plain.out[0], second.n_in = 2, second.n_out = 1;
      second.out[0] = device.room(dtype(), {tokens, n});
      fused.in[2] = device.put(dtype(), {tokens, n}, z), fused.n_in = 3, fused.flags = flag, fused.out[0] = fused.in[2];
      ASSERT_TRUE(device.run(plain).has_value());
      ASSERT_TRUE(device.run(second).has_value());
      const Status s = device.run(fused);
      ASSERT_TRUE(s.has_value()) << s.error().to_string();
      EXPECT_EQ(device.bits(fused.out[0]), device.bits(second.out[0])) << tokens << " tokens, flag " << flag;
    }
}

}  // namespace
}  // namespace concord::testing
