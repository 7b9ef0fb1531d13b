#include "capture/base64.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace concord {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kInvalid = 0xff;

constexpr std::array<std::uint8_t, 256> reverse_alphabet() {
  std::array<std::uint8_t, 256> out{};
  out.fill(kInvalid);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    out[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  return out;
}
constexpr auto kValues = reverse_alphabet();

}  // namespace

std::string to_base64(std::span<const std::byte> bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t b = 0; b < 3; ++b)
      group = group << 8 | (b < n ? std::to_integer<std::uint32_t>(bytes[i + b]) : 0u);
    for (std::size_t c = 0; c < 4; ++c) out.push_back(c <= n ? kAlphabet[group >> (18 - 6 * c) & 63] : '=');
  }
  return out;
}

std::optional<std::vector<std::byte>> from_base64(std::string_view text) {
  if (text.size() % 4) return std::nullopt;
  std::vector<std::byte> out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const std::size_t padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
    std::uint32_t group = 0;
    for (std::size_t c = 0; c < 4; ++c) {
      const std::uint8_t v = c < 4 - padding ? kValues[static_cast<unsigned char>(text[i + c])] : std::uint8_t{0};
      if (v == kInvalid) return std::nullopt;
      group = group << 6 | v;
    }
    if (padding && group & ((1u << (8 * padding)) - 1)) return std::nullopt;  // bits that no encoder sets
    for (std::size_t b = 0; b < 3 - padding; ++b) out.push_back(static_cast<std::byte>(group >> (16 - 8 * b)));
  }
  return out;
}

}  // namespace concord
