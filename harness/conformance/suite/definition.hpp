// One operator of the suite: its keys, what they may be, and what a call costs (schema concord.operator/1, docs/operators.md).
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "conformance/suite/case.hpp"
#include "conformance/suite/expression.hpp"

namespace concord::conformance {

struct AxisRule {
  std::int64_t min = 0, max = 0;  // min 0: an extent that may be empty; such a case expects a refusal
  std::string about;
};
struct OptionRule {
  std::vector<std::string> words;
  std::string about;
};
// Where option `key` is `word`, option `then` must be one of `words`.
struct Implication {
  std::string key, word, then;
  std::vector<std::string> words;
};

struct Definition {
  std::string op, family, summary, file;
  std::map<std::string, AxisRule> axes;
  std::map<std::string, OptionRule> options;
  std::vector<Expression> constraints;  // not asked of a case with an empty extent
  std::vector<Implication> implications;
  Expression bytes, flops;

  // The keys, extents, words and constraints of a case of this operator.
  // Errors: case.missing_key, case.unknown_key, case.bad_value, case.constraint.
  Status check(const CaseSpec& spec) const;
  // check(), and the case with family, bytes and flops; tier and tags are the caller's.
  Result<PlannedCase> plan(const CaseSpec& spec) const;
};

// Reads the definition of a file (everything but "workloads"). Errors: suite.*, expression.syntax.
Result<Definition> read_definition(const JsonFields& fields);
// Names for formulas: axes, options, and options that are numbers as numbers too.
Names names_of(const CaseSpec& spec);
bool has_empty_extent(const CaseSpec& spec);
bool is_axis_key(std::string_view key);  // one capital letter

}  // namespace concord::conformance
