// Included by each kernels_*.cpp after the vectors of its instruction set; everything here has internal linkage.
//
// Nearly all pairs of elements of two honest captures have one sign and lie within one octave ("near"): there the float
// difference is exact, the ulp distance is the difference of the bits, and the quantities of docs/metrics.md follow
// from these. 32 elements with any pair that is not near go through the full definitions instead (Far), into sums of
// their own. Which way is taken depends on the data alone, so the result does not depend on the instruction set.
#pragma once
#include <bit>

#include "compare/kernels.hpp"
#include "compare/kernels_sums.hpp"

namespace concord::detail {
namespace {

struct F32 {
  static constexpr unsigned kMantissa = 23, kWidth = 32;
  static constexpr bool kHalf = false;
  static Ints load(const std::byte* p) { return load32(p); }
  static Floats value(const Ints& x) { return as_floats(x); }
  static Floats value_at(const std::byte* p) { return as_floats(load32(p)); }
  static Doubles low_at(const std::byte* p) { return load_widened(p); }
  static Doubles high_at(const std::byte* p) { return load_widened(p + 32); }
};
struct F16 {
  static constexpr unsigned kMantissa = 10, kWidth = 16;
  static constexpr bool kHalf = true;
  static Ints load(const std::byte* p) { return load16(p); }
  static Floats value(const Ints& x) { return from_half(x); }
  static Floats value_at(const std::byte* p) { return load_half(p); }
  static Doubles low_at(const std::byte* p) { return low(value_at(p)); }
  static Doubles high_at(const std::byte* p) { return high(value_at(p)); }
};
struct BF16 {
  static constexpr unsigned kMantissa = 7, kWidth = 16;
  static constexpr bool kHalf = false;
  static Ints load(const std::byte* p) { return load16(p); }
  static Floats value(const Ints& x) { return as_floats(left<16>(x)); }
  static Floats value_at(const std::byte* p) { return value(load(p)); }
  static Doubles low_at(const std::byte* p) { return low(value_at(p)); }
  static Doubles high_at(const std::byte* p) { return high(value_at(p)); }
};

template <class T>
struct Bits {
  static constexpr std::uint32_t kSign = 1u << (T::kWidth - 1), kAbs = kSign - 1, kOctave = 1u << T::kMantissa,
                                 kMantissaMask = kOctave - 1, kInf = kAbs & ~kMantissaMask;
  static constexpr std::size_t kBytes = T::kWidth / 8, kPack = 16 * kBytes;
};

// --- the histogram of distances --------------------------------------------------------------------------------

constexpr std::uint16_t kOneIsBinOne = (127u << 7) - 1;  // upper half of 1.0f, less one
constexpr std::size_t kBinOfOne = 1, kBinOfTwo = 1 + 128, kBinOfThree = 1 + 128 + 64;

using Bins = std::uint32_t (&)[2][kFineBins];

// Indices are read back from memory: taking a register apart costs more of what is scarce here.
[[gnu::always_inline]] inline void bump(Bins bins, const Ints& as_float, std::uint32_t by) {
  alignas(64) std::uint16_t index[16];
  store_upper_halves(index, as_float, kOneIsBinOne);
  asm volatile("" : "+m"(index));
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    std::uint64_t four;
    __builtin_memcpy(&four, index + i, sizeof four);
    bins[0][four & 0xffff] += by;
    bins[1][four >> 16 & 0xffff] += by;
    bins[0][four >> 32 & 0xffff] += by;
    bins[1][four >> 48] += by;
  }
}
// Where all distances are 0, 1, 2 or 3 each is counted by comparing.
[[gnu::always_inline]] inline void near_bins(const Ints& u, Bins bins, std::uint32_t by) {
  if (none(at_least(u, splat(4)))) {
    const auto up_to = [&](std::uint32_t n) {
      return static_cast<std::uint32_t>(__builtin_popcount(bits(at_most(u, splat(n)))));
    };
    const std::uint32_t zero = up_to(0), one = up_to(1), two = up_to(2);
    bins[0][0] += by * zero;
    bins[0][kBinOfOne] += by * (one - zero);
    bins[0][kBinOfTwo] += by * (two - one);
    bins[0][kBinOfThree] += by * (16 - two);
    return;
  }
  // Distances below 2^24 are exact floats, whose upper half is the exponent and seven more bits.
  bump(bins, as_ints(to_floats(u)), by);
}
inline Ints wide_float(const Ints& u) {
  const Ints shifted = plus(as_ints(to_floats(right<8>(u))), splat(8u << 23));
  return choose(at_least(u, splat(1u << 24)), shifted, as_ints(to_floats(u)));
}

// --- far: the full definitions --------------------------------------------------------------------------------

template <class T>
struct Far {
  using B = Bits<T>;
  Ints x, y, ulp, gap;  // x and y are zero where they are not finite on both sides
  Mask same, special, bit_equal, flip, mismatch, seed_exponent;

  [[gnu::always_inline]] Far(const Ints& a, const Ints& b, Mask valid) {
    const Ints abs = splat(B::kAbs), inf = splat(B::kInf), zero = splat(0);
    const Ints ax = both(a, abs), ay = both(b, abs);
    const Mask open_x = without(valid, at_least(ax, inf)), open_y = without(valid, at_least(ay, inf));
    const Mask finite_both = all_of(open_x, open_y), rest = without(valid, finite_both);
    const Mask nan = without(without(rest, at_most(ax, inf)), at_most(ay, inf));
    same = any_of(nan, all_of(all_of(rest, equal(ax, inf)), equal(a, b)));
    special = without(rest, same);
    bit_equal = all_of(valid, equal(a, b));
    const Ints fx = as_ints(T::value(a)), fy = as_ints(T::value(b));
    seed_exponent = all_of(valid, any_bit(differ(fx, fy), splat(0x7f800000u)));
    x = pick(finite_both, a);
    y = pick(finite_both, b);
    const Ints ux = both(x, abs), uy = both(y, abs), t = differ(x, y);
    flip = without(without(any_bit(t, splat(B::kSign)), equal(ux, zero)), equal(uy, zero));
    mismatch = any_of(flip, any_bit(t, inf));
    const Ints mask = splat(B::kMantissaMask);
    gap = magnitude(minus(both(ux, mask), both(uy, mask)));
    ulp = choose(flip, plus(ux, uy), magnitude(minus(ux, uy)));
  }
};

inline std::uint64_t ones(Mask m) { return static_cast<std::uint64_t>(__builtin_popcount(bits(m))); }
inline std::uint64_t ones(std::uint32_t m) { return static_cast<std::uint64_t>(__builtin_popcount(m)); }

// Those not counted go to bin 0 and are taken out again.
inline void far_bins(const Ints& u, Mask counted, Bins bins, std::uint32_t by) {
  bump(bins, wide_float(pick(counted, u)), by);
  bins[0][0] -= by * static_cast<std::uint32_t>(16 - ones(counted));
}

template <class T>
[[gnu::always_inline]] inline void far_counts(const Far<T>& f, Mask valid, const Segment& s, RowState& r) {
  const Mask match = without(without(valid, f.mismatch), f.special);
  r.special += ones(f.special);
  r.both_nonfinite += ones(f.same);
  r.bit_equal += ones(f.bit_equal);
  r.sign_flips += ones(f.flip);
  r.mismatch += ones(f.mismatch);
  r.large += ones(all_of(f.mismatch, at_least(f.gap, splat(s.large))));
  r.small += ones(all_of(match, at_most(f.gap, splat(s.small))));
  r.exact += ones(all_of(match, equal(f.ulp, splat(0))));
  r.seed_exponent += ones(f.seed_exponent);
  const std::uint32_t ulp = largest(f.ulp);
  r.ulp_max = r.ulp_max > ulp ? r.ulp_max : ulp;
}

template <class T>
Floats seed_delta(const Ints& a, const Ints& b) {
  const Floats d = magnitude(minus(T::value(a), T::value(b)));
  if constexpr (T::kHalf)
    // The float32 difference of two halves, rounded to half, is the half difference: 24 >= 2 * 11 + 2 bits make the
    // double rounding harmless.
    return round_to_half(d);
  else
    return d;
}

// 16 elements, of which `valid` are there; the others must be zeros on both sides.
template <class T>
[[gnu::always_inline]] inline void far_pack(const Ints& a, const Ints& b, Mask valid, const Segment& s, RowState& r,
                                            FarSums& sums, float* delta) {
  const Far<T> f(a, b, valid);
  far_counts(f, valid, s, r);
  if (s.seed) store(delta, seed_delta<T>(a, b));
  const Floats x = T::value(f.x), y = T::value(f.y);
  const Doubles first = add_far(low(x), low(y), sums), second = add_far(high(x), high(y), sums);
  const std::uint32_t mismatch = bits(f.mismatch);
  r.match_far += ones(~mismatch & (above_bits(first, 0.2) | above_bits(second, 0.2) << 8));
  r.mismatch_far += ones(mismatch & (above_bits(first, 5) | above_bits(second, 5) << 8));
  const double most = largest(larger(first, second));
  r.max_abs_delta = r.max_abs_delta > most ? r.max_abs_delta : most;
}

// --- near --------------------------------------------------------------------------------

template <class T>
struct Pair {  // 32 elements of both sides
  static constexpr std::size_t kPack = Bits<T>::kPack;
  const std::byte *a, *b;
  Ints x0, x1, y0, y1, u0, u1;
  Pair(const std::byte* at_a, const std::byte* at_b)
      : a(at_a), b(at_b), x0(T::load(a)), x1(T::load(a + kPack)), y0(T::load(b)), y1(T::load(b + kPack)) {
    u0 = magnitude(minus(x0, y0));
    u1 = magnitude(minus(x1, y1));
  }
};

template <class T>
bool is_near(const Ints& most_ulp) {
  return none(at_least(most_ulp, splat(Bits<T>::kOctave)));
}

// Groups of 32 elements put aside for a loop of their own: a jump that depends on the data is rarely predicted.
struct Groups {
  std::uint16_t first[kSegment / 32 + 1];
  std::size_t count = 0;
  void add(std::size_t i, bool really) {
    first[count] = static_cast<std::uint16_t>(i);
    count += really;
  }
};

struct NearCounts {
  std::uint64_t mismatch = 0, large = 0, not_small = 0, seed_exponent = 0;
};

template <class T, bool kSeed>
struct Near {
  using B = Bits<T>;
  Sums sums;
  // Signs that differ are more than an octave apart.
  std::uint32_t small, large;
  NearCounts c;
  Ints close_to, ulp = splat(0), most = splat(0), unequal = splat(0);  // most: the bits of a float

  Near(const Segment& s, const RowState& r)
      : sums(load_sums(r)),
        small(s.small),
        large(B::kOctave - s.large),
        close_to(splat(s.small < B::kOctave ? s.small + 1 : B::kOctave)) {}

  [[gnu::always_inline]] void pack(const std::byte* a, const std::byte* b, const Ints& u, float* delta) {
    const Floats y = T::value_at(b), d = minus(T::value_at(a), y), ad = magnitude(d);
    most = larger(most, as_ints(ad));
    unequal = plus(unequal, smaller(u, splat(1)));
    if constexpr (kSeed) store(delta, ad);  // a half difference needs no rounding here, either
    add_near(low(d), T::low_at(b), sums);
    add_near(high(d), T::high_at(b), sums);
  }
  // The seed looks at the exponents after widening, where denormal halves have their own.
  static constexpr bool kWidened = T::kHalf && kSeed;
  template <int kWhich>
  [[gnu::always_inline]] static Ints exponents(const Pair<T>& p) {
    constexpr std::size_t kAt = kWhich * Bits<T>::kPack;
    if constexpr (kWidened) return differ(as_ints(T::value_at(p.a + kAt)), as_ints(T::value_at(p.b + kAt)));
    return kWhich ? differ(p.x1, p.y1) : differ(p.x0, p.y0);
  }
  static constexpr std::uint32_t kExponent = kWidened ? 0x7f800000u : B::kInf;
  // All 32 have equal exponents and a small distance: nothing to count.
  [[gnu::always_inline]] bool close(const Pair<T>& p, const Ints& most_ulp) const {
    const Mask apart = any_bit(any_of(exponents<0>(p), exponents<1>(p)), splat(kExponent));
    return none(any_of(apart, at_least(most_ulp, close_to)));
  }
  [[gnu::always_inline]] void counts(const Pair<T>& p) {
    const Ints inf = splat(B::kInf);
    const Mask m0 = any_bit(differ(p.x0, p.y0), inf), m1 = any_bit(differ(p.x1, p.y1), inf);
    c.mismatch += count(m0, m1);
    // Exponents that differ by one: the raw mantissas are an octave less the distance apart.
    c.large += count(all_of(m0, at_most(p.u0, splat(large))), all_of(m1, at_most(p.u1, splat(large))));
    c.not_small += 32 - count(without(at_most(p.u0, splat(small)), m0), without(at_most(p.u1, splat(small)), m1));
    if constexpr (kWidened)
      c.seed_exponent += count(any_bit(exponents<0>(p), splat(kExponent)), any_bit(exponents<1>(p), splat(kExponent)));
  }
  [[gnu::always_inline]] void pair(const Pair<T>& p, const Ints& most_ulp, float* delta) {
    ulp = larger(ulp, most_ulp);
    pack(p.a, p.b, p.u0, delta);
    pack(p.a + B::kPack, p.b + B::kPack, p.u1, delta + 16);
  }
};

// The two counts that need |d| itself, for the pairs that were near; only where some |d| is that large.
template <class T>
void count_far_deltas(const Segment& s, RowState& r) {
  using B = Bits<T>;
  for (std::size_t i = 0; i + 32 <= s.n; i += 32) {
    const Pair<T> p(s.a + i * B::kBytes, s.b + i * B::kBytes);
    if (!is_near<T>(larger(p.u0, p.u1))) continue;
    const auto one = [&](const Ints& x, const Ints& y) {
      const Floats ad = magnitude(minus(T::value(x), T::value(y)));
      const Mask mismatch = any_bit(differ(x, y), splat(B::kInf));
      // Near differences are exact floats, and 0.2f is the first float above 0.2.
      r.match_far += ones(without(at_least(ad, splat_float(0.2f)), mismatch));
      r.mismatch_far += ones(all_of(above(ad, splat_float(5)), mismatch));
    };
    one(p.x0, p.y0);
    one(p.x1, p.y1);
  }
}

template <class T, bool kSeed>
void finish_near(const Near<T, kSeed>& near, std::size_t elements, const Segment& s, RowState& r) {
  const NearCounts& c = near.c;
  const std::uint64_t equal = elements - sum(near.unequal);
  r.mismatch += c.mismatch;
  r.large += c.large;
  r.small += elements - c.not_small;
  r.exact += equal;
  r.bit_equal += equal;
  r.seed_exponent += T::kHalf ? c.seed_exponent : c.mismatch;
  const std::uint32_t ulp = largest(near.ulp);
  const float most = std::bit_cast<float>(largest(near.most));
  r.ulp_max = r.ulp_max > ulp ? r.ulp_max : ulp;
  r.max_abs_delta = r.max_abs_delta > most ? r.max_abs_delta : most;
  if (most >= 0.2f) count_far_deltas<T>(s, r);
}

// --- one segment --------------------------------------------------------------------------------

template <class T>
Ints load_some(const std::byte* p, std::size_t n) {
  if (n == 16) return T::load(p);
  std::byte padded[64]{};
  __builtin_memcpy(padded, p, n * Bits<T>::kBytes);
  return T::load(padded);
}

// n elements from i on.
template <class T>
[[gnu::always_inline]] inline void far_some(const Segment& s, std::size_t i, std::size_t n, RowState& r, FarSums& sums,
                                            Scratch& scratch) {
  using B = Bits<T>;
  far_pack<T>(load_some<T>(s.a + i * B::kBytes, n), load_some<T>(s.b + i * B::kBytes, n), mask_of((1u << n) - 1), s, r,
              sums, scratch.delta + i);
}
template <class T>
[[gnu::noinline]] void far_range(const Segment& s, std::size_t from, std::size_t to, RowState& r, Scratch& scratch) {
  FarSums sums = load_far_sums(r);
  for (std::size_t i = from; i < to; i += 16) far_some<T>(s, i, to - i < 16 ? to - i : 16, r, sums, scratch);
  store_far_sums(sums, r);
}
template <class T>
[[gnu::noinline]] void far_groups(const Segment& s, const Groups& groups, RowState& r, Scratch& scratch) {
  FarSums sums = load_far_sums(r);
  for (std::size_t g = 0; g < groups.count; ++g) {
    far_some<T>(s, groups.first[g], 16, r, sums, scratch);
    far_some<T>(s, groups.first[g] + 16u, 16, r, sums, scratch);
  }
  store_far_sums(sums, r);
}

// The distances of the block of n <= 16 elements from i on, added `by` times.
template <class T>
[[gnu::noinline]] void far_block(const Segment& s, std::size_t i, std::size_t n, Bins bins, std::uint32_t by) {
  using B = Bits<T>;
  const Mask valid = mask_of((1u << n) - 1);
  const Far<T> f(load_some<T>(s.a + i * B::kBytes, n), load_some<T>(s.b + i * B::kBytes, n), valid);
  far_bins(f.ulp, without(valid, f.special), bins, by);
}
template <class T>
[[gnu::always_inline]] inline void count_block(const Segment& s, std::size_t i, Bins bins, std::uint32_t by) {
  using B = Bits<T>;
  const Ints u = magnitude(minus(T::load(s.a + i * B::kBytes), T::load(s.b + i * B::kBytes)));
  if (is_near<T>(u)) [[likely]] {
    near_bins(u, bins, by);
  } else {
    far_block<T>(s, i, 16, bins, by);
  }
}

// Of the first `whole` elements, a multiple of 32, the near pass counted the blocks as if all elements were finite:
// that is taken back.
template <class T>
[[gnu::noinline]] void recount(const Segment& s, std::size_t whole, Scratch& scratch) {
  for (std::size_t i = 16 * s.phase; i < whole; i += 16 * s.step) {
    count_block<T>(s, i, scratch.bins, 0u - 1);
    far_block<T>(s, i, 16, scratch.bins, 1);
  }
}

// The arithmetic of a group fills the processor's window, so that memory would be waited for. Rows follow one another;
// a prefetch past the end of the files does nothing.
constexpr std::size_t kAhead = 2048;
template <class T>
[[gnu::always_inline]] inline void prefetch(const std::byte* p) {
  for (std::size_t line = 0; line < 2 * Bits<T>::kPack; line += 64) __builtin_prefetch(p + kAhead + line);
}

template <class T, bool kSeed>
void near_segment(const Segment& s, RowState& r, Scratch& scratch) {
  using B = Bits<T>;
  Groups far, apart;
  Near<T, kSeed> near(s, r);
  const std::size_t whole = s.n - s.n % 32;
  std::size_t block = 16 * s.phase;
  for (std::size_t i = 0; i < whole; i += 32) {
    // Counting distances is scalar work that runs beside the vector work.
    for (; block < i + 32; block += 16 * s.step) count_block<T>(s, block, scratch.bins, 1);
    prefetch<T>(s.a + i * B::kBytes);
    prefetch<T>(s.b + i * B::kBytes);
    const Pair<T> p(s.a + i * B::kBytes, s.b + i * B::kBytes);
    const Ints most_ulp = larger(p.u0, p.u1);
    if (!is_near<T>(most_ulp)) [[unlikely]] {
      far.add(i, true);
      continue;
    }
    apart.add(i, !near.close(p, most_ulp));
    near.pair(p, most_ulp, scratch.delta + i);
  }
  if (finite(near.sums)) {
    for (std::size_t g = 0; g < apart.count; ++g)
      near.counts(Pair<T>(s.a + apart.first[g] * B::kBytes, s.b + apart.first[g] * B::kBytes));
    finish_near(near, whole - 32 * far.count, s, r);
    store_sums(near.sums, r);
    far_groups<T>(s, far, r, scratch);
  } else {
    recount<T>(s, whole, scratch);
    far_range<T>(s, 0, whole, r, scratch);
  }
  if (whole == s.n) return;
  far_range<T>(s, whole, s.n, r, scratch);
  for (; block < s.n; block += 16 * s.step)
    far_block<T>(s, block, s.n - block < 16 ? s.n - block : 16, scratch.bins, 1);
}
template <class T>
void segment(const Segment& s, RowState& r, Scratch& scratch) {
  return s.seed ? near_segment<T, true>(s, r, scratch) : near_segment<T, false>(s, r, scratch);
}

// --- seed --------------------------------------------------------------------------------

// NumPy's float32 sum of a contiguous array: eight accumulators over at most 128 elements, halves (first one a multiple
// of 8) above.
inline float finish_leaf(const Eight& r, const float* v, std::size_t at, std::size_t n) {
  alignas(32) float lane[8];
  store(lane, r);
  float sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  for (; at < n; ++at) sum += v[at];
  return sum;
}
inline float leaf_sum(const float* v, std::size_t n) {
  Eight r = load_eight(v);
  std::size_t at = 8;
  for (; at + 8 <= n; at += 8) r = plus(r, load_eight(v + at));
  return finish_leaf(r, v, at, n);
}
// Four leaves of one length at a time: four chains of additions instead of one.
inline float four_leaves(const float* v, std::size_t n) {
  Eight r0 = load_eight(v), r1 = load_eight(v + n), r2 = load_eight(v + 2 * n), r3 = load_eight(v + 3 * n);
  for (std::size_t at = 8; at < n; at += 8) {
    r0 = plus(r0, load_eight(v + at));
    r1 = plus(r1, load_eight(v + n + at));
    r2 = plus(r2, load_eight(v + 2 * n + at));
    r3 = plus(r3, load_eight(v + 3 * n + at));
  }
  const float first = finish_leaf(r0, v, n, n) + finish_leaf(r1, v, n, n);
  return first + (finish_leaf(r2, v, n, n) + finish_leaf(r3, v, n, n));
}

float pairwise_sum(const float* v, std::size_t n) {
  if (n < 8) {
    float sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += v[i];
    return sum;
  }
  if (n <= 128) return leaf_sum(v, n);
  if (n > 256 && n <= 512 && n % 32 == 0) return four_leaves(v, n / 4);
  const std::size_t half = n / 2 - (n / 2) % 8;
  return pairwise_sum(v, half) + pairwise_sum(v + half, n - half);
}

void seed_counts(const float* delta, std::size_t n, const SeedLiterals& lit, SeedCounts& out) {
  const Floats small = splat_float(lit.small), tiny = splat_float(lit.tiny);
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const Floats d0 = load_floats(delta + i), d1 = load_floats(delta + i + 16);
    out.above += count(above(d0, small), above(d1, small));
    out.below += count(below(d0, tiny), below(d1, tiny));
  }
  for (; i < n; ++i) {
    out.above += delta[i] > lit.small;
    out.below += delta[i] < lit.tiny;
  }
}

constexpr Kernels kThese{segment<F32>, segment<F16>, segment<BF16>, pairwise_sum, seed_counts};

}  // namespace
}  // namespace concord::detail
