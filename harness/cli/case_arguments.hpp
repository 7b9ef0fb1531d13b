// What `list`, `plan`, `conform` and `bench ops` share: which cases, and on which devices.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "conformance/suite/suite.hpp"
#include "device/device.hpp"

namespace concord::cli {

struct CaseArguments {
  std::string tier = "smoke";
  std::vector<std::string> families, operators, axes, ids, backends;
  std::string pattern;
};

// --tier, --family, --op, -p/--pattern, -a/--axis, --case.
void add_case_options(CLI::App& command, CaseArguments& arguments);
// --backends.
void add_device_option(CLI::App& command, CaseArguments& arguments);

// Errors: case.unknown_tier (usage).
Result<conformance::Selection> selection_of(const CaseArguments& arguments);

struct SelectedCases {
  conformance::OperatorSuite suite;
  conformance::Selection selection;
  std::vector<conformance::PlannedCase> cases;  // at least one
};
// Reads the suite and selects. Errors: suite.*, case.*, select.*.
Result<SelectedCases> open_cases(const CaseArguments& arguments);

// Resolved ids, each once, in the order named: "cpu:avx2", a bare backend for its first available device, "cpu:*" for all available ones that match
// (matches_device). Without --backends every available device except `reference`, which is the oracle. Errors: device.unknown, device.unavailable (exit 3).
Result<std::vector<std::string>> choose_case_devices(const Backends& backends, const CaseArguments& arguments);

}  // namespace concord::cli
