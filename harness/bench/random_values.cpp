#include "bench/random_values.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>

#include "base/rng.hpp"

namespace concord::bench {
namespace {

constexpr std::size_t kPerBlock = 8, kChunk = 4096;  // values of one Philox block; made at once

std::array<float, kPerBlock> eight(std::uint64_t seed, std::uint32_t stream, std::uint64_t block, Uniform u) {
  const auto words = philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), stream, 0},
                                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  std::array<float, kPerBlock> out;
  for (std::size_t i = 0; i < kPerBlock; ++i) {
    const std::uint32_t w = words[i / 2] >> (16 * (i % 2)) & 0xffff;
    out[i] = u.middle + static_cast<float>(2 * static_cast<std::int32_t>(w) + 1 - 65536) * 0x1p-16f * u.width;
  }
  return out;
}

}  // namespace

void fill_uniform(DType dtype, std::uint64_t seed, std::uint32_t stream, Uniform values, std::span<std::byte> out) {
  const std::size_t width = dtype_bits(dtype) / 8, count = out.size() / width;
  tbb::parallel_for(std::size_t{0}, (count + kChunk - 1) / kChunk, [&](std::size_t chunk) {
    const std::size_t first = chunk * kChunk, n = std::min(kChunk, count - first);
    std::array<float, kChunk> made;
    for (std::size_t at = 0; at < n; at += kPerBlock)
      std::ranges::copy(eight(seed, stream, (first + at) / kPerBlock, values),
                        made.begin() + static_cast<std::ptrdiff_t>(at));
    convert_floats(DType::kF32, reinterpret_cast<const std::byte*>(made.data()), dtype, out.data() + first * width, n);
  });
}

}  // namespace concord::bench
