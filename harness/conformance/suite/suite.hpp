// The operator suite as data: suites/ops/*.json, one definition for each operator with its workloads (docs/operators.md has the schema), and the selection of
// cases from it. Knows no device and no tolerance.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "conformance/suite/case.hpp"

namespace concord::conformance {

struct Definition;

class OperatorSuite {
 public:
  // Reads every *.json of a folder (empty: $CONCORD_SUITES/ops, else the installed or source tree's). Errors: suite.* with file and field; two cases with
  // one id are merged when they say the same tier-independent things: the lower tier wins and tags are joined.
  static Result<OperatorSuite> load(const std::string& folder = {});
  const std::vector<PlannedCase>& cases() const { return cases_; }  // every tier, sorted by operator and id, ids unique
  std::vector<std::string> operators() const;
  std::vector<std::string> families() const;
  const std::vector<Definition>& definitions() const;  // sorted by operator
  // A case that the suite need not list: keys, extents, words and constraints are checked against its definition.
  // Errors: case.unknown_operator, case.missing_key, case.unknown_key, case.bad_value, case.constraint.
  Result<PlannedCase> plan(const CaseSpec& spec) const;

 private:
  std::shared_ptr<const std::vector<Definition>> definitions_;
  std::vector<PlannedCase> cases_;
};

// What the command line can say. Empty means everything.
struct Selection {
  Tier tier = Tier::kSmoke;
  std::vector<std::string> ids;        // exact ids; when given, tier is ignored and unlisted ids are planned
  std::vector<std::string> families, operators;
  std::string pattern;                 // -p: a regular expression (ECMAScript), searched in the id
  std::vector<std::string> axes;       // -a: "K[pow2]=[0:12:2]", "M=[1,7,64]", "x=[bf16,f16]": replaces that key's values in every selected case that has it
  bool ad_hoc() const { return !axes.empty(); }
};
// Errors: select.* (kUsage) for a bad argument; select.nothing (kNothingRun, exit 5) when no case is left.
Result<std::vector<PlannedCase>> select(const OperatorSuite& suite, const Selection& selection);

}  // namespace concord::conformance
