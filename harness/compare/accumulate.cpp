// Rows cut into segments as NumPy's pairwise summation halves them, so that one walk serves the seed's sum and all the
// others; then from the kernels' counts to the quantities of docs/metrics.md.
#include "compare/accumulate.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace concord::detail {
namespace {

unsigned mantissa_bits(DType d) { return d == DType::kF32 ? 23 : d == DType::kF16 ? 10 : 7; }

struct Limits {
  std::uint32_t large, small;  // raw mantissa gaps: large means >= large, small means <= small
};
Limits limits(DType dtype, const MetricParameters& p) {  // exact: 2^p is a power of two
  const double scale = static_cast<double>(1u << mantissa_bits(dtype));
  return {static_cast<std::uint32_t>(std::ceil(p.tau_m * scale)),
          static_cast<std::uint32_t>(std::floor(p.tau_w * scale))};
}

struct Walk {
  const RowPlan& plan;
  Segment segment;
  std::size_t width;  // bytes of an element
  Scratch& scratch;
  DeltaSink sink;
  void* to;
  RowResult& out;

  // The next n elements, and the pairwise sum of their |a - b|.
  float take(std::size_t n) {
    if (n > kSegment) {
      const std::size_t half = n / 2 - (n / 2) % 8;
      const float left = take(half);
      return left + take(n - half);
    }
    segment.n = n;
    plan.kernels->segment(plan.dtype, segment, out.state, scratch);
    segment.a += n * width;
    segment.b += n * width;
    if (!plan.seed) return 0;
    plan.kernels->seed_counts(scratch.delta, n, seed_literals(plan.dtype), out.seed);
    if (sink) sink(scratch.delta, n, to);
    return plan.kernels->pairwise_sum(scratch.delta, n);
  }
};

double fold(const double (&v)[8]) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }

}  // namespace

RowPlan row_plan(DType dtype, const MetricParameters& parameters, bool seed, Isa isa) {
  return {dtype, parameters, seed, &kernels(isa)};
}

RowResult compare_row(const RowPlan& plan, const std::byte* a, const std::byte* b, std::size_t n, Scratch& scratch,
                      DeltaSink sink, void* to) {
  // A half array is cast to float32 through NumPy's buffer of 8192 elements, each buffer summed by itself.
  constexpr std::size_t kNumpyBuffer = 8192;
  const std::size_t block = plan.dtype == DType::kF16 ? kNumpyBuffer : n;
  const Limits lim = limits(plan.dtype, plan.parameters);
  RowResult out;
  Walk walk{plan,
            {a, b, 0, lim.large, lim.small, plan.seed, plan.step, plan.phase},
            dtype_bits(plan.dtype) / 8,
            scratch,
            sink,
            to,
            out};
  for (std::size_t done = 0; done < n; done += block) out.seed_sum += walk.take(std::min(block, n - done));
  out.n = n;
  return out;
}

void add_row(const RowResult& row, ElementStats& into) {
  const RowState& r = row.state;
  into.count += row.n;
  into.special += r.special;
  into.both_nonfinite += r.both_nonfinite;
  into.bit_equal += r.bit_equal;
  into.sign_flips += r.sign_flips;
  into.exponent_mismatch += r.mismatch;
  into.mismatch_large += r.large;
  into.match_small += r.small;
  // Two finite values that differ differ by something: float differences never round to zero in double. So `exact` lies
  // within the matches.
  into.partition[0] += r.exact;
  into.partition[1] += row.n - r.special - r.mismatch - r.exact - r.match_far;
  into.partition[2] += r.match_far;
  into.partition[3] += r.mismatch - r.mismatch_far;
  into.partition[4] += r.mismatch_far;
  const auto near = [&](RowState::Sum sum) { return fold(r.near[sum]); };
  const auto both = [&](RowState::Sum sum) { return near(sum) + fold(r.far[sum]); };
  into.sum_delta += both(RowState::kDelta);
  into.sum_abs_delta += both(RowState::kAbsDelta);
  into.sum_sq_delta += both(RowState::kSqDelta);
  into.sum_abs_b += both(RowState::kAbsB);
  into.sum_sq_b += both(RowState::kSqB);
  // a = b + d. With denormals only, cancellation could leave less than nothing.
  const double sq_a = near(RowState::kSqB) + 2 * near(RowState::kBd) + near(RowState::kSqDelta);
  into.sum_sq_a += std::max(0.0, sq_a) + fold(r.far[RowState::kSqA]);
  into.sum_ab += near(RowState::kSqB) + near(RowState::kBd) + fold(r.far[RowState::kAb]);
  into.max_abs_delta = std::max(into.max_abs_delta, r.max_abs_delta);
  into.ulp_max = std::max<std::uint64_t>(into.ulp_max, r.ulp_max);
}

// Literals as NumPy compares an array of each dtype with them (NumPy 1.24 and 2 agree).
const SeedLiterals& seed_literals(DType dtype) {
  static const SeedLiterals kSingle{1e-7f, 1e-5f, 0.2f};
  static const SeedLiterals kHalf{f16_to_f32(f64_to_f16(1e-7)), f16_to_f32(f64_to_f16(1e-5)),
                                  f16_to_f32(f64_to_f16(0.2))};
  return dtype == DType::kF16 ? kHalf : kSingle;
}

SeedStats seed_figures(DType dtype, const RowResult& row) {
  SeedStats s;
  s.count = row.n;
  if (row.n == 0) return s;
  const double count = static_cast<double>(row.n);
  const double mean = static_cast<double>(row.seed_sum) / count;  // divided in float64, then rounded once
  s.mean_error = dtype == DType::kF16 ? f16_to_f32(f64_to_f16(mean)) : static_cast<double>(static_cast<float>(mean));
  s.pe = static_cast<double>(row.state.seed_exponent) / count;
  s.pm = static_cast<double>(row.seed.above) / count;
  s.pw = static_cast<double>(row.seed.below) / count;
  return s;
}

namespace {

template <class Word, unsigned kMantissa>
GapCounts gaps(const std::byte* a, const std::byte* b, std::size_t n, Limits lim) {
  constexpr std::uint32_t kSign = 1u << (8 * sizeof(Word) - 1), kAbs = kSign - 1, kMask = (1u << kMantissa) - 1,
                          kInf = kAbs & ~kMask;
  GapCounts out;
  for (std::size_t i = 0; i < n; ++i) {
    Word wa, wb;
    std::memcpy(&wa, a + i * sizeof(Word), sizeof(Word));
    std::memcpy(&wb, b + i * sizeof(Word), sizeof(Word));
    const std::uint32_t x = wa, y = wb, ax = x & kAbs, ay = y & kAbs;
    const bool fin = ax < kInf && ay < kInf, same = (ax > kInf && ay > kInf) || (ax == kInf && x == y);
    const bool flip = ((x ^ y) & kSign) != 0 && ax != 0 && ay != 0;
    const bool mismatch = fin && (((ax ^ ay) & kInf) != 0 || flip);
    const std::uint32_t mx = x & kMask, my = y & kMask, gap = fin ? (mx > my ? mx - my : my - mx) : 0;
    out.mismatch_large += mismatch && gap >= lim.large;
    out.match_small += !mismatch && (fin || same) && gap <= lim.small;
  }
  return out;
}

}  // namespace

GapCounts count_gaps(DType dtype, const std::byte* a, const std::byte* b, std::size_t n,
                     const MetricParameters& parameters) {
  const Limits lim = limits(dtype, parameters);
  if (dtype == DType::kF32) return gaps<std::uint32_t, 23>(a, b, n, lim);
  return dtype == DType::kF16 ? gaps<std::uint16_t, 10>(a, b, n, lim) : gaps<std::uint16_t, 7>(a, b, n, lim);
}

void drain_bins(Scratch& scratch, std::uint64_t ulp_max, std::vector<std::uint64_t>& histogram) {
  // Octave o holds the distances 2^o to 2^(o+1) - 1 in 128 steps.
  const unsigned octaves = static_cast<unsigned>(std::bit_width(ulp_max));
  std::uint32_t* fine = scratch.bins[0];
  for (std::size_t i = 0; i < 1 + 128 * octaves; ++i) fine[i] += scratch.bins[1][i];
  std::fill_n(scratch.bins[1], 1 + 128 * octaves, 0u);
  histogram[0] += fine[0];
  // Below 2^8 each distance has its own bin, above it 16 steps make one.
  for (unsigned o = 0; o < octaves; ++o) {
    const std::uint32_t* steps = fine + 1 + 128 * o;
    if (o < 8) {
      for (std::size_t v = 0; v < std::size_t{1} << o; ++v) histogram[(std::size_t{1} << o) + v] += steps[v << (7 - o)];
      continue;
    }
    for (std::size_t bin = 0; bin < 8; ++bin) {
      std::uint32_t sum = 0;
      for (std::size_t i = 0; i < 16; ++i) sum += steps[16 * bin + i];
      histogram[256 + (o - 8) * 8 + bin] += sum;
    }
  }
  std::fill_n(fine, 1 + 128 * octaves, 0u);
}

std::size_t ulp_bin(std::uint32_t ulp) {
  if (ulp < 256) return ulp;
  const unsigned octave = static_cast<unsigned>(std::bit_width(ulp)) - 1;  // 8 .. 31
  return 256 + (octave - 8) * 8 + ((ulp >> (octave - 3)) & 7u);
}

std::uint64_t ulp_bin_top(std::size_t bin) {
  if (bin < 256) return bin;
  const std::size_t octave = 8 + (bin - 256) / 8, step = (bin - 256) % 8;
  return (std::uint64_t{9 + step} << (octave - 3)) - 1;
}

}  // namespace concord::detail
