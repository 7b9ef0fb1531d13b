// What can become of a case. Only kPass and kWaived count as done; everything else is red where the case was required.
#pragma once
#include <string>

#include "base/error.hpp"

namespace concord {

enum class CaseStatus {
  kPass,
  kFail,              // incorrect
  kNondeterministic,  // repeats or configurations differ more than the backend declares
  kError,             // the call failed, or left no witness
  kCrash,
  kTimeout,
  kOom,
  kUnsupported,   // the device said no, with a reason
  kSkipped,       // filtered out by the user
  kWaived,        // failed as a valid waiver says
  kXPass,         // passed although a waiver says that it fails
  kMistrusted,    // passed, but proves nothing: degenerate output, or an error wider than the declared math mode
  kInconclusive,  // a profile could not decide
  kNotRun,
};
const char* status_name(CaseStatus s);  // "PASS"
Result<CaseStatus> status_from_name(const std::string& name);

}  // namespace concord
