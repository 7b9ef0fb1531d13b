#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <regex>
#include <set>

#include "base/text.hpp"
#include "conformance/suite/definition.hpp"
#include "conformance/suite/suite.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kMaxValues = 10'000, kMaxSelected = 100'000, kMaxPattern = 500;
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;

std::unexpected<Error> usage(const char* code, const std::string& what) { return fail(ErrorKind::kUsage, code, what); }

// One -a argument: a key and the values that replace its own.
struct Axis {
  std::string key;
  std::vector<std::string> values;
};

class AxisParser {
 public:
  explicit AxisParser(const std::string& text) : text_(text) {}

  Result<Axis> parse() {
    const std::size_t equals = text_.find('=');
    if (text_.size() > 10'000 || equals == std::string::npos || equals == 0 || equals + 1 == text_.size()) return wrong("expected KEY=VALUES");
    std::string key = text_.substr(0, equals), values = text_.substr(equals + 1);
    const bool powers = key.ends_with("[pow2]");
    if (powers) key.resize(key.size() - 6);
    if (key.empty() || key.find('[') != std::string::npos) return wrong("the key may be followed by [pow2] only");
    if (powers && !is_axis_key(key)) return wrong("[pow2] is for axes (one capital letter)");
    const bool listed = values.starts_with('[');
    if (listed != values.ends_with(']')) return wrong("unbalanced brackets");
    if (listed) values = values.substr(1, values.size() - 2);
    CONCORD_TRY(std::vector<std::string> items, listed && values.find(':') != std::string::npos ? range(values) : list(values, is_axis_key(key)));
    if (powers) {
      CONCORD_CHECK(raise(items));
    }
    const std::set<std::string> distinct(items.begin(), items.end());
    if (distinct.size() != items.size()) return wrong("a value stands twice");
    return Axis{key, std::move(items)};
  }

 private:
  std::unexpected<Error> wrong(const std::string& what) const {
    return usage("select.bad_axis", fmt::format("-a \"{}\": {}; examples: \"K[pow2]=[0:12:2]\", \"M=[1:9:2]\", \"M=[1,7,64]\", \"K=4096\", \"x=[bf16,f16]\"",
                                                printable(text_), what));
  }
  Result<std::int64_t> number(std::string_view text) const {
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || value < 0 || value > kMaxExtent || std::to_string(value) != text)
      return wrong(fmt::format("\"{}\" is not an integer of 0 to {}", printable(text), kMaxExtent));
    return value;
  }
  Result<std::vector<std::string>> list(const std::string& values, bool numbers) const {
    std::vector<std::string> items(1);
    for (const char c : values)
      if (c == ',') items.emplace_back();
      else items.back() += c;
    if (items.size() > kMaxValues) return wrong(fmt::format("more than {} values", kMaxValues));
    for (const std::string& item : items) {
      if (item.empty()) return wrong("an empty value");
      if (numbers) {
        CONCORD_CHECK(number(item));
      }
    }
    return items;
  }
  Result<std::vector<std::string>> range(const std::string& values) const {
    std::vector<std::int64_t> parts;
    for (std::size_t at = 0; at <= values.size();) {
      const std::size_t colon = std::min(values.find(':', at), values.size());
      CONCORD_TRY(const std::int64_t n, number(std::string_view(values).substr(at, colon - at)));
      parts.push_back(n);
      at = colon + 1;
    }
    if (parts.size() == 2) parts.push_back(1);
    if (parts.size() != 3 || parts[2] < 1 || parts[1] < parts[0]) return wrong("a range is FIRST:LAST or FIRST:LAST:STEP, with STEP at least 1");
    if (static_cast<std::size_t>((parts[1] - parts[0]) / parts[2]) >= kMaxValues) return wrong(fmt::format("more than {} values", kMaxValues));
    std::vector<std::string> items;
    for (std::int64_t v = parts[0]; v <= parts[1]; v += parts[2]) items.push_back(std::to_string(v));
    return items;
  }
  Status raise(std::vector<std::string>& items) const {
    for (std::string& item : items) {
      CONCORD_TRY(const std::int64_t exponent, number(item));
      if (exponent > 31) return wrong("an exponent is at most 31");
      item = std::to_string(std::int64_t{1} << exponent);
    }
    return {};
  }

  const std::string& text_;
};

Result<std::vector<Axis>> parse_axes(const std::vector<std::string>& arguments) {
  std::vector<Axis> axes;
  std::size_t combinations = 1;
  for (const std::string& text : arguments) {
    CONCORD_TRY(Axis axis, AxisParser(text).parse());
    for (const Axis& other : axes)
      if (other.key == axis.key) return usage("select.bad_axis", fmt::format("-a names {} twice", printable(axis.key)));
    combinations *= axis.values.size();
    if (combinations > kMaxSelected) return usage("select.too_many", fmt::format("-a asks for more than {} combinations", kMaxSelected));
    axes.push_back(std::move(axis));
  }
  return axes;
}

void set_key(CaseSpec& spec, const std::string& key, const std::string& value) {
  if (is_axis_key(key)) spec.axes[key] = std::stoll(value);
  else spec.options[key] = value;
}
bool has_key(const CaseSpec& spec, const std::string& key) { return is_axis_key(key) ? spec.axes.contains(key) : spec.options.contains(key); }

// Replaces the values of the axes' keys in every case that has all of them and has something to compute.
class Replacement {
 public:
  Replacement(const OperatorSuite& suite, const std::vector<Axis>& axes) : suite_(suite), axes_(axes) {}

  Result<std::vector<PlannedCase>> run(const std::vector<PlannedCase>& cases) {
    for (const PlannedCase& c : cases) {
      if (has_empty_extent(c.spec) || !std::ranges::all_of(axes_, [&](const Axis& a) { return has_key(c.spec, a.key); })) {
        ++without_key_;
        continue;
      }
      CONCORD_CHECK(replace(c, c.spec, 0));
    }
    CONCORD_CHECK(check_used());
    std::vector<PlannedCase> out;
    for (auto& [id, c] : found_) out.push_back(std::move(c));
    return out;
  }

 private:
  Status replace(const PlannedCase& from, const CaseSpec& spec, std::size_t depth) {
    if (depth == axes_.size()) return add(from, spec);
    for (const std::string& value : axes_[depth].values) {
      CaseSpec next = spec;
      set_key(next, axes_[depth].key, value);
      CONCORD_CHECK(replace(from, next, depth + 1));
    }
    return {};
  }
  Status add(const PlannedCase& from, const CaseSpec& spec) {
    if (++tried_ > 20 * kMaxSelected) return usage("select.too_many", "-a asks for too many cases; narrow the selection with --op or -p");
    const std::string id = spec.id();
    if (found_.contains(id)) return {};
    auto planned = suite_.plan(spec);
    if (!planned) {
      ++broken_;
      if (first_reason_.empty()) first_reason_ = planned.error().message;
      return {};
    }
    planned->tier = from.tier, planned->tags = from.tags;
    if (id != from.id) std::erase_if(planned->tags, [](const std::string& t) { return t.starts_with("model:"); });
    for (const Axis& a : axes_) used_.insert(a.key + "=" + (is_axis_key(a.key) ? std::to_string(spec.axis(a.key)) : spec.option(a.key)));
    found_.emplace(id, std::move(*planned));
    if (found_.size() > kMaxSelected) return usage("select.too_many", fmt::format("more than {} cases; narrow the selection", kMaxSelected));
    return {};
  }
  // A value that fits nowhere is a mistake, not a filter: what was asked for must not silently be left out.
  Status check_used() const {
    const std::string dropped = fmt::format("{} combinations break a definition{}{}, {} cases lack the key or are empty", broken_, first_reason_.empty() ? "" : ": ",
                                            first_reason_, without_key_);
    if (found_.empty()) return fail(ErrorKind::kNothingRun, "select.nothing", fmt::format("no case is left: {}", dropped));
    for (const Axis& a : axes_)
      for (const std::string& v : a.values)
        if (!used_.contains(a.key + "=" + v))
          return usage("select.unused_value", fmt::format("{}={} fits no selected case ({})", a.key, printable(v), dropped));
    return {};
  }

  const OperatorSuite& suite_;
  const std::vector<Axis>& axes_;
  std::map<std::string, PlannedCase> found_;
  std::set<std::string> used_;
  std::size_t without_key_ = 0, broken_ = 0, tried_ = 0;
  std::string first_reason_;
};

Result<std::optional<std::regex>> compile(const std::string& pattern) {
  if (pattern.empty()) return std::optional<std::regex>{};
  if (pattern.size() > kMaxPattern) return usage("select.bad_pattern", fmt::format("-p is longer than {} characters", kMaxPattern));
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    return usage("select.bad_pattern", fmt::format("-p \"{}\" is no regular expression: {}", printable(pattern), e.what()));
  }
}

Status check_names(const std::vector<std::string>& asked, const std::vector<std::string>& known, const char* code, const char* kind) {
  for (const std::string& name : asked)
    if (std::ranges::find(known, name) == known.end())
      return usage(code, fmt::format("the suite has no {} \"{}\"; it has {}", kind, printable(name), fmt::join(known, ", ")));
  return {};
}

// The listed cases up to the tier, or the ids that were named.
Result<std::vector<PlannedCase>> candidates(const OperatorSuite& suite, const Selection& s) {
  std::vector<PlannedCase> out;
  if (s.ids.empty()) {
    std::ranges::copy_if(suite.cases(), std::back_inserter(out), [&](const PlannedCase& c) { return c.tier <= s.tier; });
    return out;
  }
  std::map<std::string_view, const PlannedCase*> listed;
  for (const PlannedCase& c : suite.cases()) listed[c.id] = &c;
  std::set<std::string> seen;
  for (const std::string& id : s.ids) {
    if (!seen.insert(id).second) continue;
    if (const auto it = listed.find(id); it != listed.end()) {
      out.push_back(*it->second);
      continue;
    }
    CONCORD_TRY(const CaseSpec spec, CaseSpec::parse(id));
    CONCORD_TRY(PlannedCase c, suite.plan(spec));
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace

Result<std::vector<PlannedCase>> select(const OperatorSuite& suite, const Selection& s) {
  CONCORD_CHECK(check_names(s.families, suite.families(), "select.unknown_family", "family"));
  CONCORD_CHECK(check_names(s.operators, suite.operators(), "select.unknown_operator", "operator"));
  CONCORD_TRY(const std::optional<std::regex> pattern, compile(s.pattern));
  CONCORD_TRY(const std::vector<Axis> axes, parse_axes(s.axes));
  CONCORD_TRY(std::vector<PlannedCase> cases, candidates(suite, s));
  const auto named = [](const std::vector<std::string>& names, const std::string& name) {
    return names.empty() || std::ranges::find(names, name) != names.end();
  };
  std::erase_if(cases, [&](const PlannedCase& c) { return !named(s.families, c.family) || !named(s.operators, c.spec.op); });
  const bool some = !cases.empty();
  if (some && !axes.empty()) {
    CONCORD_TRY(cases, Replacement(suite, axes).run(cases));
  }
  if (pattern) std::erase_if(cases, [&](const PlannedCase& c) { return !std::regex_search(c.id, *pattern); });
  if (!cases.empty()) return cases;
  return fail(ErrorKind::kNothingRun, "select.nothing",
              some && pattern ? fmt::format("no case of the selection matches -p \"{}\"", printable(s.pattern))
                              : fmt::format("no case in the tier {} is of the families and operators asked for", tier_name(s.tier)));
}

}  // namespace concord::conformance
