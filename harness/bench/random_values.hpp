// Random numbers in any float dtype, the same on every host and with any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.hpp"

namespace concord::bench {

// Uniform in [middle - width, middle + width].
struct Uniform {
  float middle = 0, width = 1;
};

// Fills `out` with elements of F32, F16 or BF16. Element k takes the 16-bit word w number k % 8 of Philox block k / 8
// of `stream` and is middle + (2 w + 1 - 65536) / 65536 * width, in float32, rounded once to the dtype.
void fill_uniform(DType dtype, std::uint64_t seed, std::uint32_t stream, Uniform values, std::span<std::byte> out);

}  // namespace concord::bench
