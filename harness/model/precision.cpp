#include "model/precision.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>
#include <vector>

namespace concord {
namespace {

constexpr std::array<std::pair<const char*, DType>, 5> kNames{
    {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"f64", DType::kF64}, {"int8", DType::kI8}}};

// Activations are floats; a cache may be int8 besides.
Result<DType> named_dtype(const std::string& name, bool cache) {
  for (const auto& [text, dtype] : kNames)
    if (name == text && (cache || dtype != DType::kI8)) return dtype;
  return fail(ErrorKind::kUsage, "precision.unknown",
              fmt::format("\"{}\" is not one of f32, f16, bf16, f64{}", name, cache ? ", int8" : ""));
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts{""};
  for (char c : text)
    if (c == separator) parts.emplace_back();
    else parts.back() += c;
  return parts;
}

}  // namespace

std::string float_name(DType dtype) {
  for (const auto& [text, d] : kNames)
    if (d == dtype) return text;
  return std::string(dtype_name(dtype));
}

std::string RunPrecision::name() const {
  return weights.name() + "/" + float_name(activations) + "/" + float_name(kv_cache);
}

Result<RunPrecision> RunPrecision::parse(const std::string& text) {
  const auto parts = split(text, '/');
  if (parts.size() > 3)
    return fail(ErrorKind::kUsage, "precision.unknown",
                fmt::format("\"{}\": expected WEIGHTS[/ACTIVATIONS[/KV]], for example int4-g128-sym/bf16", text));
  RunPrecision p;
  CONCORD_TRY(p.weights, WeightPrecision::parse(parts[0]));
  const bool integer = p.weights.kind == WeightPrecision::Kind::kInt8 || p.weights.kind == WeightPrecision::Kind::kInt4;
  CONCORD_TRY(p.activations, named_dtype(parts.size() > 1 ? parts[1] : integer ? "bf16" : parts[0], false));
  CONCORD_TRY(p.kv_cache, named_dtype(parts.size() > 2 ? parts[2] : float_name(p.activations), true));
  return p;
}

WeightPrecision RunPrecision::unquantized() const {
  using Kind = WeightPrecision::Kind;
  if (weights.kind != Kind::kInt8 && weights.kind != Kind::kInt4) return weights;
  if (activations == DType::kF16) return {.kind = Kind::kF16};
  if (activations == DType::kBF16) return {.kind = Kind::kBF16};
  return {.kind = Kind::kF32};
}

}  // namespace concord
