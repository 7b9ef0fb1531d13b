// What the states of one hidden-state index look like: enough to see NaN, saturation or a dead layer at a glance.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "capture/capture.hpp"

namespace concord {

struct LayerStatistics {
  std::int64_t layer = 0;
  double rms = 0, mean = 0, max_abs = 0;  // over the finite elements, accumulated in double; 0 where there is none
  std::uint64_t elements = 0, nan = 0, inf = 0, zeros = 0;
  std::vector<double> row_rms;  // per captured position, over its finite elements
};
LayerStatistics layer_statistics(const Capture& capture, std::int64_t layer);
std::vector<LayerStatistics> all_layer_statistics(const Capture& capture);  // in order of layer; layers in parallel

// Eight heights of block characters from the smallest value to the largest, at most `width` columns (each the maximum
// of its values); equal values give the lowest block. Values are finite.
std::string sparkline(const std::vector<double>& values, std::size_t width);

}  // namespace concord
