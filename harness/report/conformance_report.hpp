// Reports of a conformance run: for a terminal, as Markdown with its picture, as JUnit. Pure functions over records;
// nothing is printed here.
#pragma once
#include <string>
#include <vector>

#include "conformance/run/verdict.hpp"

namespace concord::conformance {

struct ConformanceReport {
  Verdict verdict;
  std::vector<PlannedCase> plan;
  std::vector<CaseRecord> records;
  std::string command;             // the line that was typed, canonical
  std::string folder;              // where the journal lies; empty: nowhere
  OrderedJson provenance;          // provenance()
  std::vector<std::string> notes;  // one sentence each: devices that were left out and why
};

std::string terminal_report(const ConformanceReport& report);
std::string markdown_report(const ConformanceReport& report,
                            const std::string& picture);  // picture: file name of margin_map_svg, empty: none
// One testsuite for each device, one testcase for each case, with the raw numbers as properties. Whatever is not PASS
// or WAIVED and required is a failure or an error; what is not required and UNSUPPORTED or SKIPPED is skipped, with the
// reason.
std::string junit_report(const ConformanceReport& report);
// Largest margin (error / rigorous bound) by operator and device, on a logarithmic scale: hatched unsupported, white
// not run, red failed.
std::string margin_map_svg(const ConformanceReport& report);

}  // namespace concord::conformance
