// From records to a verdict: how many of the required cases were executed and came out PASS or validly WAIVED, on which device.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "conformance/run/session.hpp"
#include "conformance/suite/required.hpp"

namespace concord::conformance {

struct DeviceVerdict {
  std::string device, device_name;       // "cpu:avx512", "AMD EPYC"
  std::string list;                      // required list; empty: there is none for this device and tier
  std::uint64_t planned = 0, good = 0;   // cases of the selection; of those PASS or validly WAIVED
  std::uint64_t required = 0, executed = 0;  // executed: required cases that ended PASS or validly WAIVED
  std::map<CaseStatus, std::uint64_t> counts;  // of all planned cases
  std::vector<std::string> missing;      // required ids that did not (with NOT_RUN where there is no record)
  std::vector<std::string> lost;         // of those: required but UNSUPPORTED, a lost capability
  std::vector<std::string> expired;      // waivers that have expired and would apply
  bool complete = false;                 // the selection held every required case
  int exit = 0;                          // exit code by itself
  // "312 executed of 312 required on cpu:avx512 (AMD EPYC)"; of a part: "9 executed of 9 selected on cpu:avx512 (AMD EPYC), which are 9 of 312 required"
  std::string line() const;
};
struct Verdict {
  std::vector<DeviceVerdict> devices;
  bool green = false;
  int exit = 0;       // the worst: 1 before 5
  std::string line;   // "GREEN: ..." or "RED: ..."; a selection that is not the whole required list is "PARTIAL", never GREEN
};
// requested: every device of the run, so that one without any record is red. Tier: of the lists. A run of an ad-hoc selection passes no lists: its verdict is
// PARTIAL at best (exit 0 when every case passed), because nothing says what should have run.
Verdict judge_records(const std::vector<std::string>& requested, const std::vector<PlannedCase>& plan, const std::vector<CaseRecord>& records,
                      const std::vector<RequiredList>& lists, Tier tier);

}  // namespace concord::conformance
