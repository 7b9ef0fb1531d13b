// What `conform` and `judge` write: any number of outputs of one report.
#pragma once
#include <string>
#include <vector>

#include "report/conformance_report.hpp"

namespace concord::cli {

struct OutputFormat {
  std::string format, file;  // "jsonl", "cases.jsonl"; an empty file is the standard output
};
std::string format_help();
// "md=FILE", "jsonl=FILE", "terminal". Nothing: terminal. Errors: conform.format (usage).
Result<std::vector<OutputFormat>> parse_formats(const std::vector<std::string>& arguments);

// Where no output goes to the standard output, the verdict does. md=FILE also writes its picture, beside it.
Status write_outputs(const std::vector<OutputFormat>& formats, const conformance::ConformanceReport& report);

}  // namespace concord::cli
