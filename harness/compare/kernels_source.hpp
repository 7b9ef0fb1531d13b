// Included by each kernels_*.cpp after the vectors of its instruction set; everything here has internal linkage.
//
// Nearly all pairs of elements of two honest captures have one sign and lie within one octave ("near"): there the ulp
// distance is the difference of the bits, and the quantities of docs/metrics.md follow from it and from which exponents
// differ. 32 elements with any pair that is not near go through the full definitions instead (Far). Both add the same
// numbers to the same sums in the same order, so which one was taken cannot show.
#pragma once
#include "compare/kernels.hpp"

namespace concord::detail {
namespace {

struct F32 {
  static constexpr unsigned kMantissa = 23, kWidth = 32;
  static constexpr bool kHalf = false;
  static Ints load(const std::byte* p) { return load32(p); }
  static Floats value(const Ints& x) { return as_floats(x); }
};
struct F16 {
  static constexpr unsigned kMantissa = 10, kWidth = 16;
  static constexpr bool kHalf = true;
  static Ints load(const std::byte* p) { return load16(p); }
  static Floats value(const Ints& x) { return from_half(x); }
};
struct BF16 {
  static constexpr unsigned kMantissa = 7, kWidth = 16;
  static constexpr bool kHalf = false;
  static Ints load(const std::byte* p) { return load16(p); }
  static Floats value(const Ints& x) { return as_floats(left<16>(x)); }
};

template <class T>
struct Bits {
  static constexpr std::uint32_t kSign = 1u << (T::kWidth - 1), kAbs = kSign - 1, kOctave = 1u << T::kMantissa,
                                 kMantissaMask = kOctave - 1, kInf = kAbs & ~kMantissaMask;
  static constexpr std::size_t kBytes = T::kWidth / 8, kPack = 16 * kBytes;
};

// --- sums ------------------------------------------------------------------------------------------------------------

struct Sums {
  Doubles delta, abs_delta, sq_delta, abs_b, sq_b, sq_a, ab;
};

// Near elements differ by a number of at most 24 bits (Sterbenz), so every product here is exact in double.
inline void add_near(const Doubles& x, const Doubles& y, Sums& s) {
  const Doubles d = minus(x, y);
  s.delta = plus(s.delta, d);
  s.abs_delta = plus(s.abs_delta, magnitude(d));
  s.sq_delta = add_exact_product(s.sq_delta, d, d);
  s.abs_b = plus(s.abs_b, magnitude(y));
  s.sq_b = add_exact_product(s.sq_b, y, y);
  s.sq_a = add_exact_product(s.sq_a, x, x);
  s.ab = add_exact_product(s.ab, x, y);
}
inline Doubles add_far(const Doubles& x, const Doubles& y, Sums& s) {
  const Doubles d = minus(x, y), ad = magnitude(d);
  s.delta = plus(s.delta, d);
  s.abs_delta = plus(s.abs_delta, ad);
  s.sq_delta = plus(s.sq_delta, times(d, d));
  s.abs_b = plus(s.abs_b, magnitude(y));
  s.sq_b = add_exact_product(s.sq_b, y, y);
  s.sq_a = add_exact_product(s.sq_a, x, x);
  s.ab = add_exact_product(s.ab, x, y);
  return ad;
}

inline Sums load_sums(const RowState& r) {
  return {load_doubles(r.lanes[RowState::kDelta]),   load_doubles(r.lanes[RowState::kAbsDelta]),
          load_doubles(r.lanes[RowState::kSqDelta]), load_doubles(r.lanes[RowState::kAbsB]),
          load_doubles(r.lanes[RowState::kSqB]),     load_doubles(r.lanes[RowState::kSqA]),
          load_doubles(r.lanes[RowState::kAb])};
}
inline void store_sums(const Sums& s, RowState& r) {
  store(r.lanes[RowState::kDelta], s.delta);
  store(r.lanes[RowState::kAbsDelta], s.abs_delta);
  store(r.lanes[RowState::kSqDelta], s.sq_delta);
  store(r.lanes[RowState::kAbsB], s.abs_b);
  store(r.lanes[RowState::kSqB], s.sq_b);
  store(r.lanes[RowState::kSqA], s.sq_a);
  store(r.lanes[RowState::kAb], s.ab);
}
// Sums of finite numbers are finite in double: anything else says that an element was not.
inline bool finite(const Sums& s) {
  const Doubles room = minus(splat_double(__DBL_MAX__), plus(s.sq_a, s.sq_b));
  return above_bits(room, -1) == 0xffu;
}

// --- the histogram of distances --------------------------------------------------------------------------------

constexpr std::uint16_t kOneIsBinOne = (127u << 7) - 1;  // upper half of 1.0f, less one
constexpr std::size_t kBinOfOne = 1, kBinOfTwo = 1 + 128, kBinOfThree = 1 + 128 + 64;

using Bins = std::uint32_t (&)[4][kFineBins];

// Indices are read back from memory: taking a register apart costs more of what is scarce here.
inline void keep_in_memory(std::uint16_t* index) {
  asm volatile("" : "+m"(*reinterpret_cast<std::uint16_t(*)[32]>(index)));
}
template <int kCount>
inline void bump(Bins bins, const std::uint16_t* index, std::uint32_t by) {
#pragma GCC unroll 32
  for (int i = 0; i < kCount; i += 4) {
    std::uint64_t four;
    __builtin_memcpy(&four, index + i, sizeof four);
    bins[0][four & 0xffff] += by;
    bins[1][four >> 16 & 0xffff] += by;
    bins[2][four >> 32 & 0xffff] += by;
    bins[3][four >> 48] += by;
  }
}
// Distances below 2^24 are exact floats, whose upper half is the exponent and seven more bits.
inline void near_bins(const Ints& u, const Ints& v, std::uint16_t* index) {
  store_upper_halves(index, as_ints(to_floats(u)), as_ints(to_floats(v)), kOneIsBinOne);
  keep_in_memory(index);
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
inline void far_bins(const Ints& u, Mask counted_u, const Ints& v, Mask counted_v, Bins bins, std::uint32_t by) {
  alignas(64) std::uint16_t index[32];
  store_upper_halves(index, wide_float(pick(counted_u, u)), wide_float(pick(counted_v, v)), kOneIsBinOne);
  keep_in_memory(index);
  bump<32>(bins, index, by);
  bins[0][0] -= by * (32 - count(counted_u, counted_v));
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

// 16 elements, of which `valid` are there; the others must be zeros on both sides. Returns the distances.
template <class T>
[[gnu::always_inline]] inline Ints far_pack(const Ints& a, const Ints& b, Mask valid, const Segment& s, RowState& r,
                                            Sums& sums, float* delta, Mask& counted) {
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
  counted = without(valid, f.special);
  return f.ulp;
}

// --- near --------------------------------------------------------------------------------

template <class T>
struct Pair {  // 32 elements of both sides
  Ints x0, x1, y0, y1, u0, u1;
  Pair(const std::byte* a, const std::byte* b)
      : x0(T::load(a)), x1(T::load(a + Bits<T>::kPack)), y0(T::load(b)), y1(T::load(b + Bits<T>::kPack)) {
    u0 = magnitude(minus(x0, y0));
    u1 = magnitude(minus(x1, y1));
  }
};

struct NearCounts {
  std::uint64_t mismatch = 0, large = 0, small = 0, zero = 0, seed_exponent = 0;
};

template <class T>
struct Near {
  using B = Bits<T>;
  const Segment& s;
  Scratch& scratch;
  Sums sums;
  NearCounts c;
  Floats most = splat_float(0);
  Ints ulp = splat(0);

  // The histogram is scalar work: it is spread among the vector work.
  template <bool kDistances>
  void pack(const Ints& x, const Ints& y, std::size_t i, const std::uint16_t* index) {
    const Floats fx = T::value(x), fy = T::value(y), ad = magnitude(minus(fx, fy));
    most = larger(most, ad);
    if (s.seed) store(scratch.delta + i, T::kHalf ? round_to_half(ad) : ad);
    if constexpr (kDistances) bump<8>(scratch.bins, index, 1);
    add_near(low(fx), low(fy), sums);
    if constexpr (kDistances) bump<8>(scratch.bins, index + 8, 1);
    add_near(high(fx), high(fy), sums);
  }
  void counts(const Pair<T>& p) {
    const Ints inf = splat(B::kInf), small = splat(s.small), large = splat(B::kOctave - s.large);
    const Mask m0 = any_bit(differ(p.x0, p.y0), inf), m1 = any_bit(differ(p.x1, p.y1), inf);
    c.mismatch += count(m0, m1);
    // Exponents that differ by one: the raw mantissas are an octave less the distance apart.
    c.large += count(all_of(m0, at_most(p.u0, large)), all_of(m1, at_most(p.u1, large)));
    c.small += count(without(at_most(p.u0, small), m0), without(at_most(p.u1, small), m1));
    if constexpr (T::kHalf) {  // the seed looks at the exponents after widening, where denormals have their own
      const auto seed = [](const Ints& x, const Ints& y) {
        return any_bit(differ(as_ints(T::value(x)), as_ints(T::value(y))), splat(0x7f800000u));
      };
      c.seed_exponent += count(seed(p.x0, p.y0), seed(p.x1, p.y1));
    }
  }
  // Where all distances are 0, 1, 2 or 3 each is counted by comparing.
  static constexpr std::uint32_t kFew = 4;
  void few_distances(const Pair<T>& p) {
    const auto up_to = [&](std::uint32_t n) { return count(at_most(p.u0, splat(n)), at_most(p.u1, splat(n))); };
    const std::uint32_t zero = up_to(0), one = up_to(1), two = up_to(2);
    c.zero += zero;
    scratch.bins[0][0] += zero;
    scratch.bins[0][kBinOfOne] += one - zero;
    scratch.bins[0][kBinOfTwo] += two - one;
    scratch.bins[0][kBinOfThree] += 32 - two;
  }
  void pair(const Pair<T>& p, const Ints& most_ulp, std::size_t i) {
    ulp = larger(ulp, most_ulp);
    counts(p);
    if (none(at_least(most_ulp, splat(kFew)))) {
      few_distances(p);
      pack<false>(p.x0, p.y0, i, nullptr);
      pack<false>(p.x1, p.y1, i + 16, nullptr);
      return;
    }
    c.zero += count(equal(p.u0, splat(0)), equal(p.u1, splat(0)));
    alignas(64) std::uint16_t index[32];
    near_bins(p.u0, p.u1, index);
    pack<true>(p.x0, p.y0, i, index);
    pack<true>(p.x1, p.y1, i + 16, index + 16);
  }
};

template <class T>
bool is_near(const Ints& most_ulp) {
  return none(at_least(most_ulp, splat(Bits<T>::kOctave)));
}

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

template <class T>
void finish_near(const Near<T>& near, const Segment& s, RowState& r) {
  const NearCounts& c = near.c;
  r.mismatch += c.mismatch;
  r.large += c.large;
  r.small += c.small;
  r.exact += c.zero;
  r.bit_equal += c.zero;
  r.seed_exponent += T::kHalf ? c.seed_exponent : c.mismatch;
  const std::uint32_t ulp = largest(near.ulp);
  const float most = largest(near.most);
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

// n elements from `i` on, at most 32.
template <class T>
[[gnu::always_inline]] inline void far_pair(const Segment& s, std::size_t i, std::size_t n, RowState& r, Sums& sums,
                                            Scratch& scratch) {
  using B = Bits<T>;
  const std::size_t n0 = n < 16 ? n : 16, n1 = n - n0;
  const std::byte *a = s.a + i * B::kBytes, *b = s.b + i * B::kBytes;
  const Mask all0 = mask_of((1u << n0) - 1), all1 = mask_of((1u << n1) - 1);
  Mask counted0, counted1;
  const Ints u = far_pack<T>(load_some<T>(a, n0), load_some<T>(b, n0), all0, s, r, sums, scratch.delta + i, counted0);
  const Ints v = far_pack<T>(load_some<T>(a + n0 * B::kBytes, n1), load_some<T>(b + n0 * B::kBytes, n1), all1, s, r,
                             sums, scratch.delta + i + 16, counted1);
  far_bins(u, counted0, v, counted1, scratch.bins, 1);
}
template <class T>
[[gnu::noinline]] void far_range(const Segment& s, std::size_t from, std::size_t to, RowState& r, Sums& sums,
                                 Scratch& scratch) {
  for (std::size_t i = from; i < to; i += 32) far_pair<T>(s, i, to - i < 32 ? to - i : 32, r, sums, scratch);
}

// Takes back what the near pass counted before it met an element that is not finite.
template <class T>
void undo_bins(const Segment& s, Scratch& scratch) {
  using B = Bits<T>;
  const Mask all = mask_of(0xffffu);
  alignas(64) std::uint16_t index[32];
  for (std::size_t i = 0; i + 32 <= s.n; i += 32) {
    const Pair<T> p(s.a + i * B::kBytes, s.b + i * B::kBytes);
    if (is_near<T>(larger(p.u0, p.u1))) {
      near_bins(p.u0, p.u1, index);
      bump<32>(scratch.bins, index, 0u - 1);
    } else {
      const Far<T> first(p.x0, p.y0, all), second(p.x1, p.y1, all);
      far_bins(first.ulp, without(all, first.special), second.ulp, without(all, second.special), scratch.bins, 0u - 1);
    }
  }
}

// Copies keep the running sums of the caller in registers: nothing holds their address.
template <class T>
[[gnu::noinline]] void far_32(const Segment& s, std::size_t i, RowState& r, Sums& sums, Scratch& scratch) {
  far_pair<T>(s, i, 32, r, sums, scratch);
}

template <class T>
void segment(const Segment& s, RowState& state, Scratch& scratch) {
  using B = Bits<T>;
  RowState r = state;
  Near<T> near{s, scratch, load_sums(r), {}};
  const std::size_t whole = s.n - s.n % 32;
  for (std::size_t i = 0; i < whole; i += 32) {
    const Pair<T> p(s.a + i * B::kBytes, s.b + i * B::kBytes);
    const Ints most_ulp = larger(p.u0, p.u1);
    if (!is_near<T>(most_ulp)) [[unlikely]] {
      Sums copy = near.sums;
      far_32<T>(s, i, r, copy, scratch);
      near.sums = copy;
      continue;
    }
    near.pair(p, most_ulp, i);
  }
  Sums sums = near.sums;
  if (finite(sums)) {
    finish_near(near, s, r);
  } else {
    undo_bins<T>(s, scratch);
    r = state;
    sums = load_sums(r);
    far_range<T>(s, 0, whole, r, sums, scratch);
  }
  far_range<T>(s, whole, s.n, r, sums, scratch);
  store_sums(sums, r);
  state = r;
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
