// The small language of formulas in the suite: "M*K*size(x) + N*row(w)", "T/S <= L". Numbers are doubles, names are looked up when a formula is evaluated.
//   comparison := sum [ <= | < | == | != | >= | > sum ]      1 or 0
//   sum        := product { + | - product }
//   product    := unary { * | / | % unary }                  % is the remainder of integers
//   unary      := - unary | number | name | function | ( comparison )
// Functions: ceil(a), floor(a), min(a, b), max(a, b); of options: size(o), bytes of one element; row(o), bytes of scales per row; is(o, word), 1 or 0.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace concord::conformance {

// What names mean: numbers (axes, dimensions, options that are numbers) and words (options).
struct Names {
  std::map<std::string, double, std::less<>> numbers;
  std::map<std::string, std::string, std::less<>> words;
};

class Expression {
 public:
  static constexpr std::size_t kMaxLength = 500;  // characters
  static constexpr int kMaxDepth = 32;            // nested parentheses, functions and signs
  // Errors: expression.syntax with the position in the text.
  static Result<Expression> parse(std::string_view text);

  // Errors: expression.unknown_name, expression.unknown_dtype (size and row), expression.not_finite (a division by zero too), expression.not_integer (%).
  Result<double> evaluate(const Names& names) const;
  // An integer of at least 0. Errors: expression.not_integer as well.
  Result<std::int64_t> evaluate_extent(const Names& names) const;
  const std::string& text() const { return text_; }

 private:
  friend class ExpressionParser;
  enum class Op { kNumber, kName, kNegate, kAdd, kSubtract, kMultiply, kDivide, kModulo, kLessEqual, kLess, kEqual, kNotEqual, kGreaterEqual, kGreater,
                  kCeil, kFloor, kMin, kMax, kSize, kRow, kIs };
  struct Node {  // in postfix order
    Op op = Op::kNumber;
    double number = 0;
    std::string name, word;
  };
  Result<double> leaf(const Node& node, const Names& names) const;
  Result<double> apply(Op op, double a, double b) const;
  std::unexpected<Error> wrong(std::string_view code, const std::string& what) const;

  std::string text_;
  std::vector<Node> nodes_;
};

// Bytes of one element of a dtype or weight form, its group scales and zero points included; and of the scales that stand once per row (i8).
Result<double> element_bytes(std::string_view word);
Result<double> row_bytes(std::string_view word);

}  // namespace concord::conformance
