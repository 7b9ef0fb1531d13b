#include "capture/statistics.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace concord {

LayerStatistics layer_statistics(const Capture& capture, std::int64_t layer) {
  const std::span<const std::byte> states = capture.states(layer);
  const DType dtype = capture.header().dtype;
  const auto hidden = static_cast<std::size_t>(capture.header().hidden);
  LayerStatistics out;
  out.layer = layer;
  out.elements = states.size() * 8 / dtype_bits(dtype);
  double sum = 0, squares = 0;
  std::uint64_t finite = 0;
  for (std::size_t row = 0; row < out.elements / hidden; ++row) {
    double row_squares = 0;
    std::uint64_t row_finite = 0;
    for (std::size_t i = row * hidden; i < (row + 1) * hidden; ++i) {
      const double v = load_as_f64(dtype, states.data(), i);
      out.nan += std::isnan(v);
      out.inf += std::isinf(v);
      if (!std::isfinite(v)) continue;
      ++row_finite;
      out.zeros += v == 0;
      sum += v;
      row_squares += v * v;
      out.max_abs = std::max(out.max_abs, std::fabs(v));
    }
    finite += row_finite;
    squares += row_squares;
    out.row_rms.push_back(row_finite ? std::sqrt(row_squares / static_cast<double>(row_finite)) : 0);
  }
  if (finite) {
    out.rms = std::sqrt(squares / static_cast<double>(finite));
    out.mean = sum / static_cast<double>(finite);
  }
  return out;
}

std::vector<LayerStatistics> all_layer_statistics(const Capture& capture) {
  const auto& layers = capture.header().layers;
  std::vector<LayerStatistics> out(layers.size());
  // One layer is summed by one thread, so their number cannot show.
  tbb::parallel_for(std::size_t{0}, layers.size(),
                    [&](std::size_t i) { out[i] = layer_statistics(capture, layers[i]); });
  return out;
}

std::string sparkline(const std::vector<double>& values, std::size_t width) {
  static constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (values.empty() || width == 0) return {};
  const std::size_t columns = std::min(width, values.size());
  std::vector<double> heights(columns);
  for (std::size_t c = 0; c < columns; ++c)
    heights[c] = *std::max_element(values.begin() + static_cast<std::ptrdiff_t>(c * values.size() / columns),
                                   values.begin() + static_cast<std::ptrdiff_t>((c + 1) * values.size() / columns));
  const auto [low, high] = std::ranges::minmax(heights);
  std::string out;
  for (const double h : heights) {
    // Halved before subtracting: the full range of doubles must not overflow.
    const double share = high > low ? (h / 2 - low / 2) / (high / 2 - low / 2) : 0;
    out += kBlocks[std::min<std::size_t>(7, static_cast<std::size_t>(share * 8))];
  }
  return out;
}

}  // namespace concord
