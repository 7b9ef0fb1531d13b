// Metrics, profiles and verdicts over two captures, or over two bare arrays. One pass over the data, many threads, a result that does not depend on
// their number. Formulas: docs/metrics.md. Knows captures, not how they came about.
#pragma once
#include <array>
#include <cstdint>
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
  std::uint64_t count = 0;
  std::uint64_t special = 0;            // the class (finite, +inf, -inf, NaN) differs
  std::uint64_t bit_equal = 0, sign_flips = 0;
  std::uint64_t exponent_mismatch = 0;  // |X|: exponent field or sign differs (sign of zeros ignored)
  std::uint64_t mismatch_large = 0;     // in X with d >= tau_m
  std::uint64_t match_small = 0;        // outside X with d <= tau_w
  // The disjoint partition: exact, match & |d|<=0.2, match & |d|>0.2, mismatch & |d|<=5, mismatch & |d|>5 (special is counted above).
  std::array<std::uint64_t, 5> partition{};
  double sum_delta = 0, sum_abs_delta = 0, sum_sq_delta = 0, sum_abs_b = 0, sum_sq_b = 0, sum_sq_a = 0, sum_ab = 0, max_abs_delta = 0;
  // ulp distances, exact histogram by value below 256 and by powers of two (8 steps an octave) above: quantiles have a relative error of at most 1/8.
  std::vector<std::uint64_t> ulp_histogram;
  std::uint64_t ulp_max = 0;

  void merge(const ElementStats& other);
  double pe() const;
  std::optional<double> pm(std::uint64_t min_count = 30) const;  // not applicable below min_count mismatches
  std::optional<double> pw() const;                              // not applicable without a match
  double mean_error_signed() const, mean_error_abs() const, relative_error() const;  // relative_error = sum(a-b)/sum|b|
  double rel_l2() const, nmse() const, cosine() const, share_bit_equal() const;
  std::uint64_t ulp_quantile(double q) const;
};

struct MetricParameters {
  double tau_m = 0.5, tau_w = 1.0 / 16;
};
// Both arrays hold n elements of one dtype (F32, F16, BF16).
ElementStats element_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b, const MetricParameters& parameters = {});

// What verillm-experiments computes for one cell, bit for bit as NumPy does in the arrays' own dtype (bf16 is widened to f32 first, as it has no NumPy type).
struct SeedStats {
  std::uint64_t count = 0;
  double mean_error = 0, max_error = 0;  // values of the array's dtype, widened
  double pe = 0, pm = 0, pw = 0;
  std::uint64_t exact = 0, match_large = 0, match_small = 0, mismatch_large = 0, mismatch_small = 0;
};
SeedStats seed_stats(DType dtype, std::span<const std::byte> a, std::span<const std::byte> b);

// TOPLOC over one chunk of the final-norm output (both sides rounded to bf16): the prover's proof polynomial evaluated at the verifier's top-k.
struct ToplocStats {
  std::uint64_t topk = 0, exponent_mismatches = 0;
  double mantissa_mean = 0, mantissa_median = 0;  // infinity when no exponent matches
};
ToplocStats toploc_stats(DType dtype, std::span<const std::byte> prover, std::span<const std::byte> verifier, std::size_t topk = 128);

enum class Verdict { kAccept, kReject, kInconclusive };
const char* verdict_name(Verdict v);  // "ACCEPT"

// A profile file (suites/profiles/NAME.json, schema "concord.profile/1"): which definition, thresholds and decision rule.
struct Profile {
  enum class Kind { kPaper, kSeed, kToploc, kCalibrated };
  std::string name, source;
  Kind kind = Kind::kPaper;
  MetricParameters parameters;
  double pe_max = 0.05, pm_min = 0.75, pw_min = 0.80, mean_max = 0.01;      // paper, seed
  double mean_exact = 1e-6;                                                 // seed's first rule
  double accept_rate_min = 0.95;                                            // share of cells that must be accepted for ACCEPT
  bool include_embedding = false;                                           // seed: true
  std::size_t topk = 128;                                                   // toploc
  double exponent_mismatches_max = 38, mantissa_mean_max = 10, mantissa_median_max = 8;
  double rel_l2_max = std::numeric_limits<double>::infinity();              // calibrated: per cell limits; infinity means not used
  double ulp_p99_max = std::numeric_limits<double>::infinity();
  static Result<Profile> load(const std::string& name_or_file);             // profile.unknown lists what exists
};

// One judged cell, or chunk for toploc.
struct CellVerdict {
  std::int64_t layer = 0;     // hidden-state index
  std::int32_t position = 0;  // first position
  bool accepted = false;
  std::string rule;           // which rule decided: "mean_error < 1e-6", "Pe 0.081 >= 0.05", ...
};

struct LayerResult {
  std::int64_t layer = 0;
  ElementStats stats;                            // pooled over the layer's cells
  std::uint64_t cells = 0, accepted = 0;
};

struct Comparison {
  std::string profile;
  Verdict verdict = Verdict::kInconclusive;
  std::string rule;                              // what decided, with metric, value and threshold
  std::uint64_t cells = 0, accepted = 0;         // judged cells (the embedding output excluded unless the profile includes it)
  std::optional<CellVerdict> first_failure;      // lowest (layer, position) that was refused
  std::vector<LayerResult> layers;               // every captured layer, the embedding output too
  ElementStats total;                            // over the judged layers
  std::vector<CellVerdict> verdicts;             // every judged cell, in order of layer, then position
  std::string dtype_note;                        // says so when both sides were rounded to the narrower dtype
};

// Refuses captures that are not of one thing, naming every field that differs: compare.different_workload (workload digest, tokens, positions, layers,
// hidden size, nonce). Data is judged only when that holds. Several profiles cost one pass.
Result<std::vector<Comparison>> compare(const Capture& subject, const Capture& reference, std::span<const Profile> profiles);

// Wilson score interval of a proportion (95 %).
struct Interval {
  double low = 0, high = 1;
};
Interval wilson95(std::uint64_t successes, std::uint64_t n);

OrderedJson to_json(const Comparison& comparison);  // everything but `verdicts`

}  // namespace concord
