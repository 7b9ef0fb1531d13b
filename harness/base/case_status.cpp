#include "base/case_status.hpp"

#include <fmt/format.h>

#include <array>

namespace concord {
namespace {
constexpr std::array<std::pair<CaseStatus, const char*>, 14> kStatusNames{{{CaseStatus::kPass, "PASS"},
                                                                           {CaseStatus::kFail, "FAIL"},
                                                                           {CaseStatus::kNondeterministic, "NONDETERMINISTIC"},
                                                                           {CaseStatus::kError, "ERROR"},
                                                                           {CaseStatus::kCrash, "CRASH"},
                                                                           {CaseStatus::kTimeout, "TIMEOUT"},
                                                                           {CaseStatus::kOom, "OOM"},
                                                                           {CaseStatus::kUnsupported, "UNSUPPORTED"},
                                                                           {CaseStatus::kSkipped, "SKIPPED"},
                                                                           {CaseStatus::kWaived, "WAIVED"},
                                                                           {CaseStatus::kXPass, "XPASS"},
                                                                           {CaseStatus::kMistrusted, "MISTRUSTED"},
                                                                           {CaseStatus::kInconclusive, "INCONCLUSIVE"},
                                                                           {CaseStatus::kNotRun, "NOT_RUN"}}};
}

const char* status_name(CaseStatus s) {
  for (const auto& [status, name] : kStatusNames)
    if (status == s) return name;
  return "NOT_RUN";
}

Result<CaseStatus> status_from_name(const std::string& name) {
  for (const auto& [status, text] : kStatusNames)
    if (name == text) return status;
  return bad_input("record.unknown_status", fmt::format("\"{}\" is not a case status", name));
}

}  // namespace concord
