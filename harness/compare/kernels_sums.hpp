// The running sums of kernels_source.hpp, written in the vectors of one instruction set like the rest of it.
#pragma once
#include "compare/kernels.hpp"

namespace concord::detail {
namespace {

// Of near pairs, whose difference is an exact float of at most 24 bits (Sterbenz), so that every product here is exact
// in double. The sums of a * a and a * b follow from these, well conditioned because |a| is within an octave of |b|.
struct Sums {
  Doubles delta, abs_delta, sq_delta, abs_b, sq_b, bd;
};
inline void add_near(const Doubles& d, const Doubles& y, Sums& s) {
  s.delta = plus(s.delta, d);
  s.abs_delta = plus(s.abs_delta, magnitude(d));
  s.sq_delta = add_exact_product(s.sq_delta, d, d);
  s.abs_b = plus(s.abs_b, magnitude(y));
  s.sq_b = add_exact_product(s.sq_b, y, y);
  s.bd = add_exact_product(s.bd, y, d);
}
inline Sums load_sums(const RowState& r) {
  return {load_doubles(r.near[RowState::kDelta]),   load_doubles(r.near[RowState::kAbsDelta]),
          load_doubles(r.near[RowState::kSqDelta]), load_doubles(r.near[RowState::kAbsB]),
          load_doubles(r.near[RowState::kSqB]),     load_doubles(r.near[RowState::kBd])};
}
inline void store_sums(const Sums& s, RowState& r) {
  store(r.near[RowState::kDelta], s.delta);
  store(r.near[RowState::kAbsDelta], s.abs_delta);
  store(r.near[RowState::kSqDelta], s.sq_delta);
  store(r.near[RowState::kAbsB], s.abs_b);
  store(r.near[RowState::kSqB], s.sq_b);
  store(r.near[RowState::kBd], s.bd);
}
// Sums of finite numbers are finite in double: anything else says that an element was not.
inline bool finite(const Sums& s) {
  const Doubles room = minus(splat_double(__DBL_MAX__), plus(s.sq_delta, s.sq_b));
  return above_bits(room, -1) == 0xffu;
}

// Of far pairs, which are kept apart: their differences are rounded, and a * a says nothing about b * b.
struct FarSums {
  Doubles delta, abs_delta, sq_delta, abs_b, sq_b, sq_a, ab;
};
inline FarSums load_far_sums(const RowState& r) {
  return {load_doubles(r.far[RowState::kDelta]),   load_doubles(r.far[RowState::kAbsDelta]),
          load_doubles(r.far[RowState::kSqDelta]), load_doubles(r.far[RowState::kAbsB]),
          load_doubles(r.far[RowState::kSqB]),     load_doubles(r.far[RowState::kSqA]),
          load_doubles(r.far[RowState::kAb])};
}
inline void store_far_sums(const FarSums& s, RowState& r) {
  store(r.far[RowState::kDelta], s.delta);
  store(r.far[RowState::kAbsDelta], s.abs_delta);
  store(r.far[RowState::kSqDelta], s.sq_delta);
  store(r.far[RowState::kAbsB], s.abs_b);
  store(r.far[RowState::kSqB], s.sq_b);
  store(r.far[RowState::kSqA], s.sq_a);
  store(r.far[RowState::kAb], s.ab);
}
// Returns |x - y|.
inline Doubles add_far(const Doubles& x, const Doubles& y, FarSums& s) {
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

}  // namespace
}  // namespace concord::detail
