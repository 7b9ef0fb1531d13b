// Where the suite's data lies.
#pragma once
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord::conformance {

// $CONCORD_SUITES/NAME, else share/concord/suites/NAME beside the program where that exists, else the source tree's.
std::string data_folder(const std::string& name);
// Files of a folder with this ending, sorted. A missing folder has none. Errors: suite.out_of_range (more than `limit`), file.list.
Result<std::vector<std::string>> files_of(const std::string& folder, const std::string& ending, std::size_t limit);

}  // namespace concord::conformance
