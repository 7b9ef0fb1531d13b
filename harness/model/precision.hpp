// The precisions one run uses: weights, activations, KV cache. Part of a configuration's identity.
#pragma once
#include <string>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "model/quantize.hpp"

namespace concord {

// Text form: WEIGHTS[/ACTIVATIONS[/KV]], for example "bf16", "int4-g128-sym/bf16", "f32/f32/f16", "f32/f64" (reference only).
// The cache may be int8 besides, one scale per head and row (concord_backend.h). Activations default to the weights' type (bf16 under integer weights), the KV cache to the activations' type.
struct RunPrecision {
  WeightPrecision weights;
  DType activations = DType::kF32;  // storage between operators; arithmetic is float32 (float64 with kF64)
  DType kv_cache = DType::kF32;

  std::string name() const;  // canonical: all three parts
  static Result<RunPrecision> parse(const std::string& text);
  // What hidden states are captured in: the activations' type, float32 for float64 activations.
  DType capture_dtype() const { return activations == DType::kF64 ? DType::kF32 : activations; }
  // What matrices that are never quantised (embedding, lm_head) and their arithmetic use: the weights' type where it is a float type, else the
  // activations' type (float32 for float64 activations).
  WeightPrecision unquantized() const;
};

std::string float_name(DType dtype);  // "f32"

}  // namespace concord
