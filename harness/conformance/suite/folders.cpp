#include "conformance/suite/folders.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace concord::conformance {
namespace fs = std::filesystem;

std::string data_folder(const std::string& name) {
  if (const char* suites = std::getenv("CONCORD_SUITES"); suites && *suites) return (fs::path(suites) / name).string();
  std::error_code ignored;
  const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path() / "../share/concord/suites" / name;
  if (fs::exists(beside, ignored)) return fs::weakly_canonical(beside, ignored).string();
  return (fs::path(CONCORD_SUITES_DIR) / name).string();
}

Result<std::vector<std::string>> files_of(const std::string& folder, const std::string& ending, std::size_t limit) {
  std::vector<std::string> files;
  std::error_code ec;
  if (!fs::exists(folder, ec)) return files;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    if (!it->path().filename().string().ends_with(ending)) continue;
    files.push_back(it->path().string());
    if (files.size() > limit) return bad_input("suite.out_of_range", fmt::format("more than {} files *{} in this folder", limit, ending), folder);
  }
  if (ec) return fail(ErrorKind::kIo, "file.list", "cannot list this folder: " + ec.message(), folder);
  std::ranges::sort(files);
  return files;
}

}  // namespace concord::conformance
