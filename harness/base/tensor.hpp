// A tensor as a view: dtype, shape and the bytes, owned by somebody else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"

namespace concord {

using Shape = std::vector<std::int64_t>;  // row-major, slowest axis first; empty means a scalar

inline std::int64_t element_count(std::span<const std::int64_t> shape) {  // caller has checked for overflow
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return n;
}
std::string shape_string(std::span<const std::int64_t> shape);  // "[2, 3]"

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // row-major, little-endian; size is exactly what dtype and shape ask for
};

}  // namespace concord
