// Elements are taken in tiles that stay in the first-level cache: an integer pass decomposes the bits, a double pass
// sums the values, a third one fills the histogram. Loops are branch-free over plain arrays, so that the compiler can
// vectorise them; sums go through eight lanes added in a fixed order, which makes the result a function of the data
// alone.
#include "compare/accumulate.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

namespace concord::detail {
namespace {

constexpr std::size_t kTile = 1024, kLanes = 8;

struct F32 {
  using Bits = std::uint32_t;
  static constexpr unsigned kMantissa = 23, kWidth = 32;
  static double value(std::uint32_t bits) { return std::bit_cast<float>(bits); }
};
struct BF16 {
  using Bits = std::uint16_t;
  static constexpr unsigned kMantissa = 7, kWidth = 16;
  static double value(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
};
struct F16 {
  using Bits = std::uint16_t;
  static constexpr unsigned kMantissa = 10, kWidth = 16;
  // (M + implicit bit) * 2^(max(E, 1) - 25): exact and without a denormal float, for finite values.
  static double value(std::uint32_t bits) {
    const std::uint32_t e = (bits >> 10) & 31u, normal = e != 0;
    const float m = static_cast<float>(static_cast<std::int32_t>((bits & 1023u) + (normal << 10)));
    const float scale = std::bit_cast<float>((e + (1 - normal) + 102u) << 23);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(m * scale) | (bits & 0x8000u) << 16);
  }
};

struct Limits {
  std::uint32_t large, small;  // raw mantissa gaps: large means >= large, small means <= small
};
template <class F>
Limits limits(const MetricParameters& p) {  // exact: 2^p is a power of two
  const double scale = static_cast<double>(1u << F::kMantissa);
  return {static_cast<std::uint32_t>(std::ceil(p.tau_m * scale)),
          static_cast<std::uint32_t>(std::floor(p.tau_w * scale))};
}

struct Tile {
  alignas(64) std::uint32_t a[kTile], b[kTile], ulp[kTile], mismatch[kTile];
  alignas(64) double x[kTile], y[kTile];
};

// Pads to whole lanes with zeros, which add nothing to any sum.
template <class F>
std::size_t load(const std::byte* from, std::size_t n, std::uint32_t* to) {
  typename F::Bits raw[kTile];
  std::memcpy(raw, from, n * sizeof(raw[0]));
  for (std::size_t i = 0; i < n; ++i) to[i] = raw[i];
  const std::size_t padded = (n + kLanes - 1) / kLanes * kLanes;
  std::fill(to + n, to + padded, 0u);
  return padded;
}

struct Counts {
  std::uint32_t special = 0, both_nonfinite = 0, bit_equal = 0, sign_flips = 0, mismatch = 0, large = 0, small = 0,
                exact = 0, ulp_max = 0;
};

// Decomposes the bits. Elements that are not finite on both sides leave as a pair of zeros: they agree, add nothing,
// and `special` is taken out later.
template <class F>
Counts integer_pass(Tile& t, std::size_t n, Limits lim) {
  constexpr std::uint32_t kSign = 1u << (F::kWidth - 1), kAbs = kSign - 1, kMask = (1u << F::kMantissa) - 1,
                          kInf = kAbs & ~kMask;
  Counts c;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t x = t.a[i], y = t.b[i];
    const std::uint32_t fin = ((x & kAbs) < kInf) & ((y & kAbs) < kInf);
    const std::uint32_t both_nan = ((x & kAbs) > kInf) & ((y & kAbs) > kInf);
    const std::uint32_t same = both_nan | (((x & kAbs) == kInf) & (x == y));
    const std::uint32_t keep = 0u - fin, u = x & keep, v = y & keep, ua = u & kAbs, va = v & kAbs;
    const std::uint32_t flip = (((u ^ v) & kSign) != 0) & (ua != 0) & (va != 0);
    const std::uint32_t mismatch = ((ua >> F::kMantissa) != (va >> F::kMantissa)) | flip;
    const std::uint32_t mu = ua & kMask, mv = va & kMask, gap = mu > mv ? mu - mv : mv - mu;
    const std::uint32_t ulp = flip ? ua + va : (ua > va ? ua - va : va - ua);
    c.special += (1 - fin) & (1 - same);
    c.both_nonfinite += same;
    c.bit_equal += x == y;
    c.sign_flips += flip;
    c.mismatch += mismatch;
    c.large += mismatch & (gap >= lim.large);
    c.small += (1 - mismatch) & (gap <= lim.small);
    c.exact += ulp == 0;
    c.ulp_max = std::max(c.ulp_max, ulp);
    t.a[i] = u;
    t.b[i] = v;
    t.ulp[i] = ulp;
    t.mismatch[i] = mismatch;
  }
  return c;
}

struct Lanes {
  double delta[kLanes]{}, abs_delta[kLanes]{}, sq_delta[kLanes]{}, abs_b[kLanes]{}, sq_b[kLanes]{}, sq_a[kLanes]{},
      ab[kLanes]{}, max[kLanes]{};
  std::uint64_t match_large[kLanes]{}, mismatch_large[kLanes]{};
};
template <class T>
T fold(const T (&v)[kLanes]) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

template <class F>
void double_pass(Tile& t, std::size_t padded, Lanes& s) {
  for (std::size_t i = 0; i < padded; ++i) t.x[i] = F::value(t.a[i]);
  for (std::size_t i = 0; i < padded; ++i) t.y[i] = F::value(t.b[i]);
  for (std::size_t i = 0; i < padded; i += kLanes) {
    for (std::size_t l = 0; l < kLanes; ++l) {
      const double x = t.x[i + l], y = t.y[i + l], d = x - y, ad = std::fabs(d);
      s.delta[l] += d;
      s.abs_delta[l] += ad;
      s.sq_delta[l] += d * d;
      s.abs_b[l] += std::fabs(y);
      s.sq_b[l] += y * y;
      s.sq_a[l] += x * x;
      s.ab[l] += x * y;
      s.max[l] = s.max[l] > ad ? s.max[l] : ad;
    }
    for (std::size_t l = 0; l < kLanes; ++l) {
      const double ad = std::fabs(t.x[i + l] - t.y[i + l]);
      const std::uint64_t m = t.mismatch[i + l];
      s.match_large[l] += (1 - m) & static_cast<std::uint64_t>(ad > 0.2);
      s.mismatch_large[l] += m & static_cast<std::uint64_t>(ad > 5.0);
    }
  }
}

void add_counts(const Counts& c, const Lanes& s, std::size_t n, ElementStats& into) {
  const std::uint64_t match_large = fold(s.match_large), mismatch_large = fold(s.mismatch_large);
  into.count += n;
  into.special += c.special;
  into.both_nonfinite += c.both_nonfinite;
  into.bit_equal += c.bit_equal;
  into.sign_flips += c.sign_flips;
  into.exponent_mismatch += c.mismatch;
  into.mismatch_large += c.large;
  into.match_small += c.small - c.special;
  // Two finite values that differ differ by something: float differences never round to zero in double. So `exact` lies
  // within the matches.
  into.partition[0] += c.exact - c.special;
  into.partition[1] += n - c.mismatch - c.exact - match_large;
  into.partition[2] += match_large;
  into.partition[3] += c.mismatch - mismatch_large;
  into.partition[4] += mismatch_large;
  into.ulp_max = std::max<std::uint64_t>(into.ulp_max, c.ulp_max);
}

void add_sums(const Lanes& s, ElementStats& into) {
  into.sum_delta += fold(s.delta);
  into.sum_abs_delta += fold(s.abs_delta);
  into.sum_sq_delta += fold(s.sq_delta);
  into.sum_abs_b += fold(s.abs_b);
  into.sum_sq_b += fold(s.sq_b);
  into.sum_sq_a += fold(s.sq_a);
  into.sum_ab += fold(s.ab);
  into.max_abs_delta = std::max(into.max_abs_delta, *std::max_element(s.max, s.max + kLanes));
}

template <class F>
void run(const std::byte* a, const std::byte* b, std::size_t n, const MetricParameters& parameters,
         ElementStats& into) {
  const Limits lim = limits<F>(parameters);
  Tile t;
  for (std::size_t done = 0; done < n; done += kTile) {
    const std::size_t m = std::min(kTile, n - done), offset = done * sizeof(typename F::Bits);
    load<F>(a + offset, m, t.a);
    const std::size_t padded = load<F>(b + offset, m, t.b);
    std::fill(t.mismatch + m, t.mismatch + padded, 0u);
    const Counts c = integer_pass<F>(t, m, lim);
    Lanes s;
    double_pass<F>(t, padded, s);
    add_counts(c, s, m, into);
    add_sums(s, into);
    if (into.ulp_histogram.empty()) continue;
    for (std::size_t i = 0; i < m; ++i) ++into.ulp_histogram[ulp_bin(t.ulp[i])];
    into.ulp_histogram[0] -= c.special;
  }
}

}  // namespace

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

void accumulate(DType dtype, const std::byte* a, const std::byte* b, std::size_t n, const MetricParameters& parameters,
                ElementStats& into) {
  switch (dtype) {
    case DType::kF32:
      return run<F32>(a, b, n, parameters, into);
    case DType::kF16:
      return run<F16>(a, b, n, parameters, into);
    case DType::kBF16:
      return run<BF16>(a, b, n, parameters, into);
    default:
      assert(!"only F32, F16 and BF16 are compared");
  }
}

}  // namespace concord::detail
