// $CONCORD_REQUIRE_BACKENDS=cpu,cuda:0: backends or devices whose absence is a failure, not a skip.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

namespace concord::conformance {

// Between commas, without empty ones.
inline std::vector<std::string> split(std::string rest) {
  std::vector<std::string> names;
  for (std::size_t end; !rest.empty(); rest.erase(0, std::min(end + 1, rest.size()))) {
    end = std::min(rest.find(','), rest.size());
    if (end > 0) names.push_back(rest.substr(0, end));
  }
  return names;
}

inline std::vector<std::string> required_backends() {
  const char* set = std::getenv("CONCORD_REQUIRE_BACKENDS");
  return split(set ? set : "");
}

// Whether a name says that a device must be there: its id or the name that a test gives it, or the backend it belongs to.
inline bool names_device(const std::string& name, const std::string& device) {
  return device == name || (name.find(':') == std::string::npos && device.starts_with(name + ":"));
}

inline bool requires_backend(const std::string& device) {
  for (const std::string& name : required_backends())
    if (names_device(name, device)) return true;
  return false;
}

}  // namespace concord::conformance
