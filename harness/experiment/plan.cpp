#include "experiment/plan.hpp"

#include <fmt/format.h>

#include <charconv>
#include <set>
#include <string_view>

namespace concord {
namespace {

std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t v = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return v;
}

// The number behind "every:" or "last:", at least 1.
std::optional<std::int64_t> argument(const std::string& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  const auto v = to_integer(std::string_view(text).substr(prefix.size()));
  return v && *v >= 1 ? v : std::nullopt;
}

// "1,5,9" with every element in [0, limit); nothing when it is not such a list.
std::optional<std::set<std::int64_t>> list(const std::string& text, std::int64_t limit) {
  std::set<std::int64_t> out;
  for (std::size_t i = 0; i <= text.size();) {
    const std::size_t comma = std::min(text.find(',', i), text.size());
    const auto v = to_integer(std::string_view(text).substr(i, comma - i));
    if (!v || *v < 0 || *v >= limit) return std::nullopt;
    out.insert(*v);
    i = comma + 1;
  }
  return out;
}

std::set<std::int64_t> range(std::int64_t first, std::int64_t last, std::int64_t step = 1) {
  std::set<std::int64_t> out;
  for (std::int64_t i = first; i <= last; i += step) out.insert(i);
  return out;
}

std::unexpected<Error> refuse(const char* code, const std::string& text, const std::string& expected) {
  return fail(ErrorKind::kUsage, code, fmt::format("expected {}, found \"{}\"", expected, text));
}

}  // namespace

Result<std::vector<std::int64_t>> CapturePlan::resolve_layers(std::int64_t model_layers) const {
  std::set<std::int64_t> chosen;
  if (layers == "all") {
    chosen = range(0, model_layers);
  } else if (const auto k = layers == "default" ? std::optional<std::int64_t>(8) : argument(layers, "every:")) {
    chosen = range(0, model_layers, *k);
    chosen.insert({model_layers - 1, model_layers});
  } else if (const auto listed = list(layers, model_layers + 1)) {
    chosen = *listed;
  } else {
    return refuse("plan.bad_layers", layers,
                  fmt::format("default, all, every:K or a list of hidden-state indices from 0 to {}", model_layers));
  }
  return std::vector<std::int64_t>(chosen.begin(), chosen.end());
}

Result<std::vector<std::int32_t>> CapturePlan::resolve_positions(std::int64_t prompt, std::int64_t new_tokens) const {
  const std::int64_t last = prompt + new_tokens - 2;
  std::set<std::int64_t> chosen;
  if (positions == "generated") {
    chosen = range(prompt - 1, last);
  } else if (positions == "all") {
    chosen = range(0, last);
  } else if (const auto k = argument(positions, "every:")) {
    chosen = range(0, last, *k);
  } else if (const auto n = argument(positions, "last:")) {
    chosen = range(std::max<std::int64_t>(0, last - *n + 1), last);
  } else if (const auto listed = list(positions, last + 1)) {
    chosen = *listed;
  } else {
    return refuse("plan.bad_positions", positions,
                  fmt::format("generated, all, every:K, last:K or a list of positions from 0 to {}", last));
  }
  return std::vector<std::int32_t>(chosen.begin(), chosen.end());
}

}  // namespace concord
