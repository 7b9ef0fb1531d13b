// Text helpers: hexadecimal, printable excerpts of hostile strings.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace concord {

std::string to_hex(std::span<const std::byte> bytes);                     // lowercase
std::optional<std::vector<std::byte>> from_hex(std::string_view text);    // even length, either case
// At most `limit` characters, control characters and invalid UTF-8 shown as \xNN, safe to print on a terminal.
std::string printable(std::string_view text, std::size_t limit = 80);
bool is_valid_utf8(std::string_view text);  // no overlong forms, no surrogates, at most U+10FFFF

}  // namespace concord
