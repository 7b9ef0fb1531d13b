// $CONCORD_REQUIRE_BACKENDS=cpu,cuda:0: backends or devices whose absence is a failure, not a skip.
#pragma once
#include <cstdlib>
#include <string>
#include <vector>

namespace concord::conformance {

inline std::vector<std::string> required_backends() {
  std::vector<std::string> names;
  const char* set = std::getenv("CONCORD_REQUIRE_BACKENDS");
  std::string rest = set ? set : "";
  for (std::size_t end; !rest.empty(); rest.erase(0, std::min(end + 1, rest.size()))) {
    end = std::min(rest.find(','), rest.size());
    if (end > 0) names.push_back(rest.substr(0, end));
  }
  return names;
}

// A device id, or the backend it belongs to.
inline bool requires_backend(const std::string& device) {
  for (const std::string& name : required_backends())
    if (device == name || device.starts_with(name + ":")) return true;
  return false;
}

}  // namespace concord::conformance
