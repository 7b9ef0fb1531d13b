// The inner loops of the comparison: one source (kernels_source.hpp) compiled once per instruction set, chosen at run
// time. All give the same bits. Internal to this floor.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.hpp"

namespace concord::detail {

inline constexpr std::size_t kSegment = 2048;  // elements of one call: its differences stay in the first-level cache

// ulp distances by their top eight bits: exact below 256, 128 steps an octave above. Bin 0 is distance 0.
inline constexpr std::size_t kFineBins = 1 + 32 * 128;

// What one thread needs while it works; none of it grows with the data.
struct Scratch {
  // Added to by every call; neighbours count in different tables, so that equal distances wait less for each other.
  alignas(64) std::uint32_t bins[2][kFineBins]{};
  alignas(64) float delta[kSegment + 32];  // |a - b| in the arrays' own dtype, widened; set where seed is asked for
};

struct Segment {
  const std::byte* a;
  const std::byte* b;
  std::size_t n;               // at most kSegment
  std::uint32_t large, small;  // raw mantissa gaps: large means >= large, small means <= small
  bool seed;                   // whether `delta` and `seed_exponent` are wanted
  std::size_t step, phase;     // blocks of 16 elements with index % step == phase reach the histogram
};

// Counts and sums of one row. Element i of the row is added in lane i mod 8, in order of i; rows longer than a segment
// are cut at multiples of eight. Elements that went through the full definitions have sums of their own.
struct RowState {
  enum Sum { kDelta, kAbsDelta, kSqDelta, kAbsB, kSqB, kBd, kNearSums, kSqA = kBd, kAb, kFarSums };
  alignas(64) double near[kNearSums][8]{};
  alignas(64) double far[kFarSums][8]{};
  double max_abs_delta = 0;
  std::uint64_t special = 0, both_nonfinite = 0, bit_equal = 0, sign_flips = 0, mismatch = 0, large = 0, small = 0,
                exact = 0, match_far = 0, mismatch_far = 0;  // far: |d| > 0.2 in a match, > 5 in a mismatch
  std::uint32_t ulp_max = 0;
  std::uint64_t seed_exponent = 0;
};

// The seed profile's counters over |a - b|, with its literals in the dtype of the arrays.
struct SeedLiterals {
  float tiny, small, fifth;  // 1e-7, 1e-5, 0.2
};
struct SeedCounts {
  std::uint64_t above = 0, below = 0;  // delta > small, delta < tiny
};

struct Kernels {
  void (*f32)(const Segment&, RowState&, Scratch&);
  void (*f16)(const Segment&, RowState&, Scratch&);
  void (*bf16)(const Segment&, RowState&, Scratch&);
  float (*pairwise_sum)(const float*, std::size_t);  // NumPy's order of a contiguous float32 sum
  void (*seed_counts)(const float*, std::size_t, const SeedLiterals&, SeedCounts&);

  void segment(DType dtype, const Segment& s, RowState& state, Scratch& scratch) const {
    (dtype == DType::kF32 ? f32 : dtype == DType::kF16 ? f16 : bf16)(s, state, scratch);
  }
};

enum class Isa { kPortable, kAvx2, kAvx512 };
bool available(Isa isa);
// The widest that the processor has, or what CONCORD_COMPARE_ISA names (portable, avx2, avx512) if it has that.
Isa best_isa();
const Kernels& kernels(Isa isa);

extern const Kernels kKernelsPortable;
#ifdef CONCORD_COMPARE_X86
extern const Kernels kKernelsAvx2, kKernelsAvx512;
#endif

}  // namespace concord::detail
