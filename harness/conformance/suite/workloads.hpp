// The workloads of an operator's definition, expanded into cases; extents may be formulas over a model's dimensions (schema concord.dimensions/1).
#pragma once
#include <map>
#include <string>
#include <vector>

#include "conformance/suite/definition.hpp"

namespace concord::conformance {

struct ModelDimensions {
  std::string model;  // "llama-3.1-8b"
  Names names;        // "hidden", "heads", ...; words: "eps"
};
using Models = std::map<std::string, ModelDimensions>;

inline constexpr std::size_t kMaxCasesPerFile = 100'000;

Result<ModelDimensions> read_model(const JsonFields& fields);
// Every *.json of a folder, by model; a missing folder has none.
Result<Models> load_models(const std::string& folder);

// The cases of "workloads", in order of id; equal ids are one case with the lower tier and the tags of both.
// Errors: suite.*, case.* with the workload's name, expression.*.
Result<std::vector<PlannedCase>> read_workloads(const Definition& definition, const Models& models, const JsonFields& fields);

}  // namespace concord::conformance
