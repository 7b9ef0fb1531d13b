// Round-to-nearest weight quantisation: int8 per output channel, int4 per group, symmetric and asymmetric. Pure functions of the float weights.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "abi/concord_backend.h"
#include "base/dtype.hpp"
#include "base/error.hpp"

namespace concord {

// The precision that weights run in. Names: "f32", "f16", "bf16", "int8", "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym".
struct WeightPrecision {
  enum class Kind { kF32, kF16, kBF16, kInt8, kInt4 };
  Kind kind = Kind::kF32;
  std::int64_t group = 0;   // int4: 32 or 128
  bool symmetric = true;    // int4
  std::string name() const;
  static Result<WeightPrecision> parse(const std::string& name);  // precision.unknown lists the valid names
};

// A matrix in its running precision, ready for concord_weight_desc. Formulas in docs/quantisation.md.
//   int8:          scale = max|row| / 127 (f32), q = clamp(rne(w / scale), -127, 127)
//   int4 sym:      scale = f16(max|group| / 7), q = clamp(rne(w / scale) + 8, 1, 15)
//   int4 asym:     scale = f16((max - min) / 15) over the group with 0 included, zero = clamp(rne(-min / scale), 0, 15), q = clamp(rne(w / scale) + zero, 0, 15)
// A group of zeros has scale 0 and q = zero point (8; 0 where asymmetric). The last group of a row may be shorter. All arithmetic is float64, rounded
// once when a scale is stored, so that the result is one and the same everywhere, for any number of threads.
struct QuantizedMatrix {
  WeightPrecision precision;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::byte> data, scales;
  std::vector<std::uint8_t> zeros;  // empty: symmetric
  concord_weight_desc desc(concord_dtype activation) const;  // points into this object
  // rows * cols values, as a backend must see them: exact, but for int8, where q * scale is rounded once to float32.
  void dequantize(std::span<float> out) const;
};
// Errors: quantize.not_finite when a weight is NaN or infinite (names the row and column), quantize.scale_overflow when an int4 scale exceeds f16,
// quantize.overflow when a weight exceeds what f16, bf16 or int8 can give back; of several, the one in the lowest row.
Result<QuantizedMatrix> quantize(std::span<const float> weights, std::int64_t rows, std::int64_t cols, const WeightPrecision& precision);

// Gives rows [begin, end) of the weights as float32. Called from several threads.
using RowSource = std::function<Status(std::int64_t begin, std::int64_t end, float* out)>;
// The same from rows that are decoded a few at a time, so that the whole matrix never stands in memory as floats unless it runs as such.
// `storage`: a matrix that is no longer needed and whose memory is used again. Errors: those above, and the source's own.
Result<QuantizedMatrix> quantize(const RowSource& source, std::int64_t rows, std::int64_t cols, const WeightPrecision& precision,
                                 QuantizedMatrix storage = {});

// True when no element of a float array (F32, F16, BF16) is NaN or infinite.
bool all_finite(DType dtype, std::span<const std::byte> data);

}  // namespace concord
