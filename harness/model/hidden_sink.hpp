// Who receives the hidden states that a decoder computes.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "base/error.hpp"

namespace concord {

// Room for the states of one layer at positions first_position + r, r < rows: rows * hidden elements of the
// activations' dtype.
struct HiddenBlock {
  std::int64_t first_position = 0, rows = 0;
  std::span<std::byte> bytes;
};

// Receives the hidden states of one step while the model runs. `layer` follows Hugging Face: 0 is the embedding output,
// i the residual stream after layer i, the last one (spec.layers) is after the final norm. The sink hands out the
// memory, so that states are copied once, from where the device left them to where they are needed: open() gives the
// next part of the step that is wanted (rows 0: no more of this layer), submit() follows when it is filled. Where a
// device copies beside its work, that is while the next layer runs, or at the end of the step.
struct HiddenSink {
  std::function<bool(std::int64_t layer)> wants;
  std::function<Result<HiddenBlock>(std::int64_t layer, std::int64_t first_position, std::int64_t rows)> open;
  std::function<Status(std::int64_t layer, const HiddenBlock& block)> submit;
  // First position and number of rows of the least run that holds everything open() will ask for; may be empty: all of
  // them.
  std::function<std::pair<std::int64_t, std::int64_t>(std::int64_t first_position, std::int64_t rows)> part = {};
};

}  // namespace concord
