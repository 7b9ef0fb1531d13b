// Sixteen elements at a time in plain C++: what every processor runs, and what the other two are tested against.
#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.hpp"

namespace concord::detail {
namespace {

template <class T, std::size_t kCount>
struct Vector {
  T v[kCount];
};
using Ints = Vector<std::uint32_t, 16>;
using Floats = Vector<float, 16>;
using Doubles = Vector<double, 8>;
struct Mask {
  std::uint32_t bits;
};

template <class R, class F>
R make(F f) {
  R out;
  for (std::size_t i = 0; i < sizeof(out.v) / sizeof(out.v[0]); ++i) out.v[i] = f(i);
  return out;
}
template <class F>
Mask make_mask(F f) {
  std::uint32_t out = 0;
  for (unsigned i = 0; i < 16; ++i) out |= static_cast<std::uint32_t>(f(i)) << i;
  return {out};
}

inline Ints splat(std::uint32_t v) {
  return make<Ints>([&](std::size_t) { return v; });
}
inline Floats splat_float(float v) {
  return make<Floats>([&](std::size_t) { return v; });
}
inline Doubles splat_double(double v) {
  return make<Doubles>([&](std::size_t) { return v; });
}
inline Ints load32(const std::byte* p) {
  Ints out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
inline Ints load16(const std::byte* p) {
  std::uint16_t raw[16];
  std::memcpy(raw, p, sizeof raw);
  return make<Ints>([&](std::size_t i) { return raw[i]; });
}
inline Floats load_floats(const float* p) {
  Floats out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
inline Doubles load_doubles(const double* p) {
  Doubles out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
inline void store(float* p, const Floats& v) { std::memcpy(p, &v, sizeof v); }
inline void store(std::uint32_t* p, const Ints& v) { std::memcpy(p, &v, sizeof v); }
inline void store(double* p, const Doubles& v) { std::memcpy(p, &v, sizeof v); }

inline Ints plus(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
inline Ints minus(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}
inline Ints magnitude(const Ints& a) {
  return make<Ints>([&](std::size_t i) { return a.v[i] >> 31 ? 0u - a.v[i] : a.v[i]; });
}
inline Ints larger(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Ints smaller(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Ints any_of(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] | b.v[i]; });
}
inline Ints both(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] & b.v[i]; });
}
inline Ints differ(const Ints& a, const Ints& b) {
  return make<Ints>([&](std::size_t i) { return a.v[i] ^ b.v[i]; });
}
template <int kBits>
Ints right(const Ints& a) {
  return make<Ints>([&](std::size_t i) { return a.v[i] >> kBits; });
}
template <int kBits>
Ints left(const Ints& a) {
  return make<Ints>([&](std::size_t i) { return a.v[i] << kBits; });
}

template <class V>
Mask at_least(const V& a, const V& b) {
  return make_mask([&](unsigned i) { return a.v[i] >= b.v[i]; });
}
inline Mask at_most(const Ints& a, const Ints& b) {
  return make_mask([&](unsigned i) { return a.v[i] <= b.v[i]; });
}
inline Mask equal(const Ints& a, const Ints& b) {
  return make_mask([&](unsigned i) { return a.v[i] == b.v[i]; });
}
inline Mask any_bit(const Ints& a, const Ints& b) {
  return make_mask([&](unsigned i) { return (a.v[i] & b.v[i]) != 0; });
}
inline Mask above(const Floats& a, const Floats& b) {
  return make_mask([&](unsigned i) { return a.v[i] > b.v[i]; });
}
inline Mask below(const Floats& a, const Floats& b) {
  return make_mask([&](unsigned i) { return a.v[i] < b.v[i]; });
}
inline Mask all_of(Mask a, Mask b) { return {a.bits & b.bits}; }
inline Mask any_of(Mask a, Mask b) { return {a.bits | b.bits}; }
inline Mask without(Mask a, Mask b) { return {a.bits & ~b.bits}; }
inline bool none(Mask a) { return a.bits == 0; }
inline std::uint32_t bits(Mask a) { return a.bits; }
inline std::uint32_t count(Mask a, Mask b) {
  return static_cast<std::uint32_t>(__builtin_popcount(bits(a) | bits(b) << 16));
}
inline Mask mask_of(std::uint32_t bits) { return {bits & 0xffffu}; }
inline Ints pick(Mask m, const Ints& a) {
  return make<Ints>([&](std::size_t i) { return a.v[i] & (0u - (m.bits >> i & 1u)); });
}
inline Ints choose(Mask m, const Ints& yes, const Ints& no) {
  return make<Ints>([&](std::size_t i) { return m.bits >> i & 1u ? yes.v[i] : no.v[i]; });
}
inline std::uint32_t above_bits(const Doubles& a, double limit) {
  std::uint32_t out = 0;
  for (unsigned i = 0; i < 8; ++i) out |= static_cast<std::uint32_t>(a.v[i] > limit) << i;
  return out;
}

inline Floats as_floats(const Ints& a) { return std::bit_cast<Floats>(a); }
inline Ints as_ints(const Floats& a) { return std::bit_cast<Ints>(a); }
inline Floats to_floats(const Ints& a) {
  return make<Floats>([&](std::size_t i) { return static_cast<float>(static_cast<std::int32_t>(a.v[i])); });
}
inline Floats from_half(const Ints& a) {
  return make<Floats>([&](std::size_t i) { return f16_to_f32(static_cast<std::uint16_t>(a.v[i])); });
}
inline Floats load_half(const std::byte* p) { return from_half(load16(p)); }
inline Floats round_to_half(const Floats& a) {
  return make<Floats>([&](std::size_t i) { return f16_to_f32(f32_to_f16(a.v[i])); });
}
inline Floats minus(const Floats& a, const Floats& b) {
  return make<Floats>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}
inline Floats magnitude(const Floats& a) {
  return make<Floats>([&](std::size_t i) { return std::fabs(a.v[i]); });
}
inline Floats larger(const Floats& a, const Floats& b) {
  return make<Floats>([&](std::size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Doubles low(const Floats& a) {
  return make<Doubles>([&](std::size_t i) { return static_cast<double>(a.v[i]); });
}
inline Doubles high(const Floats& a) {
  return make<Doubles>([&](std::size_t i) { return static_cast<double>(a.v[8 + i]); });
}
inline Doubles load_widened(const std::byte* p) {
  Vector<float, 8> narrow;
  std::memcpy(&narrow, p, sizeof narrow);
  return make<Doubles>([&](std::size_t i) { return static_cast<double>(narrow.v[i]); });
}
inline Doubles plus(const Doubles& a, const Doubles& b) {
  return make<Doubles>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
inline Doubles minus(const Doubles& a, const Doubles& b) {
  return make<Doubles>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}
inline Doubles times(const Doubles& a, const Doubles& b) {
  return make<Doubles>([&](std::size_t i) { return a.v[i] * b.v[i]; });
}
inline Doubles magnitude(const Doubles& a) {
  return make<Doubles>([&](std::size_t i) { return std::fabs(a.v[i]); });
}
inline Doubles larger(const Doubles& a, const Doubles& b) {
  return make<Doubles>([&](std::size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Doubles add_exact_product(const Doubles& sum, const Doubles& a, const Doubles& b) {
  return make<Doubles>([&](std::size_t i) { return sum.v[i] + a.v[i] * b.v[i]; });
}

inline void store_upper_halves(std::uint16_t* p, const Ints& a, std::uint16_t offset) {
  for (std::size_t i = 0; i < 16; ++i) {
    const std::uint32_t word = a.v[i] >> 16;
    p[i] = static_cast<std::uint16_t>(word > offset ? word - offset : 0);
  }
}

inline std::uint32_t sum(const Ints& a) {
  std::uint32_t total = 0;
  for (std::uint32_t x : a.v) total += x;
  return total;
}
template <class T, std::size_t kCount>
T largest(const Vector<T, kCount>& a) {
  T most = a.v[0];
  for (T x : a.v) most = most > x ? most : x;
  return most;
}

using Eight = Vector<float, 8>;
inline Eight load_eight(const float* p) {
  Eight out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
inline void store(float* p, const Eight& v) { std::memcpy(p, &v, sizeof v); }
inline Eight plus(const Eight& a, const Eight& b) {
  return make<Eight>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}

}  // namespace
}  // namespace concord::detail
