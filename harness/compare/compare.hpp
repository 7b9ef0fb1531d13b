// Metrics, profiles and verdicts over two captures, or over two bare arrays. One pass over the data, many threads, a
// result that does not depend on their number. Formulas: docs/metrics.md. Knows captures, not how they came about.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "capture/capture.hpp"

namespace concord {

// Counts and sums over a set of elements, mergeable. a is the subject (prover), b the reference (verifier).
struct ElementStats {
  std::uint64_t count = 0;  // N
  std::uint64_t special =
      0;  // the class (finite, +inf, -inf, NaN) differs; outside X, O, the sums and the ulp histogram
  std::uint64_t both_nonfinite =
      0;  // the same infinity, or NaN (of any sign and payload), on both sides: in O with d = 0, delta = 0, ulp = 0
  std::uint64_t bit_equal = 0, sign_flips = 0;
  std::uint64_t exponent_mismatch = 0;  // |X|: exponent field or sign differs (sign of zeros ignored)
  std::uint64_t mismatch_large = 0;     // in X with d >= tau_m
  std::uint64_t match_small = 0;        // in O with d <= tau_w
  // The disjoint partition: exact (0 and -0 too), match & |d|<=0.2, match & |d|>0.2, mismatch & |d|<=5, mismatch &
  // |d|>5. With `special` it sums to N.
  std::array<std::uint64_t, 5> partition{};
  double sum_delta = 0, sum_abs_delta = 0, sum_sq_delta = 0, sum_abs_b = 0, sum_sq_b = 0, sum_sq_a = 0, sum_ab = 0,
         max_abs_delta = 0;
  // ulp distances, exact histogram by value below 256 and by powers of two (8 steps an octave) above: quantiles have a
  // relative error of at most 1/8. kUlpBins entries, or none where quantiles were not asked for. compare() may enter
  // only a systematic sample (docs/metrics.md); ulp_max is of all elements.
  std::vector<std::uint64_t> ulp_histogram;
  std::uint64_t ulp_max = 0;

  void merge(const ElementStats& other);  // in a fixed order, so that sums do not depend on who computed which part
  std::uint64_t finite() const { return count - special - both_nonfinite; }    // elements behind the sums
  std::uint64_t ulp_sample() const;                                            // elements in the ulp histogram
  std::uint64_t match() const { return count - special - exponent_mismatch; }  // |O|
  // Ratios of an empty set are NaN, so that every comparison with a threshold fails.
  double pe() const;
  std::optional<double> pm(std::uint64_t min_count = 30) const;  // not applicable below min_count mismatches
  std::optional<double> pw() const;                              // not applicable without a match
  double mean_error_signed() const, mean_error_abs() const, relative_error() const;  // relative_error = sum(a-b)/sum|b|
  // With b = 0 everywhere: rel_l2 and nmse are 0 for a = b, else infinity; cosine is 1 for a = b, else 0.
  double rel_l2() const, nmse() const, cosine() const, share_bit_equal() const, share_sign_flips() const;
  // Nearest rank; the largest value of the bin it falls in, at most ulp_max (never understated). 0 for an empty
  // histogram.
  std::uint64_t ulp_quantile(double q) const;
};
inline constexpr std::size_t kUlpBins = 256 + 24 * 8;

struct MetricParameters {
  double tau_m = 0.5, tau_w = 1.0 / 16;
  bool operator==(const MetricParameters&) const = default;
};
// Both arrays hold n elements of one dtype (F32, F16, BF16); differing sizes or another dtype are a programmer's
// mistake. No elements: count = 0.
ElementStats element_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b,
                           const MetricParameters& parameters = {});

// What verillm-experiments computes for one cell, bit for bit as NumPy does in the arrays' own dtype (bf16 is widened
// to f32 first, as it has no NumPy type).
struct SeedStats {
  std::uint64_t count = 0;
  double mean_error = 0, max_error = 0;  // values of the array's dtype, widened
  double pe = 0, pm = 0, pw = 0;
  // As the original counts them: by |delta| alone (> 0.2; (0, 0.2]; > 5; (0.2, 5]), no exponent looked at, overlapping.
  std::uint64_t exact = 0, match_large = 0, match_small = 0, mismatch_large = 0, mismatch_small = 0;
};
SeedStats seed_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b);

// TOPLOC over one chunk of the final-norm output (both sides rounded to bf16): the prover's proof polynomial evaluated
// at the verifier's top-k. `topk` is cut to the number of elements. Ties are broken as by torch.topk on a CPU
// (docs/metrics.md).
struct ToplocStats {
  std::uint64_t topk = 0, exponent_mismatches = 0;
  double mantissa_mean = 0,
         mantissa_median =
             0;  // raw 7-bit mantissas; the upper median; infinity when no exponent matches (the library: 2^64)
};
ToplocStats toploc_stats(DType dtype, std::span<const std::byte> prover, std::span<const std::byte> verifier,
                         std::size_t topk = 128);
// The proof of one chunk: modulus, then `topk` coefficients in ascending degree, all uint16 big-endian: 2 + 2 * topk
// bytes (258 for 128). All zero (the library's null proof) where no modulus makes the indices distinct.
std::vector<std::byte> toploc_proof(DType dtype, std::span<const std::byte> chunk, std::size_t topk = 128);
// Verifies such a proof against the verifier's chunk. A null proof, or one of no coefficients, mismatches everywhere.
ToplocStats toploc_verify(std::span<const std::byte> proof, DType dtype, std::span<const std::byte> verifier);

enum class Verdict { kAccept, kReject, kInconclusive };
const char* verdict_name(Verdict v);  // "ACCEPT"

// One entry of a `calibrated` profile: the limits of one kind of pair. Infinity: not used.
struct CalibratedLimit {
  std::string activations;                                       // "f32", "f16", "bf16" or "*"
  std::string class_name;                                        // "homogeneous", "heterogeneous", ... or "*"
  double rel_l2_max = std::numeric_limits<double>::infinity();   // per cell
  double ulp_p99_max = std::numeric_limits<double>::infinity();  // per cell
  std::string source;                                            // where the figures come from
  std::string model = "*";                                       // as the verifier's capture names it, or "*"
};

// A profile file (suites/profiles/NAME.json, schema "concord.profile/1", docs/profiles.md): which definition,
// thresholds and decision rule.
struct Profile {
  enum class Kind { kPaper, kSeed, kToploc, kCalibrated };
  std::string name, source, citation;
  Kind kind = Kind::kPaper;
  MetricParameters parameters;
  double pe_max = 0.05, pm_min = 0.75, pw_min = 0.80, mean_max = 0.01;  // paper, seed
  std::uint64_t pm_min_count = 30;  // paper: Pm is not applicable below that many exponent mismatches
  double mean_exact = 1e-6;         // seed's first rule
  double accept_rate_min = 0.95;    // share of cells (chunks) that must be accepted for ACCEPT
  bool accept_rate_strict = false;  // true: more than that share (seed); false: at least
  bool include_embedding = false;   // seed: true
  std::int64_t layer_stride = 1;    // only hidden states whose index is a multiple of it (seed: 8)
  std::size_t topk = 128;           // toploc
  double exponent_mismatches_max = 38, mantissa_mean_max = 10, mantissa_median_max = 8;
  std::vector<CalibratedLimit> limits;  // calibrated
  // A name is looked up in $CONCORD_SUITES/profiles, PROGRAM_DIR/../share/concord/suites/profiles, the source tree: the
  // first folder that exists. Anything with a slash or ending in .json is a file. Errors: profile.unknown (lists what
  // exists) and the profile.* of a bad file.
  static Result<Profile> load(const std::string& name_or_file);
  static std::vector<std::string> available();  // names, sorted
  // The entry for a pair: an exact model beats "*", then an exact activations, then an exact class; null where there is
  // none.
  const CalibratedLimit* limit_for(const std::string& activations, const std::string& class_name,
                                   const std::string& model = "") const;
};

// One judged cell (seed, calibrated) or chunk of up to 32 positions (paper, toploc).
struct CellVerdict {
  std::int64_t layer = 0;     // hidden-state index
  std::int32_t position = 0;  // first position
  bool accepted = false;
  bool pm_skipped = false;  // paper: Pm was not applicable
  std::string metric;       // the metric that decided, with its value and the threshold
  double value = 0, threshold = 0;
  std::string rule;  // which rule decided: "mean_error 0 < 1e-06", "Pe 0.081 >= 0.05", ...
};

struct LayerResult {
  std::int64_t layer = 0;
  ElementStats stats;                     // pooled over the layer's cells
  std::uint64_t cells = 0, accepted = 0;  // judged ones; 0 where the profile does not judge this layer
};

struct Comparison {
  std::string profile;
  Verdict verdict = Verdict::kInconclusive;
  std::string rule;  // what decided, in words, with metric, value and threshold
  std::string
      metric;  // the same for machines: of the first failure on REJECT, else "accept_rate"; empty if nothing was judged
  double value = 0, threshold = 0;
  std::string unit;                          // what `cells` counts: "cell" or "chunk"
  std::uint64_t cells = 0, accepted = 0;     // judged (the embedding output excluded unless the profile includes it)
  std::uint64_t pm_skipped = 0;              // paper: chunks whose Pm was not applicable
  std::optional<CellVerdict> first_failure;  // lowest (layer, position) that was refused
  std::vector<LayerResult> layers;           // every captured layer, the embedding output too
  ElementStats total;                        // over the judged layers
  std::string dtype_note;                    // says so when both sides were rounded to the narrower dtype
  std::vector<std::string> notes;            // what a reader must know besides, one sentence each
};

// What compare() cannot read from the captures.
struct CompareContext {
  std::string activations;                     // key of a calibrated profile's limits; empty: the dtype that is judged
  std::string class_name;                      // experiment class; empty matches only "*" entries
  bool ignore_nonce = false;                   // offline comparison of independent runs
  int threads = 0;                             // at most; 0: all. The result does not depend on it
  std::optional<MetricParameters> parameters;  // overrides the profiles' tau_m and tau_w
  // Is given every judged cell with the index of its profile, in order of layer, then position, then profile, while the
  // comparison runs; nothing keeps them. Never called from two threads at once.
  std::function<void(std::size_t profile, const CellVerdict&)> on_verdict;
};

// Refuses captures that are not of one thing, naming every field that differs with both values:
// compare.different_workload (workload digest, nonce, hidden size, number of model layers, layers, positions, tokens);
// compare.empty when they hold no element. Data is judged only when that holds. Profiles with equal tau_m and tau_w
// share one pass over the data; memory does not grow with the captures.
Result<std::vector<Comparison>> compare(const Capture& subject, const Capture& reference,
                                        std::span<const Profile> profiles, const CompareContext& context = {});

// Wilson score interval of a proportion (95 %); [0, 1] for n = 0.
struct Interval {
  double low = 0, high = 1;
};
Interval wilson95(std::uint64_t successes, std::uint64_t n);

OrderedJson to_json(
    const ElementStats& stats);  // counts and every ratio; not finite numbers as the strings "inf", "-inf", "nan"
OrderedJson to_json(const Comparison& comparison);

}  // namespace concord
