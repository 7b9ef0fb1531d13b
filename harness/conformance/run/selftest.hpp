// The harness tested by planted faults: every fault of the mutant plug-in must turn a required case of every operator
// that it touches red, and the faultless control must pass everything. Cases run and are judged by the same functions
// as in any other run. docs/selftest.md says what it proves.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conformance/run/verdict.hpp"
#include "device/device.hpp"

namespace concord::conformance {

inline constexpr const char* kControl = "mutant:honest";
inline constexpr const char* kMutantWitness =
    "*: mutant f64";  // what every kernel of these devices must be called

struct PlantedFault {
  std::string device, name, what;      // "mutant:tf32", "tf32", "F32 inputs are cut to TF32's width"
  std::vector<std::string> operators;  // those that it touches
};
// The faults among the devices of the selftest folder, without the control. names: those wanted; empty: all.
// Errors: selftest.no_plugin (kMissingDevice), selftest.unknown_fault (kUsage), selftest.no_operators (a defect of the
// plug-in).
Result<std::vector<PlantedFault>> planted_faults(const std::vector<DeviceFacts>& devices,
                                                 const std::vector<std::string>& names);

// One fault on one operator.
struct FaultCell {
  std::string op;
  std::uint64_t cases = 0, red = 0,
                lost = 0;  // required cases that were run; of those: not green; of those: UNSUPPORTED
  bool killed = false;     // the verdict over them is red
  std::map<std::string, std::uint64_t> checks;  // by which check how many
  std::string first_case, first_check;          // the first red one, in the plan's order
};
struct FaultReport {
  PlantedFault fault;
  std::vector<FaultCell> cells;  // one for each operator that it touches
  bool killed() const;           // on every one of them, and there is one
};
struct SelftestReport {
  std::uint64_t control_cases = 0;
  std::vector<std::string> false_alarms;  // "CASE (check): reason" of the control's cases that did not pass
  std::vector<FaultReport> faults;
  std::uint64_t killed() const;
  bool green() const;  // at least one fault, every one killed, and a control that ran and passed everything
};

// Runs a plan on some devices: run_cases(), or a test's own.
using CaseRunner = std::function<Result<std::vector<CaseRecord>>(const std::vector<PlannedCase>& plan,
                                                                 const std::vector<std::string>& devices)>;
struct SelftestSettings {
  Tier tier = Tier::kSmoke;
  // Cases of an operator that every fault meets first; the others run only on the faults that survive those. 0: every
  // fault meets every case.
  std::size_t first_cases = 0;
  std::function<void(const std::string& op, std::size_t cases, std::size_t faults)> before;  // one batch; may be empty
};
// Errors: those of the runner.
Result<SelftestReport> run_selftest(const std::vector<PlannedCase>& plan, const std::vector<PlantedFault>& faults,
                                    const SelftestSettings& settings, const CaseRunner& run);

OrderedJson to_json(const SelftestReport& report);
std::string kill_table(const SelftestReport& report);  // Markdown

}  // namespace concord::conformance
