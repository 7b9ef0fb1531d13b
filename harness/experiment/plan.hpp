// The capture plan: which hidden states and which token positions a run keeps.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord {

struct CapturePlan {
  // Hidden-state indices: "default" (0, 8, 16, ..., the last residual stream and the final-norm output), "all", "every:K" (with the last two), or a
  // list "0,4,12".
  std::string layers = "default";
  // Token positions: "generated" (the last prompt token and every generated token that is fed back: the positions whose states produce the generated
  // tokens), "all", "every:K", "last:K", or a list "3,7,9".
  std::string positions = "generated";

  // Errors: plan.bad_layers, plan.bad_positions (with what the model or workload has). Results are ascending and unique.
  Result<std::vector<std::int64_t>> resolve_layers(std::int64_t model_layers) const;
  // A sequence of prompt + new_tokens tokens has states at positions 0 .. prompt + new_tokens - 2: the last token is never fed back.
  Result<std::vector<std::int32_t>> resolve_positions(std::int64_t prompt, std::int64_t new_tokens) const;
};

}  // namespace concord
