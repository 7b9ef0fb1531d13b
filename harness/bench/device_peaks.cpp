#include "bench/device_peaks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <ranges>
#include <string_view>
#include <vector>

#include "bench/random_values.hpp"
#include "bench/stopwatch.hpp"

namespace concord::bench {
namespace {

constexpr int kRuns = 3;                  // the best of so many batches
constexpr double kBatchSeconds = 0.05;    // a batch lasts about so long, so that its start and end do not count
constexpr double kMostSeconds = 0.1;      // no size is tried whose call is expected to take longer
constexpr std::int64_t kMostCalls = 256;  // in a batch
constexpr std::uint64_t kSeed = 1;
constexpr Uniform kValues{0, 0.5};

// Sides of the weight; the input has half as many rows.
constexpr std::int64_t kSides[] = {64, 128, 256, 512, 1024, 2048, 4096, 8192};
constexpr std::int64_t kSideGrowth = 8;  // of the operations, from one to the next
// Bytes of each of the three tensors. The largest is far beyond any cache.
constexpr std::uint64_t kCopyBytes[] = {std::uint64_t{1} << 16, std::uint64_t{1} << 19, std::uint64_t{1} << 22,
                                        std::uint64_t{1} << 25, std::uint64_t{1} << 28, std::uint64_t{1} << 30};
constexpr std::uint64_t kCopyGrowth = 8;
constexpr std::int64_t kCopyColumns = 4096;
constexpr std::size_t kUpload = std::size_t{64} << 20;

// Seconds of one call: the best batch's time over its calls.
Result<double> time_call(Device& device, const concord_call& call) {
  const auto batch = [&](std::int64_t calls) -> Result<double> {
    const Stopwatch watch;
    for (std::int64_t i = 0; i < calls; ++i) CONCORD_CHECK(device.run(call));
    CONCORD_CHECK(device.synchronize());
    return watch.seconds() / static_cast<double>(calls);
  };
  CONCORD_CHECK(batch(1));  // the first call may prepare something
  CONCORD_TRY(double best, batch(1));
  const auto calls =
      static_cast<std::int64_t>(std::clamp(kBatchSeconds / std::max(best, 1e-9), 1.0, static_cast<double>(kMostCalls)));
  for (int i = 0; i < kRuns; ++i) {
    CONCORD_TRY(const double seconds, batch(calls));
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

Result<Buffer> random_buffer(Device& device, DType dtype, std::uint64_t bytes, std::uint32_t stream) {
  CONCORD_TRY(Buffer buffer, device.allocate(bytes));
  std::vector<std::byte> host(std::min<std::uint64_t>(bytes, kUpload));
  fill_uniform(dtype, kSeed, stream, kValues, host);
  for (std::uint64_t at = 0; at < bytes; at += host.size())
    CONCORD_CHECK(device.upload(buffer, at, std::span(host).first(std::min<std::uint64_t>(host.size(), bytes - at))));
  CONCORD_CHECK(device.synchronize());
  return buffer;
}

Result<double> matmul_seconds(Device& device, DType dtype, std::int64_t rows, std::int64_t side) {
  const std::uint64_t width = dtype_bits(dtype) / 8;
  const auto bytes = [&](std::int64_t r) { return static_cast<std::uint64_t>(r * side) * width; };
  CONCORD_TRY(const Buffer x, random_buffer(device, dtype, bytes(rows), 0));
  CONCORD_TRY(const Buffer y, device.allocate(bytes(rows)));
  std::vector<std::byte> host(bytes(side));
  fill_uniform(dtype, kSeed, 1, kValues, host);
  concord_weight_desc desc{};
  desc.struct_size = sizeof desc, desc.dtype = to_abi(dtype), desc.rows = side, desc.cols = side;
  desc.data = host.data(), desc.activation_dtype = to_abi(dtype);
  CONCORD_TRY(const Weight weight, device.create_weight(desc));
  concord_call call = make_call(CONCORD_OP_MATMUL);
  call.n_in = 1, call.n_out = 1, call.weight = weight.get();
  call.in[0] = tensor_of(dtype, {rows, side}, x), call.out[0] = tensor_of(dtype, {rows, side}, y);
  return time_call(device, call);
}

Result<double> add_seconds(Device& device, DType dtype, std::uint64_t bytes) {
  CONCORD_TRY(const Buffer a, random_buffer(device, dtype, bytes, 0));
  CONCORD_TRY(const Buffer b, random_buffer(device, dtype, bytes, 1));
  CONCORD_TRY(const Buffer y, device.allocate(bytes));
  const auto rows = static_cast<std::int64_t>(bytes / (dtype_bits(dtype) / 8)) / kCopyColumns;
  concord_call call = make_call(CONCORD_OP_ADD);
  call.n_in = 2, call.n_out = 1;
  call.in[0] = tensor_of(dtype, {rows, kCopyColumns}, a), call.in[1] = tensor_of(dtype, {rows, kCopyColumns}, b);
  call.out[0] = tensor_of(dtype, {rows, kCopyColumns}, y);
  return time_call(device, call);
}

// Tries one size after the other and keeps the last that there was memory for: small ones do not fill a device.
template <class Size>
Status climb(std::span<const Size> sizes, double growth, const std::function<Result<double>(Size)>& time,
             const std::function<void(Size, double)>& keep) {
  bool any = false;
  for (const Size size : sizes) {
    const Result<double> seconds = time(size);
    if (!seconds && any && seconds.error().code == "device.out_of_memory") return {};
    if (!seconds) return std::unexpected(seconds.error());
    keep(size, *seconds);
    any = true;
    if (*seconds * growth > kMostSeconds) return {};
  }
  return {};
}

}  // namespace

bool has_own_memory(const DeviceFacts& facts) {
  for (const auto part : std::views::split(std::string_view(facts.features), ',')) {
    std::string_view name(part.begin(), part.end());
    while (name.starts_with(' ')) name.remove_prefix(1);
    if (name == "device-memory") return true;
  }
  return false;
}

Result<Peaks> measure_device_peaks(Device& device, DType dtype) {
  Peaks p{.arithmetic = {}, .threads = std::max(1u, device.threads()), .device = device.facts().id};
  CONCORD_CHECK(climb<std::int64_t>(
      kSides, static_cast<double>(kSideGrowth),
      [&](std::int64_t side) { return matmul_seconds(device, dtype, side / 2, side); },
      [&](std::int64_t side, double seconds) {
        const auto n = static_cast<double>(side);
        p.flops = n * n * n / seconds;  // two operations for each of n/2 * n * n products
        p.matmul = fmt::format("matmul [{0}, {1}] x [{1}, {1}] {2}", side / 2, side, dtype_name(dtype));
      }));
  CONCORD_CHECK(climb<std::uint64_t>(
      kCopyBytes, static_cast<double>(kCopyGrowth),
      [&](std::uint64_t bytes) { return add_seconds(device, dtype, bytes); },
      [&](std::uint64_t bytes, double seconds) {
        p.read = 3 * static_cast<double>(bytes) / seconds;
        p.read_bytes = 3 * bytes;
        p.copy = fmt::format("add {}, two reads and one write of {} MiB each", dtype_name(dtype),
                             static_cast<double>(bytes) / 1048576.0);
      }));
  return p;
}

}  // namespace concord::bench
