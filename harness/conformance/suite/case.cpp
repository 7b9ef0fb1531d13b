#include "conformance/suite/case.hpp"

#include <fmt/format.h>

#include <charconv>

#include "base/text.hpp"

namespace concord::conformance {
namespace {

bool is_axis(std::string_view key) { return key.size() == 1 && key[0] >= 'A' && key[0] <= 'Z'; }

bool is_word(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) return false;
  return true;
}

}  // namespace

std::string CaseSpec::id() const {
  std::map<std::string, std::string> all(options.begin(), options.end());
  for (const auto& [key, value] : axes) all[key] = std::to_string(value);
  std::string text = op + "/";
  for (const auto& [key, value] : all) text += (text.back() == '/' ? "" : ",") + key + "=" + value;
  return text;
}

Result<CaseSpec> CaseSpec::parse(std::string_view id) {
  const auto wrong = [&](std::string_view what) {
    return fail(ErrorKind::kUsage, "case.syntax",
                fmt::format("\"{}\" is not a case id: {}; expected OPERATOR/KEY=VALUE,..., as concord list prints them", printable(id, 200), what));
  };
  const std::size_t slash = id.find('/');
  if (id.size() > 1024) return wrong("it is longer than 1024 characters");
  if (slash == std::string_view::npos || !is_word(id.substr(0, slash))) return wrong("no operator before a slash");
  CaseSpec spec;
  spec.op = id.substr(0, slash);
  for (std::string_view rest = id.substr(slash + 1); !rest.empty();) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) return wrong("a part without an equals sign");
    const std::string key(item.substr(0, equals));
    const std::string_view value = item.substr(equals + 1);
    bool is_new = false;
    if (is_axis(key)) {
      std::int64_t number = -1;
      const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (code != std::errc() || end != value.data() + value.size() || number < 0) return wrong(key + " is not an extent");
      is_new = spec.axes.emplace(key, number).second;
    } else {
      if (!is_word(key) || !is_word(value)) return wrong("keys and values are words of [a-z0-9._-]");
      is_new = spec.options.emplace(key, value).second;
    }
    if (!is_new) return wrong(key + " stands twice");
  }
  if (const std::string canonical = spec.id(); canonical != id)
    return fail(ErrorKind::kUsage, "case.not_canonical", fmt::format("\"{}\" is not in canonical form; write {}", printable(id, 200), canonical));
  return spec;
}

const char* tier_name(Tier t) {
  constexpr const char* kNames[] = {"smoke", "full", "nightly"};
  return kNames[static_cast<int>(t)];
}

Result<Tier> tier_from_name(const std::string& name) {
  for (const Tier t : {Tier::kSmoke, Tier::kFull, Tier::kNightly})
    if (name == tier_name(t)) return t;
  return fail(ErrorKind::kUsage, "case.unknown_tier", fmt::format("\"{}\" is not a tier; expected smoke, full or nightly", printable(name)));
}

}  // namespace concord::conformance
