// How much arithmetic and memory traffic a model needs, from its specification and precision alone. Formulas:
// docs/performance.md.
#pragma once
#include <cstdint>

#include "model/precision.hpp"
#include "model/spec.hpp"

namespace concord::bench {

// Bytes of a matrix in a running precision, scales and zero points included.
std::uint64_t matrix_bytes(std::int64_t rows, std::int64_t cols, const WeightPrecision& precision);

struct ModelCost {
  double block_parameters = 0;    // weights of the linear layers inside the blocks
  double head_parameters = 0;     // vocab * hidden
  std::uint64_t block_bytes = 0;  // of these linear layers and of all gains and biases, as they run
  std::uint64_t head_bytes = 0;   // of lm_head, as it runs
  double attention_per_pair =
      0;  // floating-point operations of one query position against one key position, all layers
  double kv_bytes_per_position = 0;  // keys and values of one position, all layers

  static ModelCost of(const ModelSpec& spec, const RunPrecision& precision);

  // Two operations per weight and token; lm_head for the rows whose logits are computed only.
  double matmul_flops(double tokens, double logit_rows) const {
    return 2 * (block_parameters * tokens + head_parameters * logit_rows);
  }
  // Causal attention of the positions [first, first + tokens): scores and weighted sum.
  double attention_flops(std::int64_t first, std::int64_t tokens) const;
  // Least traffic of `tokens` decode steps from position `first`: each reads every weight once and the keys and values
  // of all positions up to its own.
  double decode_bytes(std::int64_t first, std::int64_t tokens) const;
  // Least traffic of a prefill of positions [0, tokens) in steps of `step`: each step reads the block weights once and
  // all keys and values so far once; lm_head is read once at the end.
  double prefill_bytes(std::int64_t tokens, std::int64_t step) const;
};

}  // namespace concord::bench
