// The emulation finds what it is there to find: a barrier or a shuffle that not every thread reaches, memory that is read before it is written, a barrier that is missing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "gpu/block.hpp"
#include "gpu/numbers.hpp"

namespace CONCORD_GPU {

Error use_device(int i) { return width = i ? 64 : 32, kSuccess; }

namespace {

constexpr unsigned kThreads = 128;

GPU_KERNEL total(const int* x, int* y, unsigned n) {
  GPU_SHARED(int[32], room);
  int sum = 0;
  for (unsigned i = thread(); i < n; i += threads()) sum += x[block() * n + i];
  sum = block_reduce(sum, room, Plus{});
  if (thread() == 0) y[block()] = sum;
}
GPU_KERNEL reverse(const float* x, float* y, bool with_barrier) {
  GPU_SHARED(float[kThreads], row);
  row[thread()] = x[thread()];
  if (with_barrier) sync();
  y[thread()] = row[threads() - 1 - thread()];
}
GPU_KERNEL half_a_barrier() {
  if (thread() < threads() / 2) sync();
}
GPU_KERNEL barrier_against_shuffle() {
  if (warp() == 0)
    (void)exchange_xor(1, 1);
  else
    sync();
}
GPU_KERNEL half_a_shuffle(int* out) {
  if (lane() < 3) out[lane()] = exchange_xor(1, 1);
}
GPU_KERNEL foreign_lane(int* out) { out[thread()] = exchange_from(1, warp_width()); }
GPU_KERNEL unwritten(float* out) {
  GPU_SHARED(float[4], memory);
  GPU_DYNAMIC_SHARED(dynamic);
  if (thread() == 0) out[0] = memory[2], out[1] = bits_to_float(dynamic[0] * 0x01010101u);
  sync();
  if (thread() == 0) memory[2] = 1, dynamic[0] = 0;
}
GPU_KERNEL too_much_memory() {
  GPU_SHARED(float[30000], memory);
  memory[thread()] = 0;
}

struct InOrder : ::testing::TestWithParam<Order> {
  void SetUp() override { set_order(GetParam(), 7); }
  void TearDown() override { set_order(Order::kForward), use_device(0); }
};
INSTANTIATE_TEST_SUITE_P(Orders, InOrder, ::testing::Values(Order::kForward, Order::kBackward, Order::kShuffled));

TEST_P(InOrder, BlocksSumInWarpsOf32And64) {
  std::vector<int> x(3 * 1000);
  for (int i = 0; i < 3000; ++i) x[static_cast<std::size_t>(i)] = i;
  for (int gpu : {0, 1}) {
    use_device(gpu);
    std::vector<int> y(3);
    ASSERT_EQ(GPU_LAUNCH(total, 3, 1, kThreads, 0, nullptr, x.data(), y.data(), 1000u), kSuccess);
    for (int b = 0; b < 3; ++b) EXPECT_EQ(y[static_cast<std::size_t>(b)], 1000 * (1000 * b + 999 + 1000 * b) / 2);
  }
}

TEST_P(InOrder, ABarrierPublishes) {
  std::vector<float> x(kThreads), y(kThreads);
  for (unsigned i = 0; i < kThreads; ++i) x[i] = static_cast<float>(i);
  ASSERT_EQ(GPU_LAUNCH(reverse, 1, 1, kThreads, 0, nullptr, x.data(), y.data(), true), kSuccess);
  for (unsigned i = 0; i < kThreads; ++i) EXPECT_EQ(y[i], x[kThreads - 1 - i]);
}

// The same kernel without its barrier: in no order do all threads find what the others wrote.
TEST_P(InOrder, AMissingBarrierShows) {
  std::vector<float> x(kThreads, 1), y(kThreads);
  ASSERT_EQ(GPU_LAUNCH(reverse, 1, 1, kThreads, 0, nullptr, x.data(), y.data(), false), kSuccess);
  EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
}

TEST(Emulation, SharedMemoryBeginsAsNaNInEveryBlock) {
  float out[2];
  ASSERT_EQ(GPU_LAUNCH(unwritten, 5, 1, 32, 16, nullptr, out), kSuccess);
  EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
}

TEST(EmulationDeathTest, StopsWhereAGpuWouldHangOrGuess) {
  int out[64];
  EXPECT_DEATH((void)GPU_LAUNCH(half_a_barrier, 1, 1, 64, 0, nullptr), "half_a_barrier.*ended while other threads");
  EXPECT_DEATH((void)GPU_LAUNCH(barrier_against_shuffle, 1, 1, 64, 0, nullptr), "barrier_against_shuffle.*ended while other threads");
  EXPECT_DEATH((void)GPU_LAUNCH(half_a_shuffle, 1, 1, 32, 0, nullptr, out), "half_a_shuffle.*(ended|shuffle that not every lane)");
  EXPECT_DEATH((void)GPU_LAUNCH(foreign_lane, 1, 1, 32, 0, nullptr, out), "a lane that the warp does not have");
  EXPECT_DEATH((void)GPU_LAUNCH(too_much_memory, 1, 1, 32, 0, nullptr), "more shared memory");
}

TEST(Emulation, RefusesLaunchesThatNoGpuTakes) {
  int x[1] = {}, y[1] = {};
  EXPECT_EQ(GPU_LAUNCH(total, 1, 1, 48, 0, nullptr, x, y, 1u), Error::kLaunch);         // no whole number of warps
  EXPECT_EQ(GPU_LAUNCH(total, 1, 1, 2048, 0, nullptr, x, y, 1u), Error::kLaunch);       // too many threads
  EXPECT_EQ(GPU_LAUNCH(total, 0, 1, 32, 0, nullptr, x, y, 1u), Error::kLaunch);         // nothing
  EXPECT_EQ(GPU_LAUNCH(total, 1, 65536, 32, 0, nullptr, x, y, 1u), Error::kLaunch);     // too many blocks along y
  EXPECT_EQ(GPU_LAUNCH(total, 1, 1, 32, 200 << 10, nullptr, x, y, 1u), Error::kLaunch); // too much memory
}

}  // namespace
}  // namespace CONCORD_GPU
