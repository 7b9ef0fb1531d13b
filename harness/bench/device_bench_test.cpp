// Rates of a device through the C ABI, on a device made here whose speed is known from above: it does nothing until
// somebody waits for it. And models made from a shape and a seed. No speed is asserted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/rng.hpp"
#include "bench/device_peaks.hpp"
#include "bench/random_values.hpp"
#include "bench/shaped_model.hpp"
#include "bench/synthetic.hpp"
#include "model/loaded_model.hpp"

struct concord_device {
  double owed = 0;  // seconds of work that run() left behind
};
struct concord_buffer {
  std::vector<std::byte> data;
};
struct concord_weight {
  std::int64_t rows, cols;
};

namespace concord::bench {
namespace {

using ::testing::HasSubstr;

constexpr double kFlops = 2e9, kBytes = 1e9;       // per second: what nobody can measure more than
constexpr std::uint64_t kLargest = 600u << 10;     // a larger buffer is out of memory
std::uint64_t waits = 0, held = 0, most_held = 0;  // synchronize() calls; bytes of buffers
bool constant_operand = false, refuses_all = false;

bool is_constant(const concord_tensor& t) {
  const auto& d = t.buffer->data;
  return std::ranges::all_of(d, [&](std::byte b) { return b == d[0]; });
}

concord_status run_late(concord_device* d, concord_stream*, const concord_call* call, concord_witness* w,
                        concord_error*) {
  const auto n = static_cast<double>(call->out[0].dims[0] * call->out[0].dims[1]);
  const bool matmul = call->op == CONCORD_OP_MATMUL;
  for (std::uint32_t i = 0; i < call->n_in; ++i) constant_operand |= is_constant(call->in[i]);
  d->owed += matmul ? 2 * n * static_cast<double>(call->weight->cols) / kFlops : 3 * 2 * n / kBytes;
  std::snprintf(w->kernel, sizeof w->kernel, "%s: late", matmul ? "matmul" : "add");
  return CONCORD_OK;
}

concord_status make_buffer(concord_device*, std::uint64_t bytes, concord_buffer** b, concord_error*) {
  if (bytes > kLargest || refuses_all) return CONCORD_OUT_OF_MEMORY;
  most_held = std::max(most_held, held += bytes);
  return *b = new concord_buffer{std::vector<std::byte>(bytes)}, CONCORD_OK;
}

concord_backend make_table() {
  concord_backend t{};
  t.struct_size = sizeof t, t.abi_major = CONCORD_ABI_MAJOR, t.abi_minor = CONCORD_ABI_MINOR;
  t.name = "late", t.version = "1", t.build = "test";
  t.device_count = [] { return 1u; };
  t.device_info = [](std::uint32_t, concord_device_info* info, concord_error*) {
    std::snprintf(info->id, sizeof info->id, "late");
    std::snprintf(info->features, sizeof info->features, "device-memory");
    return info->available = 1, CONCORD_OK;
  };
  t.device_open = [](std::uint32_t, const concord_open_options*, concord_device** d, concord_error*) {
    return *d = new concord_device, CONCORD_OK;
  };
  t.device_close = [](concord_device* d) { delete d; };
  t.buffer_create = make_buffer;
  t.buffer_destroy = [](concord_device*, concord_buffer* b) { held -= b->data.size(), delete b; };
  t.upload = [](concord_device*, concord_stream*, concord_buffer* b, std::uint64_t at, const void* host,
                std::uint64_t n, concord_error*) { return std::memcpy(b->data.data() + at, host, n), CONCORD_OK; };
  t.download = [](concord_device*, concord_stream*, const concord_buffer*, std::uint64_t, void*, std::uint64_t,
                  concord_error*) { return CONCORD_UNSUPPORTED; };
  t.weight_create = [](concord_device*, const concord_weight_desc* d, concord_weight** w, concord_error*) {
    return *w = new concord_weight{d->rows, d->cols}, CONCORD_OK;
  };
  t.weight_destroy = [](concord_device*, concord_weight* w) { delete w; };
  t.supports = [](concord_device*, const concord_call*, concord_error*) { return CONCORD_OK; };
  t.run = run_late;
  t.stream_create = [](concord_device*, concord_stream**, concord_error*) { return CONCORD_UNSUPPORTED; };
  t.stream_destroy = [](concord_device*, concord_stream*) {};
  t.synchronize = [](concord_device* d, concord_stream*, concord_error*) {
    std::this_thread::sleep_for(std::chrono::duration<double>(std::exchange(d->owed, 0)));
    return ++waits, CONCORD_OK;
  };
  return t;
}
const concord_backend kLate = make_table();

TEST(DevicePeaks, WaitForTheDeviceAndKeepTheLargestSizeThereIsMemoryFor) {
  waits = held = most_held = 0, constant_operand = refuses_all = false;
  auto device = Backends::builtin(kLate).open("late");
  ASSERT_TRUE(device) << device.error().to_string();
  ASSERT_TRUE(has_own_memory(device->facts()));
  const auto p = measure_device_peaks(*device, DType::kBF16);
  ASSERT_TRUE(p) << p.error().to_string();
  EXPECT_GT(p->flops, 0);
  EXPECT_LE(p->flops, kFlops);  // more could only be measured by not waiting
  EXPECT_GT(p->read, 0);
  EXPECT_LE(p->read, kBytes);
  EXPECT_EQ(p->device, "late");
  EXPECT_EQ(p->matmul,
            "matmul [256, 512] x [512, 512] BF16");  // the next one would take more than a tenth of a second
  EXPECT_THAT(p->copy,
              HasSubstr("add BF16, two reads and one write of 0.5 MiB each"));  // the next one is out of memory
  EXPECT_FALSE(constant_operand);
  EXPECT_GT(waits, 8u);
  EXPECT_EQ(held, 0u) << "memory was kept";
}

TEST(DevicePeaks, FailWhereThereIsNoMemoryAtAll) {
  refuses_all = true;
  auto device = Backends::builtin(kLate).open("late");
  ASSERT_TRUE(device);
  const auto p = measure_device_peaks(*device, DType::kF32);
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().code, "device.out_of_memory");
}

TEST(DevicePeaks, TheFeatureIsAWholeName) {
  const auto with = [](const char* features) {
    DeviceFacts f;
    f.features = features;
    return has_own_memory(f);
  };
  EXPECT_TRUE(with("device-memory"));
  EXPECT_TRUE(with("tf32, device-memory"));
  EXPECT_TRUE(with("device-memory,tf32"));
  EXPECT_FALSE(with(""));
  EXPECT_FALSE(with("no-device-memory"));
  EXPECT_FALSE(with("device-memory-2"));
}

TEST(RandomValues, AreTheFormulaWhereverTheyBegin) {
  constexpr std::size_t kCount = 10001;  // neither whole blocks nor whole chunks
  std::vector<float> all(kCount), some(100);
  fill_uniform(DType::kF32, 7, 3, {0.5f, 2}, std::as_writable_bytes(std::span(all)));
  fill_uniform(DType::kF32, 7, 3, {0.5f, 2}, std::as_writable_bytes(std::span(some)));
  EXPECT_TRUE(std::ranges::equal(some, std::span(all).first(100)));
  double sum = 0;
  for (std::size_t k = 0; k < kCount; ++k) {
    const auto words = philox4x32({static_cast<std::uint32_t>(k / 8), 0, 3, 0}, {7, 0});
    const double w = words[k % 8 / 2] >> (k % 2 == 1 ? 16 : 0) & 0xffff;
    const double exact = 0.5 + (2 * w + 1 - 65536) / 65536 * 2;
    ASSERT_EQ(all[k], static_cast<float>(exact)) << k;  // every step but the last is exact in float32 too
    sum += exact;
  }
  // Standard deviation of the mean of uniform numbers of width 4: 4 / sqrt(12 n).
  EXPECT_NEAR(sum / kCount, 0.5, 5 * 4 / std::sqrt(12.0 * kCount));
}

TEST(ShapedModel, IsTheSameInMemoryAndAsAFile) {
  const auto made = ShapedModel::make("concord-byte-3m", 5);
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(made->name(), "concord-byte-3m, random bf16, seed 5");
  EXPECT_EQ(made->spec().architecture, "qwen2");
  EXPECT_TRUE(made->spec().qkv_bias && made->spec().tied_embeddings);
  auto folder = TemporaryFolder::create();
  ASSERT_TRUE(folder);
  const Status written = made->write(folder->path() / "model");
  ASSERT_TRUE(written) << written.error().to_string();
  const auto file = Checkpoint::open(folder->path() / "model");
  ASSERT_TRUE(file) << file.error().to_string();
  const auto spec = spec_from_path(folder->path() / "model", **file);
  ASSERT_TRUE(spec) << spec.error().to_string();
  EXPECT_EQ(spec->parameters(), made->spec().parameters());
  EXPECT_EQ(source_digest(**file), source_digest(made->checkpoint()));
  const auto other = ShapedModel::make("concord-byte-3m", 6);
  ASSERT_TRUE(other);
  EXPECT_NE(source_digest(other->checkpoint()), source_digest(made->checkpoint()));
}

TEST(ShapedModel, RefusesWhatItCannotMake) {
  const auto unknown = ShapedModel::make("nobody-1b", 1);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, "bench.unknown_shape");
  EXPECT_THAT(unknown.error().message, HasSubstr("qwen2.5-7b"));
  const auto experts = ShapedModel::make("qwen3-30b-a3b", 1);
  ASSERT_FALSE(experts);
  EXPECT_EQ(experts.error().code, "bench.unsupported_shape");
}

}  // namespace
}  // namespace concord::bench
