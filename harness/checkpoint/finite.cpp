#include "checkpoint/finite.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.hpp"

namespace concord {

Status check_finite(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const std::uint64_t block = checkpoint.block_size(tensor);
  const std::uint64_t step = std::max<std::uint64_t>(1, 8192 / block) * block;
  std::vector<float> values(std::min(step, tensor.elements));
  for (std::uint64_t begin = 0; begin < tensor.elements; begin += step) {
    const std::uint64_t count = std::min(step, tensor.elements - begin);
    CONCORD_CHECK(checkpoint.read_f32(tensor, begin, count, values.data()));
    const auto end = values.begin() + static_cast<std::ptrdiff_t>(count);
    const auto bad = std::find_if(values.begin(), end, [](float v) { return !std::isfinite(v); });
    if (bad == end) continue;
    const std::uint64_t index = begin + static_cast<std::uint64_t>(bad - values.begin());
    const std::uint64_t block_bytes = tensor.bytes / (tensor.elements / block);
    return bad_input(
        "checkpoint.not_finite",
        fmt::format("element {} of tensor \"{}\" ({}) is {}", index, printable(tensor.name), tensor.type, *bad),
        checkpoint.files()[tensor.file], tensor.offset + index / block * block_bytes);
  }
  return {};
}

}  // namespace concord
