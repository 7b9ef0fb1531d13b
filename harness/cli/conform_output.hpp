// What `conform` writes: any number of outputs of one run.
#pragma once
#include <string>
#include <vector>

#include "conformance/verdict.hpp"

namespace concord::cli {

struct OutputFormat {
  std::string format, file;  // "jsonl", "cases.jsonl"; an empty file is the standard output
};
std::string format_help();
// "md=FILE", "jsonl=FILE", "terminal". Nothing: terminal. Errors: conform.format (usage).
Result<std::vector<OutputFormat>> parse_formats(const std::vector<std::string>& arguments);

Status write_outputs(const std::vector<OutputFormat>& formats, const std::vector<conformance::CaseRecord>& records, const conformance::Verdict& verdict,
                     const std::vector<std::string>& notes, const std::string& folder);

}  // namespace concord::cli
