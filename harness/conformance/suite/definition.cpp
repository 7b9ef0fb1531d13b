#include "conformance/suite/definition.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/text.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kMaxKeys = 32, kMaxWords = 64, kMaxConstraints = 32;
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;

bool is_word(std::string_view text) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, good);
}

Result<std::vector<std::string>> read_words(const JsonFields& f, const std::string& key) {
  CONCORD_TRY(std::vector<std::string> words, f.strings(key));
  for (const std::string& w : words)
    if (!is_word(w)) return f.error("out_of_range", fmt::format("\"{}\" in {} is no word of [a-z0-9._-]", printable(w), key));
  if (words.empty() || words.size() > kMaxWords) return f.error("out_of_range", fmt::format("{} has {} words, expected 1 to {}", key, words.size(), kMaxWords));
  return words;
}

Result<AxisRule> read_axis(const JsonFields& f) {
  CONCORD_CHECK(f.only({"min", "max", "about"}));
  AxisRule rule;
  CONCORD_TRY(rule.min, f.integer("min", 0, kMaxExtent));
  CONCORD_TRY(rule.max, f.integer("max", rule.min, kMaxExtent));
  CONCORD_TRY(rule.about, f.string("about"));
  return rule;
}

Result<OptionRule> read_option(const JsonFields& f) {
  CONCORD_CHECK(f.only({"words", "about"}));
  OptionRule rule;
  CONCORD_TRY(rule.words, read_words(f, "words"));
  CONCORD_TRY(rule.about, f.string("about"));
  return rule;
}

// "axes" and "options": objects of keys, each of its own kind.
template <class Rule>
Result<std::map<std::string, Rule>> read_keys(const JsonFields& f, const char* field, bool axes, Result<Rule> (*read)(const JsonFields&)) {
  CONCORD_TRY(const JsonFields all, f.object(field));
  if (all.json().size() > kMaxKeys) return f.error("out_of_range", fmt::format("{} has more than {} keys", field, kMaxKeys));
  std::map<std::string, Rule> rules;
  for (const auto& [key, ignored] : all.json().items()) {
    if (is_axis_key(key) != axes || (!axes && !is_word(key)))
      return f.error("bad_key", fmt::format("\"{}\" cannot stand in {}: an axis is one capital letter, an option a word of [a-z0-9._-]", printable(key), field));
    CONCORD_TRY(const JsonFields one, all.object(key));
    CONCORD_TRY(rules[key], read(one));
  }
  return rules;
}

Result<Implication> read_implication(const Definition& d, const JsonFields& f) {
  CONCORD_CHECK(f.only({"when", "is", "then", "in"}));
  Implication i;
  CONCORD_TRY(i.key, f.string("when"));
  CONCORD_TRY(i.word, f.string("is"));
  CONCORD_TRY(i.then, f.string("then"));
  CONCORD_TRY(i.words, read_words(f, "in"));
  if (!d.options.contains(i.key) || !d.options.contains(i.then))
    return f.error("bad_key", fmt::format("\"{}\" or \"{}\" is no option of this operator", printable(i.key), printable(i.then)));
  return i;
}

Result<Expression> read_formula(const JsonFields& f, const char* key) {
  CONCORD_TRY(const std::string text, f.string(key));
  auto e = Expression::parse(text);
  if (!e) return bad_input(e.error().code, fmt::format("{}: {}", key, e.error().message), f.file());
  return e;
}

Status read_rules(Definition& d, const JsonFields& f) {
  CONCORD_TRY(const std::vector<std::string> constraints, f.strings("constraints"));
  if (constraints.size() > kMaxConstraints) return f.error("out_of_range", fmt::format("more than {} constraints", kMaxConstraints));
  for (const std::string& text : constraints) {
    auto e = Expression::parse(text);
    if (!e) return bad_input(e.error().code, "constraints: " + e.error().message, f.file());
    d.constraints.push_back(std::move(*e));
  }
  if (!f.has("implications")) return {};
  CONCORD_TRY(const std::vector<JsonFields> all, f.objects("implications"));
  if (all.size() > kMaxConstraints) return f.error("out_of_range", fmt::format("more than {} implications", kMaxConstraints));
  for (const JsonFields& one : all) {
    CONCORD_TRY(Implication i, read_implication(d, one));
    d.implications.push_back(std::move(i));
  }
  return {};
}

std::unexpected<Error> wrong_case(const CaseSpec& spec, const char* code, const std::string& what) {
  return fail(ErrorKind::kUsage, code, fmt::format("{}: {}", printable(spec.id(), 300), what));
}

Status check_keys(const Definition& d, const CaseSpec& spec) {
  for (const auto& [key, rule] : d.axes)
    if (!spec.axes.contains(key)) return wrong_case(spec, "case.missing_key", fmt::format("{} needs the key {} ({})", d.op, key, rule.about));
  for (const auto& [key, rule] : d.options)
    if (!spec.options.contains(key))
      return wrong_case(spec, "case.missing_key", fmt::format("{} needs the key {} ({}: {})", d.op, key, rule.about, fmt::join(rule.words, ", ")));
  for (const auto& [key, value] : spec.axes)
    if (!d.axes.contains(key)) return wrong_case(spec, "case.unknown_key", fmt::format("{} has no key {}", d.op, key));
  for (const auto& [key, value] : spec.options)
    if (!d.options.contains(key)) return wrong_case(spec, "case.unknown_key", fmt::format("{} has no key {}", d.op, printable(key)));
  return {};
}

Status check_values(const Definition& d, const CaseSpec& spec) {
  for (const auto& [key, value] : spec.axes)
    if (const AxisRule& rule = d.axes.at(key); value < rule.min || value > rule.max)
      return wrong_case(spec, "case.bad_value", fmt::format("{}={} is outside {} to {}", key, value, rule.min, rule.max));
  for (const auto& [key, value] : spec.options)
    if (const auto& words = d.options.at(key).words; std::ranges::find(words, value) == words.end())
      return wrong_case(spec, "case.bad_value", fmt::format("{}={} is none of {}", key, printable(value), fmt::join(words, ", ")));
  return {};
}

}  // namespace

bool is_axis_key(std::string_view key) { return key.size() == 1 && key[0] >= 'A' && key[0] <= 'Z'; }

bool has_empty_extent(const CaseSpec& spec) {
  return std::ranges::any_of(spec.axes, [](const auto& axis) { return axis.second == 0; });
}

Names names_of(const CaseSpec& spec) {
  Names names;
  for (const auto& [key, value] : spec.axes) names.numbers[key] = static_cast<double>(value);
  for (const auto& [key, word] : spec.options) {
    names.words[key] = word;
    double number = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (code == std::errc() && end == word.data() + word.size()) names.numbers[key] = number;
  }
  return names;
}

Status Definition::check(const CaseSpec& spec) const {
  if (spec.op != op) return wrong_case(spec, "case.unknown_operator", fmt::format("it is no case of {}", op));
  CONCORD_CHECK(check_keys(*this, spec));
  CONCORD_CHECK(check_values(*this, spec));
  for (const Implication& i : implications)
    if (spec.option(i.key) == i.word && std::ranges::find(i.words, spec.option(i.then)) == i.words.end())
      return wrong_case(spec, "case.constraint", fmt::format("{}={} wants {} to be one of {}", i.key, i.word, i.then, fmt::join(i.words, ", ")));
  if (has_empty_extent(spec)) return {};
  const Names names = names_of(spec);
  for (const Expression& c : constraints) {
    CONCORD_TRY(const double holds, c.evaluate(names));
    if (holds == 0) return wrong_case(spec, "case.constraint", fmt::format("\"{}\" does not hold", c.text()));
  }
  return {};
}

Result<PlannedCase> Definition::plan(const CaseSpec& spec) const {
  CONCORD_CHECK(check(spec));
  PlannedCase c{.spec = spec, .id = spec.id(), .family = family, .tier = Tier::kNightly, .tags = {}, .bytes = 0, .flops = 0};
  if (has_empty_extent(spec)) return c;  // it is refused before anything is read or computed
  const Names names = names_of(spec);
  CONCORD_TRY(c.bytes, bytes.evaluate(names));
  CONCORD_TRY(c.flops, flops.evaluate(names));
  return c;
}

Result<Definition> read_definition(const JsonFields& f) {
  CONCORD_CHECK(f.schema("concord.operator/1"));
  CONCORD_CHECK(f.only({"schema", "operator", "family", "summary", "axes", "options", "constraints", "implications", "bytes", "flops", "workloads"}));
  Definition d;
  d.file = f.file();
  CONCORD_TRY(d.op, f.string("operator"));
  CONCORD_TRY(d.family, f.string("family"));
  CONCORD_TRY(d.summary, f.string("summary"));
  if (!is_word(d.op) || !is_word(d.family)) return f.error("out_of_range", "operator and family are words of [a-z0-9._-]");
  CONCORD_TRY(d.axes, read_keys(f, "axes", true, read_axis));
  CONCORD_TRY(d.options, read_keys(f, "options", false, read_option));
  CONCORD_CHECK(read_rules(d, f));
  CONCORD_TRY(d.bytes, read_formula(f, "bytes"));
  CONCORD_TRY(d.flops, read_formula(f, "flops"));
  return d;
}

}  // namespace concord::conformance
