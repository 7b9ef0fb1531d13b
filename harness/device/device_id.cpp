#include "device/device_id.hpp"

#include <algorithm>

namespace concord {
namespace {

bool is_index(std::string_view part) {
  return !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::vector<std::string_view> device_id_parts(std::string_view id) {
  std::vector<std::string_view> parts;
  for (std::size_t colon; (colon = id.find(':')) != std::string_view::npos; id.remove_prefix(colon + 1))
    parts.push_back(id.substr(0, colon));
  parts.push_back(id);
  return parts;
}

bool is_device_pattern(std::string_view pattern) {
  const auto parts = device_id_parts(pattern);
  return std::ranges::find(parts, "*") != parts.end();
}

bool matches_device(std::string_view pattern, std::string_view id) {
  return std::ranges::equal(device_id_parts(pattern), device_id_parts(id),
                            [](std::string_view p, std::string_view part) { return p == "*" || p == part; });
}

std::string device_kind(std::string_view id) {
  const auto parts = device_id_parts(id);
  std::string kind(parts.front());
  for (std::size_t i = 1; i < parts.size(); ++i)
    if (i != 1 || !is_index(parts[i])) kind.append(":").append(parts[i]);
  return kind;
}

std::string expand_device_id(const std::string& id, const std::vector<std::string>& existing) {
  const auto parts = device_id_parts(id);
  if (parts.size() != 2 || std::ranges::find(existing, id) != existing.end()) return id;
  const std::string first = std::string(parts[0]) + ":0:" + std::string(parts[1]);
  return std::ranges::find(existing, first) != existing.end() ? first : id;
}

}  // namespace concord
