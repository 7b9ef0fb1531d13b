// Records that this process did not make, before they count in a verdict: of an interrupted run, or of the tests that
// ran before a guard. What a journal says of itself is not believed where it can be derived again without the device.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "conformance/run/session.hpp"

namespace concord::conformance {

struct RecheckRules {
  std::vector<Waiver> waivers;
  std::map<std::string, std::string> witness;  // device -> pattern of its required list
  std::uint64_t seed = 0;
  std::string today;
};

// Each case and device once; made by this build on this machine with this seed; numbers that agree with the case and
// with themselves; the status that follows from them. Errors: recheck.* with the first record that breaks one of these,
// bundle.duplicate_record.
Status recheck(const std::vector<CaseRecord>& records, const RecheckRules& rules, const std::string& file);

}  // namespace concord::conformance
