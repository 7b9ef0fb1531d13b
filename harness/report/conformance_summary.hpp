// Rows of a conformance report: everything that was found for one operator on one device.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "report/conformance_report.hpp"

namespace concord::conformance {

struct Tally {
  std::uint64_t planned = 0, judged = 0;  // judged: with at least one output compared
  std::map<CaseStatus, std::uint64_t> statuses;
  double margin = 0, margin_probable = 0;  // largest

  std::uint64_t count(CaseStatus s) const;
  bool red() const;  // any case that is neither good, UNSUPPORTED nor SKIPPED
};

struct OperatorRow : Tally {
  std::string device, op;
  std::map<std::string, Tally> dtypes;  // the same by dtype of the activations
  std::set<std::string> kernels;
  concord_determinism declared = CONCORD_ALWAYS_IDENTICAL, measured = CONCORD_ALWAYS_IDENTICAL;  // weakest

  std::string others() const;       // "3 FAIL, 1 TIMEOUT", or "-"
  std::string determinism() const;  // "always identical", "varying (declared: always identical)", or "-"
};

// By device in the verdict's order, then by operator. A planned case without a record counts as NOT_RUN.
std::vector<OperatorRow> operator_rows(const ConformanceReport& report);

double margin_of(const CaseRecord& record);  // the largest over its outputs
bool is_harmless(const CaseRecord& record);  // UNSUPPORTED or SKIPPED: red only where a required list has it
bool is_good(const CaseRecord& record);      // PASS, or WAIVED by a waiver that has not expired
// Everything about a case that is not good: status, check, numbers, first and worst element, kernel, how to see it
// again.
std::string failure_text(const CaseRecord& record);
const char* determinism_name(concord_determinism d);

}  // namespace concord::conformance
