#include "bench/cost.hpp"

#include <algorithm>

#include "base/tensor.hpp"

namespace concord::bench {

std::uint64_t matrix_bytes(std::int64_t rows, std::int64_t cols, const WeightPrecision& precision) {
  const auto r = static_cast<std::uint64_t>(rows), c = static_cast<std::uint64_t>(cols);
  switch (precision.kind) {
    case WeightPrecision::Kind::kF32:
      return r * c * 4;
    case WeightPrecision::Kind::kF16:
    case WeightPrecision::Kind::kBF16:
      return r * c * 2;
    case WeightPrecision::Kind::kInt8:
      return r * c + r * 4;  // one f32 scale a row
    case WeightPrecision::Kind::kInt4:
      break;
  }
  const auto group = static_cast<std::uint64_t>(precision.group), groups = (c + group - 1) / group;
  return r * ((c + 1) / 2 + groups * (precision.symmetric ? 2 : 3));  // an f16 scale, and a zero point where asymmetric
}

ModelCost ModelCost::of(const ModelSpec& spec, const RunPrecision& precision) {
  ModelCost out;
  for (const ExpectedTensor& t : expected_tensors(spec)) {
    const double count = static_cast<double>(element_count(t.shape));
    if (t.name == "model.embed_tokens.weight" || t.name == "lm_head.weight") continue;
    if (!t.matrix) {
      out.block_bytes += static_cast<std::uint64_t>(count) * 4;  // gains and biases run as f32
      continue;
    }
    out.block_parameters += count;
    out.block_bytes += matrix_bytes(t.shape[0], t.shape[1], precision.weights);
  }
  out.head_parameters = static_cast<double>(spec.vocab) * static_cast<double>(spec.hidden);
  out.head_bytes = matrix_bytes(spec.vocab, spec.hidden, precision.unquantized());
  out.attention_per_pair = 4.0 * static_cast<double>(spec.layers * spec.heads * spec.head_dim);
  out.kv_bytes_per_position =
      2.0 * static_cast<double>(spec.layers * spec.kv_heads * spec.head_dim) * dtype_bits(precision.kv_cache) / 8;
  return out;
}

namespace {
// Sum of (p + 1) over the positions [first, first + tokens).
double pairs(std::int64_t first, std::int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  return n * static_cast<double>(first) + n * (n + 1) / 2;
}
}  // namespace

double ModelCost::attention_flops(std::int64_t first, std::int64_t tokens) const {
  return attention_per_pair * pairs(first, tokens);
}

double ModelCost::decode_bytes(std::int64_t first, std::int64_t tokens) const {
  return static_cast<double>(block_bytes + head_bytes) * static_cast<double>(tokens) +
         kv_bytes_per_position * pairs(first, tokens);
}

double ModelCost::prefill_bytes(std::int64_t tokens, std::int64_t step) const {
  double out = static_cast<double>(head_bytes);
  for (std::int64_t done = 0; done < tokens;) {
    done += std::min(step, tokens - done);
    out += static_cast<double>(block_bytes) + kv_bytes_per_position * static_cast<double>(done);
  }
  return out;
}

}  // namespace concord::bench
