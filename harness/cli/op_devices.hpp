// Which devices `conform` means, found out by another process: the one that judges never loads a plug-in.
#pragma once
#include <string>
#include <vector>

#include "cli/case_arguments.hpp"

namespace concord::cli {

// As choose_case_devices. Errors: its own, and device.search_crashed, device.search_hangs where a plug-in does not let itself be loaded.
Result<std::vector<std::string>> resolve_devices(const std::string& program, const CaseArguments& arguments);

}  // namespace concord::cli
