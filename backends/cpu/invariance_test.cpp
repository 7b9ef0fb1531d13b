// What a token gets does not depend on the tokens beside it: prefill, chunks, batches and decode give the same bits.
// That is declared by every variant whose matmul is our own; cpu:onednn promises it for attention alone.
#include <fmt/format.h>

#include "abi/testing/bench.hpp"

namespace concord::testing {
namespace {

DType act() { return activation_dtypes().front(); }

// The part of `bits` that belongs to rows [first, first + count) of `rows`.
std::vector<std::byte> part(const std::vector<std::byte>& bits, std::size_t rows, std::size_t first, std::size_t count) {
  const std::size_t row = bits.size() / rows;
  return {bits.begin() + static_cast<std::ptrdiff_t>(first * row),
          bits.begin() + static_cast<std::ptrdiff_t>((first + count) * row)};
}

TEST(Invariance, MatmulOfATokenDoesNotDependOnTheOthers) {
  if (device_id() == "cpu:onednn") GTEST_SKIP() << "the library does not promise it";
  constexpr std::int64_t kTokens = 301, kRows = 100, kCols = 1100;
  const Values x = noise(1, kTokens * kCols);
  for (const WeightForm& form : kWeightForms) {
    Bench b(subject());
    const HostWeight w = make_weight(form, kRows, kCols, act(), 3);
    concord_weight* weight = b.weight(w.desc);
    const auto run = [&](std::int64_t first, std::int64_t count) {
      concord_call c = make_call(CONCORD_OP_MATMUL);
      c.n_in = c.n_out = 1, c.weight = weight;
      const auto at = x.begin() + first * kCols;
      c.in[0] = b.put(act(), {count, kCols}, Values(at, at + count * kCols)), c.out[0] = b.room(act(), {count, kRows});
      EXPECT_TRUE(b.run(c).has_value());
      return b.bits(c.out[0]);
    };
    const auto whole = run(0, kTokens);
    for (const auto& [first, count] : std::vector<std::pair<int, int>>{{0, 1}, {300, 1}, {17, 2}, {250, 6}, {40, 7}, {3, 64}})
      EXPECT_EQ(run(first, count), part(whole, kTokens, static_cast<std::size_t>(first), static_cast<std::size_t>(count)))
          << form.name << " " << first << "+" << count;
  }
}

struct Cache {
  concord_tensor k, v, ks, vs;
};

// Keys and values of `rows` rows appended in the cache's dtype.
Cache fill_cache(Bench& b, DType dtype, std::int64_t rows, std::int64_t groups, std::int64_t d, const Values& k, const Values& v) {
  Cache cache{b.room(dtype, {rows, groups, d}), b.room(dtype, {rows, groups, d}), b.room(DType::kF32, {rows, groups}),
              b.room(DType::kF32, {rows, groups})};
  concord_call c = make_call(CONCORD_OP_KV_APPEND);
  std::vector<std::int32_t> at(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = static_cast<std::int32_t>(i);
  c.in[0] = b.put(act(), {rows, groups, d}, k), c.in[1] = b.put(act(), {rows, groups, d}, v), c.in[2] = b.put_i32({rows}, at);
  c.out[0] = cache.k, c.out[1] = cache.v, c.out[2] = cache.ks, c.out[3] = cache.vs;
  c.n_in = 3, c.n_out = dtype == DType::kI8 ? 4 : 2;
  const Status s = b.run(c);
  EXPECT_TRUE(s.has_value()) << (s ? "" : s.error().to_string());
  return cache;
}

std::vector<std::byte> attend(Bench& b, const Cache& cache, const Values& q, std::int64_t heads, std::int64_t d,
                              const std::vector<std::int32_t>& rows, std::int64_t sequence = 0) {
  const auto tokens = static_cast<std::int64_t>(rows.size());
  concord_call c = make_call(CONCORD_OP_ATTENTION);
  c.scale = 0.11, c.sequence_rows = sequence;
  c.in[0] = b.put(act(), {tokens, heads, d}, q), c.in[1] = cache.k, c.in[2] = cache.v, c.in[3] = b.put_i32({tokens}, rows);
  c.in[4] = cache.ks, c.in[5] = cache.vs, c.n_in = cache.k.dtype == CONCORD_I8 ? 6 : 4, c.n_out = 1;
  c.out[0] = b.room(act(), {tokens, heads, d});
  const Status s = b.run(c);
  EXPECT_TRUE(s.has_value()) << (s ? "" : s.error().to_string());
  return b.bits(c.out[0]);
}

constexpr std::int64_t kHeads = 6, kGroups = 2, kRows = 210;

TEST(Invariance, AttentionOfATokenDoesNotDependOnTheOthers) {
  for (const std::int64_t d : {20, 64, 80})
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      Bench b(subject());
      const Cache cache = fill_cache(b, dtype, kRows, kGroups, d, noise(4, kRows * kGroups * d), noise(5, kRows * kGroups * d));
      const Values q = noise(6, kRows * kHeads * d, 3);
      const auto queries = [&](std::int64_t first, std::int64_t count) {
        return Values(q.begin() + first * kHeads * d, q.begin() + (first + count) * kHeads * d);
      };
      const auto rows = [](std::int64_t first, std::int64_t count) {
        std::vector<std::int32_t> out;
        for (std::int64_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(first + i));
        return out;
      };
      const auto whole = attend(b, cache, q, kHeads, d, rows(0, kRows));
      for (const auto& [first, count] : std::vector<std::pair<int, int>>{{0, 1}, {63, 1}, {64, 2}, {100, 33}, {209, 1}})
        EXPECT_EQ(attend(b, cache, queries(first, count), kHeads, d, rows(first, count)),
                  part(whole, kRows, static_cast<std::size_t>(first), static_cast<std::size_t>(count)))
            << dtype_name(dtype) << " d=" << d << " " << first << "+" << count;
    }
}

// Three sequences in one cache, their tokens mixed in one call, against each sequence in a cache of its own.
TEST(Invariance, SequencesInOneCacheDoNotSeeEachOther) {
  constexpr std::int64_t kEach = 70, d = 64;
  for (const DType dtype : {DType::kF32, DType::kI8}) {
    Bench b(subject());
    const Values k = noise(7, 3 * kEach * kGroups * d), v = noise(8, 3 * kEach * kGroups * d), q = noise(9, 3 * 2 * kHeads * d);
    const Cache all = fill_cache(b, dtype, 3 * kEach, kGroups, d, k, v);
    const std::vector<std::int32_t> local = {5, 68, 0, 69, 33, 34};  // two tokens of every sequence
    std::vector<std::int32_t> rows;
    for (std::size_t i = 0; i < 6; ++i) rows.push_back(static_cast<std::int32_t>(i / 2 * kEach) + local[i]);
    const auto together = attend(b, all, q, kHeads, d, rows, kEach);
    for (std::size_t s = 0; s < 3; ++s) {
      const auto slice = [&](const Values& from, std::int64_t width, std::int64_t count) {
        const auto at = from.begin() + static_cast<std::ptrdiff_t>(s) * count * width;
        return Values(at, at + count * width);
      };
      const Cache own = fill_cache(b, dtype, kEach, kGroups, d, slice(k, kGroups * d, kEach), slice(v, kGroups * d, kEach));
      EXPECT_EQ(attend(b, own, slice(q, kHeads * d, 2), kHeads, d, {local[2 * s], local[2 * s + 1]}), part(together, 6, 2 * s, 2))
          << "sequence " << s;
    }
  }
}

// NaN and infinities in rows that a query does not see must not reach it, whether those rows belong to later tokens of
// the same step or are left over in the cache.
TEST(Invariance, RowsThatAreNotSeenDoNotMatter) {
  constexpr std::int64_t d = 64;
  Bench b(subject());
  Values k = noise(10, kRows * kGroups * d), v = noise(11, kRows * kGroups * d);
  const Values q = noise(12, 4 * kHeads * d);
  const std::vector<std::int32_t> rows = {70, 71, 72, 73};
  const auto clean = attend(b, fill_cache(b, DType::kF32, kRows, kGroups, d, k, v), q, kHeads, d, rows);
  for (std::int64_t i = 73 * kGroups * d; i < kRows * kGroups * d; ++i) {
    k[static_cast<std::size_t>(i)] = i % 2 ? INFINITY : NAN;
    v[static_cast<std::size_t>(i)] = i % 3 ? -INFINITY : NAN;
  }
  const auto spoilt = attend(b, fill_cache(b, DType::kF32, kRows, kGroups, d, k, v), q, kHeads, d, rows);
  EXPECT_EQ(part(clean, 4, 0, 3), part(spoilt, 4, 0, 3));
  EXPECT_NE(part(clean, 4, 3, 1), part(spoilt, 4, 3, 1)) << "the last query sees row 73";
}

// An int8 cache holds what the header defines, and attention over it agrees with the float64 reference.
TEST(Int8Cache, HoldsTheDefinedNumbers) {
  constexpr std::int64_t d = 64, rows = 5;
  Bench b(subject());
  Values k = rounded(act(), noise(13, rows * kGroups * d, 3));
  for (std::size_t i = 0; i < d; ++i) k[i] = 0;
  k[2 * d + 7] = INFINITY;
  const Cache cache = fill_cache(b, DType::kI8, rows, kGroups, d, k, k);
  const Values scales = b.get(cache.ks), q = b.get(cache.k);
  for (std::size_t head = 0; head < rows * kGroups; ++head) {
    float largest = 0;
    for (std::size_t i = 0; i < d; ++i) largest = std::max(largest, std::fabs(static_cast<float>(k[head * d + i])));
    if (head == 2) {
      EXPECT_TRUE(std::isnan(scales[head]));
      continue;
    }
    const float scale = largest / 127.0f;
    EXPECT_EQ(scales[head], scale) << head;
    for (std::size_t i = 0; i < d; ++i)
      EXPECT_EQ(q[head * d + i], scale > 0 ? std::nearbyint(static_cast<float>(k[head * d + i]) / scale) : 0) << head << " " << i;
  }
}

TEST(Int8Cache, AttentionAgreesWithTheReference) {
  constexpr std::int64_t d = 64, rows = 150, tokens = 9;
  Bench b(subject()), truth(reference());
  const Values k = rounded(act(), noise(14, rows * kGroups * d, 2)), v = rounded(act(), noise(15, rows * kGroups * d));
  const Values q = rounded(act(), noise(16, tokens * kHeads * d, 2));
  const Cache cache = fill_cache(b, DType::kI8, rows, kGroups, d, k, v);
  concord_call c = make_call(CONCORD_OP_ATTENTION);
  c.scale = 0.125, c.n_in = 6, c.n_out = 1;
  std::vector<std::int32_t> at;
  for (std::int32_t t = 0; t < tokens; ++t) at.push_back(rows - tokens + t);
  c.in[0] = truth.put(DType::kF64, {tokens, kHeads, d}, q), c.in[1] = truth.put(DType::kI8, {rows, kGroups, d}, b.get(cache.k));
  c.in[2] = truth.put(DType::kI8, {rows, kGroups, d}, b.get(cache.v)), c.in[3] = truth.put_i32({tokens}, at);
  c.in[4] = truth.put(DType::kF32, {rows, kGroups}, b.get(cache.ks)), c.in[5] = truth.put(DType::kF32, {rows, kGroups}, b.get(cache.vs));
  c.out[0] = truth.room(DType::kF64, {tokens, kHeads, d});
  ASSERT_TRUE(truth.run(c).has_value());
  Bench again(subject());
  const Cache mine = fill_cache(again, DType::kI8, rows, kGroups, d, k, v);
  concord_call own = c;
  own.in[0] = again.put(act(), {tokens, kHeads, d}, q), own.in[1] = mine.k, own.in[2] = mine.v, own.in[3] = again.put_i32({tokens}, at);
  own.in[4] = mine.ks, own.in[5] = mine.vs, own.out[0] = again.room(act(), {tokens, kHeads, d});
  ASSERT_TRUE(again.run(own).has_value());
  const Values want = truth.get(c.out[0]);
  // Scores: products of |q| <= 2 and |k| <= 2 over d, times the scale: gamma(d + 4) of at most 4 d 0.125 = 32; that error
  // doubles as a relative one of every weight; sums over the rows; |v| <= 1; then storage.
  const double relative = std::expm1(2 * gamma(d + 4) * 4 * d * 0.125) + 2 * gamma(rows + 4);
  Values bound;
  for (double y : want) bound.push_back(stored(act(), y, relative));
  expect_within(again.get(own.out[0]), want, bound, "int8 cache");
}

}  // namespace
}  // namespace concord::testing
