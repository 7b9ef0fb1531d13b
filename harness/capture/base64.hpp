// Base64 (RFC 4648, section 4): the standard alphabet with padding. Not for other floors.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace concord {

std::string to_base64(std::span<const std::byte> bytes);
// Strict: no white space, padding present, unused bits zero. So every byte string has exactly one accepted text.
std::optional<std::vector<std::byte>> from_base64(std::string_view text);

}  // namespace concord
