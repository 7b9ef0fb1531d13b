// Rows of a weight as doubles, exactly, read from its description. Internal; a second reading of the format beside the
// one that devices share (abi/concord_host.hpp).
#pragma once
#include "abi/concord_float.hpp"

namespace concord::conformance {

inline void weight_values(const concord_weight_desc& d, std::size_t row, double* out) {
  const auto cols = static_cast<std::size_t>(d.cols);
  const auto* data = static_cast<const std::byte*>(d.data);
  const auto* scales = static_cast<const std::byte*>(d.scales);
  if (concord_abi::is_float(d.dtype))
    return concord_abi::load_f64(d.dtype, data + row * cols * concord_abi::dtype_bytes(d.dtype), cols, out);
  if (d.dtype == CONCORD_I8) {
    const double scale = concord_abi::load_as<float>(scales, row);
    for (std::size_t c = 0; c < cols; ++c) out[c] = scale * concord_abi::load_as<std::int8_t>(data, row * cols + c);
    return;
  }
  const std::size_t stride = (cols + 1) / 2, groups = (cols + d.group - 1) / d.group;
  for (std::size_t g = 0; g < groups; ++g) {
    double scale = 0;
    concord_abi::load_f64(CONCORD_F16, scales + (row * groups + g) * 2, 1, &scale);
    const double zero = d.zeros ? d.zeros[row * groups + g] : 8;
    for (std::size_t c = g * d.group; c < cols && c < (g + 1) * d.group; ++c) {
      const auto two = std::to_integer<unsigned>(data[row * stride + c / 2]);
      out[c] = scale * ((c % 2 ? two / 16 : two % 16) - zero);
    }
  }
}

}  // namespace concord::conformance
