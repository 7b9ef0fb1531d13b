// What is written in a bundle, read and held against itself: records, plan, environment, required lists, waivers.
// Internal to judging bundles.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "conformance/bundle/bundle.hpp"
#include "conformance/bundle/rederive.hpp"
#include "conformance/suite/required.hpp"
#include "conformance/suite/suite.hpp"

namespace concord::conformance {

inline constexpr const char* kEnvironmentSchema = "concord.environment/1";

struct BundleContents {
  Json environment;                       // program, machine, date, devices
  std::map<std::string, MathMode> modes;  // device -> by its features
  std::vector<PlannedCase> plan;          // in the order of plan.txt
  std::vector<CaseRecord> records;
  std::map<std::string, std::string> outputs;  // key of a record -> path of its saved outputs
  std::vector<RequiredList> lists;
  std::vector<Waiver> waivers;
};

// Errors (all exit 2): bundle.* for whatever is not known to the suite, doubled, missing or of another device or seed
// than the manifest says; record.*, lock.*, waiver.*, case.*.
Result<BundleContents> read_contents(const Bundle& bundle, const OperatorSuite& suite);

// The folder that a journal lies in names saved outputs relative to itself: "outputs/000012.bin". Empty: none were
// saved.
std::string saved_outputs(const CaseRecord& record);
// Two records of one device and case. Errors: bundle.duplicate_record.
Status check_unique(const std::vector<CaseRecord>& records, const std::string& file);

}  // namespace concord::conformance
