#include "conformance/suite/suite.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/text.hpp"
#include "conformance/suite/folders.hpp"
#include "conformance/suite/workloads.hpp"

namespace concord::conformance {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxFiles = 256, kMaxFileBytes = 4u << 20;

struct Loaded {
  Definition definition;
  std::vector<PlannedCase> cases;
};

Result<Loaded> load_file(const std::string& file, const Models& models) {
  CONCORD_TRY(const Json json, read_json(file, "suite", kMaxFileBytes));
  CONCORD_TRY(const JsonFields fields, JsonFields::from(json, file, "suite"));
  Loaded out;
  CONCORD_TRY(out.definition, read_definition(fields));
  CONCORD_TRY(out.cases, read_workloads(out.definition, models, fields));
  return out;
}

}  // namespace

Result<OperatorSuite> OperatorSuite::load(const std::string& given) {
  const std::string folder = given.empty() ? data_folder("ops") : given;
  CONCORD_TRY(const std::vector<std::string> files, files_of(folder, ".json", kMaxFiles));
  CONCORD_TRY(const Models models, load_models((fs::path(folder) / "models").string()));
  std::vector<Definition> definitions;
  std::set<std::string> operators;
  OperatorSuite suite;
  for (const std::string& file : files) {
    CONCORD_TRY(Loaded one, load_file(file, models));
    if (!operators.insert(one.definition.op).second)
      return bad_input("suite.duplicate_operator", fmt::format("a second file defines {}", one.definition.op), file);
    definitions.push_back(std::move(one.definition));
    std::ranges::move(one.cases, std::back_inserter(suite.cases_));
  }
  if (definitions.empty())
    return fail(ErrorKind::kIo, "suite.not_found", "no operator definition (*.json) in this folder; CONCORD_SUITES names another", folder);
  std::ranges::sort(definitions, {}, &Definition::op);
  std::ranges::sort(suite.cases_, [](const PlannedCase& a, const PlannedCase& b) { return std::tie(a.spec.op, a.id) < std::tie(b.spec.op, b.id); });
  suite.definitions_ = std::make_shared<const std::vector<Definition>>(std::move(definitions));
  return suite;
}

const std::vector<Definition>& OperatorSuite::definitions() const {
  static const std::vector<Definition> kNone;
  return definitions_ ? *definitions_ : kNone;
}

std::vector<std::string> OperatorSuite::operators() const {
  std::vector<std::string> names;
  for (const Definition& d : definitions()) names.push_back(d.op);
  return names;
}

std::vector<std::string> OperatorSuite::families() const {
  std::set<std::string> names;
  for (const Definition& d : definitions()) names.insert(d.family);
  return {names.begin(), names.end()};
}

Result<PlannedCase> OperatorSuite::plan(const CaseSpec& spec) const {
  for (const Definition& d : definitions())
    if (d.op == spec.op) return d.plan(spec);
  return fail(ErrorKind::kUsage, "case.unknown_operator",
              fmt::format("the suite has no operator \"{}\"; it has {}", printable(spec.op), fmt::join(operators(), ", ")));
}

}  // namespace concord::conformance
