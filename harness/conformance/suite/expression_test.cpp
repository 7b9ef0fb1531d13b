#include "conformance/suite/expression.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/suite/coverage.hpp"

namespace concord::conformance {
namespace {

Names names() {
  return {.numbers = {{"M", 3}, {"K", 100}, {"head_dim", 128}, {"zero", 0}, {"half", 0.5}}, .words = {{"x", "bf16"}, {"w", "u4g32z"}, {"kv", "i8"}, {"in", "exact"}}};
}
double value(std::string_view text) {
  const auto e = Expression::parse(text);
  EXPECT_TRUE(e) << (e ? "" : e.error().message);
  const auto v = e->evaluate(names());
  EXPECT_TRUE(v) << (v ? "" : v.error().message);
  return v.value_or(-12345);
}
std::string parse_error(std::string_view text) {
  const auto e = Expression::parse(text);
  return e ? "accepted" : e.error().message;
}
std::string evaluate_error(std::string_view text) {
  const auto v = Expression::parse(text).value().evaluate(names());
  return v ? "accepted" : v.error().code;
}

TEST(Expression, FollowsTheUsualPrecedence) {
  EXPECT_EQ(value("2+3*4"), 14);
  EXPECT_EQ(value("(2+3)*4"), 20);
  EXPECT_EQ(value("10-3-2"), 5);
  EXPECT_EQ(value("64/4/2"), 8);
  EXPECT_EQ(value("2*7%4"), 2);
  EXPECT_EQ(value("-M + 5"), 2);
  EXPECT_EQ(value("--M"), 3);
  EXPECT_EQ(value("1.5 * 4"), 6);
}

TEST(Expression, Compares) {
  EXPECT_EQ(value("M <= 3"), 1);
  EXPECT_EQ(value("M < 3"), 0);
  EXPECT_EQ(value("K % 2 == 0"), 1);
  EXPECT_EQ(value("M != 3"), 0);
  EXPECT_EQ(value("M + 1 >= 2 * 2"), 1);
  EXPECT_EQ(value("K > 100"), 0);
  EXPECT_EQ(value("4 * (M == 3)"), 4);
}

TEST(Expression, KnowsFunctionsAndSizes) {
  EXPECT_EQ(value("ceil(K/32)"), 4);
  EXPECT_EQ(value("floor(K/32)"), 3);
  EXPECT_EQ(value("min(M, K) + max(M, K)"), 103);
  EXPECT_EQ(value("size(x)"), 2);
  EXPECT_EQ(value("size(w)"), 0.5 + 2.0 / 32 + 1.0 / 32);  // nibble, f16 scale, byte of zero point
  EXPECT_EQ(value("128*size(kv) + row(kv)"), 132);
  EXPECT_EQ(value("row(x)"), 0);
  EXPECT_EQ(value("2 - is(in, exact)"), 1);
  EXPECT_EQ(value("is(in, heavy)"), 0);
}

TEST(Expression, SaysWhereSyntaxIsWrong) {
  const char* kWrong[] = {"", " ", "2+", "2 3", "(2", "2)", "*2", "f(2)", "min(2)", "ceil(2,3)", "size(2+1)", "is(x)", "2 && 3", "a.b", "M<=3<=4", "1e5", "x;y", "\x01"};
  for (const char* text : kWrong) EXPECT_THAT(parse_error(text), testing::HasSubstr("character")) << text;
  EXPECT_THAT(parse_error("2 + $"), testing::HasSubstr("character 5"));
}

TEST(Expression, IsBounded) {
  EXPECT_THAT(parse_error(std::string(501, '1')), testing::HasSubstr("longer than 500"));
  EXPECT_THAT(parse_error(std::string(40, '(') + "1" + std::string(40, ')')), testing::HasSubstr("deeper than 32"));
  EXPECT_THAT(parse_error(std::string(400, '-') + "1"), testing::HasSubstr("deeper than 32"));
  EXPECT_EQ(parse_error(std::string(30, '(') + "1" + std::string(30, ')')), "accepted");
  EXPECT_EQ(evaluate_error(std::string(300, '9') + "*" + std::string(100, '9')), "expression.not_finite");
  EXPECT_THAT(parse_error(std::string(400, '9')), testing::HasSubstr("expected a number"));
}

TEST(Expression, RefusesWhatHasNoValue) {
  EXPECT_EQ(evaluate_error("N"), "expression.unknown_name");
  EXPECT_EQ(evaluate_error("size(M)"), "expression.unknown_name");
  EXPECT_EQ(evaluate_error("size(in)"), "expression.unknown_dtype");
  EXPECT_EQ(evaluate_error("M/zero"), "expression.not_finite");
  EXPECT_EQ(evaluate_error("M%zero"), "expression.not_finite");
  EXPECT_EQ(evaluate_error("K % half"), "expression.not_integer");
  EXPECT_EQ(Expression().evaluate(names()).error().code, "expression.syntax");
}

TEST(Expression, GivesExtents) {
  EXPECT_EQ(Expression::parse("head_dim*M").value().evaluate_extent(names()).value(), 384);
  EXPECT_EQ(Expression::parse("K/3").value().evaluate_extent(names()).error().code, "expression.not_integer");
  EXPECT_EQ(Expression::parse("2-M").value().evaluate_extent(names()).error().code, "expression.not_integer");
}

// ---------------------------------------------------------------- coverage

TEST(Combinations, ProductHoldsEverythingOnce) {
  const auto all = combinations(Cover::kProduct, {2, 3, 1}, 100).value();
  const std::set<std::vector<std::uint32_t>> distinct(all.begin(), all.end());
  EXPECT_EQ(all.size(), 6u);
  EXPECT_EQ(distinct.size(), 6u);
}

TEST(Combinations, PairsHoldEveryPair) {
  const std::vector<std::size_t> sizes{8, 7, 3, 4, 2};
  const auto all = combinations(Cover::kPairs, sizes, 1000).value();
  EXPECT_LT(all.size(), 80u);  // 56 at least, 1344 in the product
  for (std::size_t a = 0; a < sizes.size(); ++a)
    for (std::size_t b = a + 1; b < sizes.size(); ++b) {
      std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
      for (const auto& one : all) seen.emplace(one[a], one[b]);
      EXPECT_EQ(seen.size(), sizes[a] * sizes[b]) << a << " " << b;
    }
}

TEST(Combinations, EachHoldsEveryValueAndDoesNotMarchInStep) {
  const std::vector<std::size_t> sizes{15, 5, 3, 3};
  const auto all = combinations(Cover::kEach, sizes, 1000).value();
  ASSERT_EQ(all.size(), 15u);
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    std::set<std::uint32_t> seen;
    for (const auto& one : all) seen.insert(one[k]);
    EXPECT_EQ(seen.size(), sizes[k]);
  }
  std::set<std::uint32_t> with_first_of_five;  // the list of five and the fifteen repeat every five
  for (std::size_t i = 0; i < all.size(); i += 5) with_first_of_five.insert(all[i][1]);
  EXPECT_EQ(with_first_of_five.size(), 3u);
}

TEST(Combinations, AreBounded) {
  EXPECT_EQ(combinations(Cover::kProduct, {1000, 1000}, 100'000).error().code, "suite.too_many_cases");
  EXPECT_EQ(combinations(Cover::kProduct, {1u << 31, 1u << 31, 1u << 31}, 100'000).error().code, "suite.too_many_cases");
  EXPECT_EQ(combinations(Cover::kEach, {200'000}, 100'000).error().code, "suite.too_many_cases");
  EXPECT_EQ(combinations(Cover::kPairs, {600, 2, 2}, 100'000).error().code, "suite.too_many_cases");
  EXPECT_EQ(combinations(Cover::kPairs, {20, 30, 2}, 100).error().code, "suite.too_many_cases");
  EXPECT_EQ(combinations(Cover::kEach, {2, 0}, 100).error().code, "suite.out_of_range");
  EXPECT_EQ(combinations(Cover::kEach, {}, 100).error().code, "suite.out_of_range");
  EXPECT_FALSE(cover_from_name("all"));
}

}  // namespace
}  // namespace concord::conformance
