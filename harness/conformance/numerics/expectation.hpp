// What a case's outputs must be: the oracle's values and, per element, how far a correct device may be from them.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "conformance/numerics/problem.hpp"

namespace concord::conformance {

// What a device declares about its arithmetic, from the feature names of docs/operators.md. Features may enter a bound, names of devices and vendors never.
struct MathMode {
  bool weights_bf16 = false;        // "weights-bf16": F32 and F16 weights are rounded to BF16 before they are multiplied
  bool products_flushed = false;    // "products-flushed": products and sums below the smallest normal F32 number may become zero
  bool tf32 = false;                // "tf32": activations and weights are cut to 10 bits of mantissa (19 of 32)
  std::string name() const;         // "f32" or the features, joined by "+"
  static MathMode from_features(std::string_view features);
  auto operator<=>(const MathMode&) const = default;
};

enum class Judged {
  kBits,    // every byte equal (copies, caches, quantised rows)
  kExact,   // equal after the oracle's value is rounded to the output's dtype (threshold 0; -0 equals +0)
  kBound,   // |got - want| <= bound, element by element
  kIndex,   // integers equal
  kChoice,  // top-k, sampling: distinct indices whose logits (scores) are within `gap` of the oracle's choice
};

// One output. `want` is not rounded to the output's dtype, except for kBits; the bounds hold the rounding on store.
struct ExpectedOutput {
  std::string name;
  std::uint32_t dtype = CONCORD_F32;
  std::vector<std::int64_t> dims;
  Judged judged = Judged::kBound;
  std::vector<std::byte> bits;            // kBits
  std::vector<double> want;               // all others
  std::vector<double> rigorous, probable; // kBound; [element]
  std::vector<double> keys, gap;          // kChoice: keys [rows, E] (the logits; SAMPLE: the scores), gap [rows, k]
};

struct Expectation {
  MathMode mode;
  std::vector<ExpectedOutput> outputs;
  std::string bound_formula;  // for people: "gamma(K+2) (|x||W| + |bias|); probable lambda u sqrt(...)"
  double lambda = 0;          // of the probable bound; its failure probability per case is 2^-40
};

// The float64 oracle (backends/reference, compiled into this program so that no search path can replace it).
// Errors: oracle.unsupported, oracle.failed (defects).
Result<Expectation> expect(const Problem& problem, std::span<const std::byte> inputs, const MathMode& mode);

// What was found in one output; the raw numbers from which a verdict follows.
struct Coordinates {
  std::uint64_t index = 0;
  std::vector<std::int64_t> at;  // one per axis
  double got = 0, want = 0, rigorous = 0, probable = 0;
};
struct OutputFindings {
  std::string name, judged;     // "bound"
  std::uint64_t elements = 0;
  std::uint64_t guard_bytes = 0;       // sentinel bytes that changed
  std::int64_t guard_first = 0;        // where: negative before the output, else bytes behind its end
  std::uint64_t unwritten = 0;         // elements that still hold their poison, though the oracle wants something else
  std::uint64_t nonfinite = 0;         // NaN or infinity where the oracle has none, the other way round, or infinities of other sign
  std::uint64_t above_rigorous = 0;    // includes unequal bits, values and indices
  std::uint64_t above_probable = 0;    // not above the rigorous bound
  double max_error = 0;                // largest |got - want| over finite elements
  double margin = 0, margin_probable = 0;  // largest error / bound; kExact and kBits: 0 or infinity
  bool degenerate = false;             // more than one element and the oracle's values are all equal, or an output of zeros is within the bounds
  Coordinates first, worst;            // of the wrong elements (or, where none is wrong, worst: the largest margin)
};
// outputs: the whole output arena as it came back from the device. One entry per output of the problem.
std::vector<OutputFindings> judge_outputs(const Problem& problem, const Expectation& expectation, std::span<const std::byte> inputs,
                                          std::span<const std::byte> outputs);
// For cases that must be refused: guards, and outputs that must still be what they were.
std::vector<OutputFindings> judge_untouched(const Problem& problem, std::span<const std::byte> inputs, std::span<const std::byte> outputs);

}  // namespace concord::conformance
