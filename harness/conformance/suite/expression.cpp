#include "conformance/suite/expression.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

#include "base/text.hpp"

namespace concord::conformance {
namespace {

struct DtypeBytes {
  std::string_view word;
  double element, row;
};
// u4: half a byte, an f16 scale per group, a byte of zero point per group where there is one.
constexpr std::array<DtypeBytes, 9> kDtypes{{{"f64", 8, 0},
                                             {"f32", 4, 0},
                                             {"f16", 2, 0},
                                             {"bf16", 2, 0},
                                             {"i8", 1, 4},
                                             {"u4g32", 0.5 + 2.0 / 32, 0},
                                             {"u4g32z", 0.5 + 3.0 / 32, 0},
                                             {"u4g128", 0.5 + 2.0 / 128, 0},
                                             {"u4g128z", 0.5 + 3.0 / 128, 0}}};

Result<DtypeBytes> dtype_bytes(std::string_view word) {
  for (const DtypeBytes& d : kDtypes)
    if (d.word == word) return d;
  return bad_input("expression.unknown_dtype", fmt::format("\"{}\" is no dtype or weight form with a size", printable(word)));
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Result<double> element_bytes(std::string_view word) {
  CONCORD_TRY(const DtypeBytes d, dtype_bytes(word));
  return d.element;
}
Result<double> row_bytes(std::string_view word) {
  CONCORD_TRY(const DtypeBytes d, dtype_bytes(word));
  return d.row;
}

// Recursive descent; each rule appends the nodes of what it read. Depth is bounded by nest().
class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view text) : text_(text) {}

  Result<Expression> parse() {
    if (text_.size() > Expression::kMaxLength) return wrong(fmt::format("longer than {} characters", Expression::kMaxLength));
    CONCORD_CHECK(comparison());
    skip();
    if (at_ != text_.size()) return wrong("expected an operator or the end");
    Expression e;
    e.text_ = text_, e.nodes_ = std::move(nodes_);
    return e;
  }

 private:
  using Op = Expression::Op;
  struct Symbol {
    std::string_view text;
    Op op;
  };

  Status comparison() {
    static constexpr std::array<Symbol, 6> kSymbols{{{"<=", Op::kLessEqual}, {"<", Op::kLess}, {"==", Op::kEqual}, {"!=", Op::kNotEqual},
                                                     {">=", Op::kGreaterEqual}, {">", Op::kGreater}}};
    CONCORD_CHECK(sum());
    for (const Symbol& s : kSymbols) {
      if (!take(s.text)) continue;
      CONCORD_CHECK(sum());
      push(s.op);
      break;
    }
    return {};
  }
  Status sum() {
    static constexpr std::array<Symbol, 2> kSymbols{{{"+", Op::kAdd}, {"-", Op::kSubtract}}};
    CONCORD_CHECK(product());
    return chain(kSymbols, &ExpressionParser::product);
  }
  Status product() {
    static constexpr std::array<Symbol, 3> kSymbols{{{"*", Op::kMultiply}, {"/", Op::kDivide}, {"%", Op::kModulo}}};
    CONCORD_CHECK(unary());
    return chain(kSymbols, &ExpressionParser::unary);
  }
  template <std::size_t N>
  Status chain(const std::array<Symbol, N>& symbols, Status (ExpressionParser::*rule)()) {
    for (bool more = true; more;) {
      more = false;
      for (const Symbol& s : symbols) {
        if (!take(s.text)) continue;
        CONCORD_CHECK((this->*rule)());
        push(s.op);
        more = true;
        break;
      }
    }
    return {};
  }
  Status unary() {
    if (++depth_ > Expression::kMaxDepth) return wrong(fmt::format("nested deeper than {} levels", Expression::kMaxDepth));
    CONCORD_CHECK(unary_inside());
    --depth_;
    return {};
  }
  Status unary_inside() {
    if (take("-")) {
      CONCORD_CHECK(unary());
      push(Op::kNegate);
      return {};
    }
    if (take("(")) {
      CONCORD_CHECK(comparison());
      return expect(")");
    }
    skip();
    if (at_ < text_.size() && is_digit(text_[at_])) return number();
    const std::string name = word();
    if (name.empty() || is_digit(name[0])) return wrong("expected a number, a name or a parenthesis");
    if (take("(")) return function(name);
    push(Op::kName, name);
    return {};
  }
  Status number() {
    double value = 0;
    const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value, std::chars_format::fixed);
    if (code != std::errc()) return wrong("expected a number");
    at_ = static_cast<std::size_t>(end - text_.data());
    nodes_.push_back({Op::kNumber, value, {}, {}});
    return {};
  }
  // How many operands, and whether they are names of options.
  Status function(const std::string& name) {
    struct Function {
      std::string_view name;
      Op op;
      int operands;
      bool of_option;
    };
    static constexpr std::array<Function, 7> kFunctions{{{"ceil", Op::kCeil, 1, false}, {"floor", Op::kFloor, 1, false}, {"min", Op::kMin, 2, false},
                                                         {"max", Op::kMax, 2, false}, {"size", Op::kSize, 1, true}, {"row", Op::kRow, 1, true},
                                                         {"is", Op::kIs, 2, true}}};
    for (const Function& f : kFunctions) {
      if (f.name != name) continue;
      return f.of_option ? option_function(f.op, f.operands) : number_function(f.op, f.operands);
    }
    return wrong(fmt::format("unknown function {}; expected ceil, floor, min, max, size, row or is", name));
  }
  Status number_function(Op op, int operands) {
    CONCORD_CHECK(comparison());
    if (operands == 2) {
      CONCORD_CHECK(expect(","));
      CONCORD_CHECK(comparison());
    }
    push(op);
    return expect(")");
  }
  Status option_function(Op op, int operands) {
    skip();
    Expression::Node node{op, 0, word(), {}};
    if (operands == 2) {
      CONCORD_CHECK(expect(","));
      skip();
      node.word = word();
    }
    if (node.name.empty() || (operands == 2 && node.word.empty())) return wrong("expected the name of an option");
    nodes_.push_back(std::move(node));
    return expect(")");
  }

  void push(Op op, std::string name = {}) { nodes_.push_back({op, 0, std::move(name), {}}); }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  std::string word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (is_letter(text_[at_]) || is_digit(text_[at_]))) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  bool take(std::string_view symbol) {
    skip();
    if (!text_.substr(at_).starts_with(symbol)) return false;
    at_ += symbol.size();
    return true;
  }
  Status expect(std::string_view symbol) {
    if (take(symbol)) return {};
    return wrong(fmt::format("expected {}", symbol));
  }
  std::unexpected<Error> wrong(const std::string& what) const {
    return bad_input("expression.syntax", fmt::format("\"{}\", character {}: {}", printable(text_), at_ + 1, what));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::vector<Expression::Node> nodes_;
};

Result<Expression> Expression::parse(std::string_view text) { return ExpressionParser(text).parse(); }

std::unexpected<Error> Expression::wrong(std::string_view code, const std::string& what) const {
  return bad_input(code, fmt::format("\"{}\": {}", printable(text_), what));
}

Result<double> Expression::leaf(const Node& n, const Names& names) const {
  if (n.op == Op::kNumber) return n.number;
  if (n.op == Op::kName) {
    if (const auto it = names.numbers.find(n.name); it != names.numbers.end()) return it->second;
    return wrong("expression.unknown_name", fmt::format("{} is not the name of a number here", n.name));
  }
  const auto it = names.words.find(n.name);
  if (it == names.words.end()) return wrong("expression.unknown_name", fmt::format("{} is not the name of an option here", n.name));
  if (n.op == Op::kIs) return it->second == n.word ? 1.0 : 0.0;
  return n.op == Op::kSize ? element_bytes(it->second) : row_bytes(it->second);
}

Result<double> Expression::apply(Op op, double a, double b) const {
  switch (op) {
    case Op::kNegate: return -b;
    case Op::kAdd: return a + b;
    case Op::kSubtract: return a - b;
    case Op::kMultiply: return a * b;
    case Op::kDivide: return a / b;
    case Op::kLessEqual: return a <= b;
    case Op::kLess: return a < b;
    case Op::kEqual: return a == b;
    case Op::kNotEqual: return a != b;
    case Op::kGreaterEqual: return a >= b;
    case Op::kGreater: return a > b;
    case Op::kCeil: return std::ceil(b);
    case Op::kFloor: return std::floor(b);
    case Op::kMin: return std::min(a, b);
    case Op::kMax: return std::max(a, b);
    default: break;
  }
  if (std::trunc(a) != a || std::trunc(b) != b) return wrong("expression.not_integer", "% wants integers");
  return std::fmod(a, b);
}

Result<double> Expression::evaluate(const Names& names) const {
  if (nodes_.empty()) return wrong("expression.syntax", "it is empty");
  std::vector<double> stack;
  for (const Node& n : nodes_) {
    const bool is_leaf = n.op == Op::kNumber || n.op == Op::kName || n.op == Op::kSize || n.op == Op::kRow || n.op == Op::kIs;
    const bool one_operand = n.op == Op::kNegate || n.op == Op::kCeil || n.op == Op::kFloor;
    double value = 0;
    if (is_leaf) {
      CONCORD_TRY(value, leaf(n, names));
    } else {
      const double b = stack.back();
      stack.pop_back();
      const double a = one_operand ? 0 : stack.back();
      if (!one_operand) stack.pop_back();
      CONCORD_TRY(value, apply(n.op, a, b));
    }
    if (!std::isfinite(value)) return wrong("expression.not_finite", "a division by zero or an overflow");
    stack.push_back(value);
  }
  return stack.back();
}

Result<std::int64_t> Expression::evaluate_extent(const Names& names) const {
  CONCORD_TRY(const double value, evaluate(names));
  if (value < 0 || value > 9007199254740992.0 || std::trunc(value) != value)
    return wrong("expression.not_integer", fmt::format("it is {}, expected an integer of at least 0", value));
  return static_cast<std::int64_t>(value);
}

}  // namespace concord::conformance
