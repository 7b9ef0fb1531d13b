#include "conformance/bundle/record_numbers.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "abi/concord_float.hpp"
#include "base/text.hpp"

namespace concord::conformance {
namespace {

struct CountRow {
  const char* name;
  std::uint64_t OutputFindings::* member;
};
constexpr CountRow kCounts[] = {{"elements", &OutputFindings::elements},
                                {"guard_bytes", &OutputFindings::guard_bytes},
                                {"unwritten", &OutputFindings::unwritten},
                                {"nonfinite", &OutputFindings::nonfinite},
                                {"above_rigorous", &OutputFindings::above_rigorous},
                                {"above_probable", &OutputFindings::above_probable}};
struct NumberRow {
  const char* name;
  double OutputFindings::* member;
};
constexpr NumberRow kMargins[] = {{"margin", &OutputFindings::margin},
                                  {"margin_probable", &OutputFindings::margin_probable}};

// Margins are errors over bounds, and each of the two may be off by a slack of 2^-20.
constexpr double kMarginSlack = 0x1p-18;

bool same_number(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }
bool near(double a, double b, double slack) { return same_number(a, b) || std::abs(a - b) <= slack; }
bool near_margin(double a, double b) { return near(a, b, kMarginSlack * std::max({1.0, std::abs(a), std::abs(b)})); }

std::uint64_t elements_of(const Operand& o) {
  std::uint64_t n = 1;
  for (const std::int64_t d : o.dims) n *= static_cast<std::uint64_t>(d);
  return n;
}

std::uint64_t flat_index(const std::vector<std::int64_t>& dims, const std::vector<std::int64_t>& at) {
  std::uint64_t index = 0;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (at[i] < 0 || at[i] >= dims[i]) return std::numeric_limits<std::uint64_t>::max();
    index = index * static_cast<std::uint64_t>(dims[i]) + static_cast<std::uint64_t>(at[i]);
  }
  return index;
}

// A place is either not set (no coordinates) or one of the output's.
bool exists(const Coordinates& c, const Operand& o) {
  if (c.at.empty()) return c.index == 0;
  return c.at.size() == o.dims.size() && c.index < elements_of(o) && flat_index(o.dims, c.at) == c.index;
}

std::uint64_t wrong_elements(const OutputFindings& f) {
  return f.unwritten + f.nonfinite + f.above_rigorous + f.above_probable;
}

// Margins and counts say the same, and the worst element of a good output has the margin and is not beyond the largest
// error.
void check_margin(const OutputFindings& f, std::vector<std::string>& out) {
  const auto say = [&](std::string what) { out.push_back(fmt::format("{}: {}", f.name, what)); };
  if (std::isnan(f.margin) || std::isnan(f.margin_probable) || f.margin < 0 || f.margin_probable < 0 ||
      !(f.max_error >= 0))
    return say("a margin or an error is negative or no number");
  if (f.above_rigorous == 0 && f.nonfinite == 0 && f.unwritten == 0 && f.margin > 1)
    say(fmt::format("no element is above the bound, but the margin is {}", f.margin));
  if (f.above_rigorous > 0 && f.margin <= 1)
    say(fmt::format("{} elements are above the bound, but the margin is {}", f.above_rigorous, f.margin));
  if (f.above_probable > 0 && f.margin_probable <= 1)
    say(fmt::format("{} elements are above the probable bound, but its margin is {}", f.above_probable,
                    f.margin_probable));
  const Coordinates& w = f.worst;
  if (f.judged != "bound" || wrong_elements(f) > 0 || w.at.empty() || !std::isfinite(w.got) || !std::isfinite(w.want))
    return;
  const double error = std::abs(w.got - w.want);
  const double margin = error == 0 ? 0 : error / w.rigorous;
  if (!near_margin(margin, f.margin))
    say(fmt::format("the worst element has an error of {} of the bound, but the margin is {}", margin, f.margin));
  if (error > f.max_error * (1 + 0x1p-40))
    say(fmt::format("the worst element's error is {}, but max_error is {}", error, f.max_error));
}

void check_output(const OutputFindings& f, const Operand& o, std::vector<std::string>& out) {
  const auto say = [&](std::string what) { out.push_back(fmt::format("{}: {}", printable(f.name), what)); };
  if (f.name != o.name) return say(fmt::format("the case's output here is {}", o.name));
  if (f.elements != elements_of(o))
    return say(fmt::format("{} elements were judged, the case has {}", f.elements, elements_of(o)));
  for (const CountRow& row : kCounts)
    if (row.member != &OutputFindings::guard_bytes && f.*row.member > f.elements)
      say(fmt::format("{} is {} of {} elements", row.name, f.*row.member, f.elements));
  if (!exists(f.first, o) || !exists(f.worst, o)) say("the first or worst element is not one of the output's");
  check_margin(f, out);
}

void check_repetitions(const Repetitions& r, std::vector<std::string>& out) {
  if (r.repeats_equal > r.repeats || r.threads_equal.size() > r.threads.size() || r.rows_equal > r.rows)
    out.push_back("more repetitions are equal than were made");
  for (const std::uint32_t t : r.threads_equal)
    if (std::ranges::find(r.threads, t) == r.threads.end())
      out.push_back(fmt::format("{} threads gave equal bits, but were not tried", t));
}

bool must_have_outputs(const Problem& problem, const Evidence& e) {
  return problem.expect_refusal ? e.outcome == Outcome::kRefused : e.outcome == Outcome::kCompleted;
}

double stored(std::uint32_t dtype, double v) {
  std::byte narrow[8];
  concord_abi::store_f64(dtype, &v, 1, narrow);
  concord_abi::load_f64(dtype, narrow, 1, &v);
  return v;
}

double number_of(const ExpectedOutput& e, std::uint64_t i) {
  if (e.dtype == CONCORD_I8) return concord_abi::load_as<std::int8_t>(e.bits.data(), i);
  if (e.dtype == CONCORD_I32) return concord_abi::load_as<std::int32_t>(e.bits.data(), i);
  double v = 0;
  concord_abi::load_f64(e.dtype, e.bits.data() + i * concord_abi::dtype_bytes(e.dtype), 1, &v);
  return v;
}

// What findings have of the oracle at an element, as judge_outputs() writes it.
struct Wanted {
  double want = 0, rigorous = 0, probable = 0;
};
Wanted wanted(const ExpectedOutput& e, std::uint64_t i) {
  switch (e.judged) {
    case Judged::kBits:
      return {number_of(e, i), 0, 0};
    case Judged::kBound:
      return {e.want[i], e.rigorous[i], e.probable[i]};
    case Judged::kChoice:
      return {e.want[i], e.gap[i], e.gap[i]};
    default:
      return {concord_abi::is_float(e.dtype) ? stored(e.dtype, e.want[i]) : e.want[i], 0, 0};
  }
}

void check_element(const Coordinates& c, const ExpectedOutput& e, const char* which, std::vector<std::string>& out) {
  const std::uint64_t n = e.judged == Judged::kBits
                              ? e.bits.size() / std::max<std::uint64_t>(1, concord_abi::dtype_bytes(e.dtype))
                              : e.want.size();
  if (c.at.empty() || c.index >= n) return;  // own_contradictions() has looked at the place
  const Wanted w = wanted(e, c.index);
  const double slack = oracle_slack(w.want, w.rigorous);
  const std::string place = fmt::format("{}: the {} element [{}]", e.name, which, fmt::join(c.at, ","));
  if (!near(c.want, w.want, slack)) out.push_back(fmt::format("{} wants {}, the oracle {}", place, c.want, w.want));
  if (!near(c.rigorous, w.rigorous, slack) || !near(c.probable, w.probable, slack))
    out.push_back(fmt::format("{} was judged by the bounds {} and {}, they are {} and {}", place, c.rigorous,
                              c.probable, w.rigorous, w.probable));
}

// One place in both findings; an equal margin somewhere else is a tie.
void compare_places(const char* which, const OutputFindings& a, const OutputFindings& b, const Coordinates& x,
                    const Coordinates& y, std::vector<std::string>& out) {
  const auto say = [&](std::string what) { out.push_back(fmt::format("{}: {}", a.name, what)); };
  if (x.index != y.index || x.at != y.at) {
    if (near_margin(a.margin, b.margin) && std::string_view(which) == "worst") return;
    return say(fmt::format("the {} element is said to be [{}], it is [{}]", which, fmt::join(x.at, ","),
                           fmt::join(y.at, ",")));
  }
  const double slack = oracle_slack(y.want, y.rigorous);
  if (!same_number(x.got, y.got))
    say(fmt::format("the device's value at the {} element [{}] is said to be {}, it is {}", which, fmt::join(x.at, ","),
                    x.got, y.got));
  if (!near(x.want, y.want, slack))
    say(fmt::format("the {} element [{}] is said to want {}, it wants {}", which, fmt::join(x.at, ","), x.want,
                    y.want));
  if (!near(x.rigorous, y.rigorous, slack) || !near(x.probable, y.probable, slack))
    say(fmt::format("the bounds at the {} element [{}] are said to be {} and {}, they are {} and {}", which,
                    fmt::join(x.at, ","), x.rigorous, x.probable, y.rigorous, y.probable));
}

// What findings say of an output whatever the device wrote.
bool check_kind(const OutputFindings& a, const OutputFindings& b, std::vector<std::string>& out) {
  if (a.name == b.name && a.judged == b.judged && a.degenerate == b.degenerate) return true;
  const auto words = [](const OutputFindings& f) {
    return fmt::format("{} judged by {}{}", printable(f.name), printable(f.judged),
                       f.degenerate ? " (degenerate)" : "");
  };
  out.push_back(fmt::format("recorded as {}, it is {}", words(a), words(b)));
  return false;
}

void compare_outputs(const OutputFindings& a, const OutputFindings& b, std::vector<std::string>& out) {
  const auto say = [&](std::string what) { out.push_back(fmt::format("{}: {}", b.name, what)); };
  if (!check_kind(a, b, out)) return;
  for (const CountRow& row : kCounts)
    if (a.*row.member != b.*row.member)
      say(fmt::format("{} is said to be {}, the outputs say {}", row.name, a.*row.member, b.*row.member));
  for (const NumberRow& row : kMargins)
    if (!near_margin(a.*row.member, b.*row.member))
      say(fmt::format("{} is said to be {}, the outputs say {}", row.name, a.*row.member, b.*row.member));
  if (!near(a.max_error, b.max_error, 0x1p-12 * b.max_error + oracle_slack(b.worst.want, b.worst.rigorous)))
    say(fmt::format("max_error is said to be {}, the outputs say {}", a.max_error, b.max_error));
  compare_places("first", a, b, a.first, b.first, out);
  compare_places("worst", a, b, a.worst, b.worst, out);
}

}  // namespace

double oracle_slack(double want, double rigorous) {
  const double slack = 0x1p-20 * rigorous + 0x1p-40 * std::abs(want);
  return std::isfinite(slack) ? slack : 0;
}

std::vector<std::string> own_contradictions(const Problem& problem, const Evidence& e) {
  std::vector<std::string> out;
  if (e.expect_refusal != problem.expect_refusal)
    out.push_back(problem.expect_refusal ? "the case must be refused, the record says that it need not"
                                         : "the record says that the case must be refused; it must be computed");
  check_repetitions(e.again, out);
  if (!must_have_outputs(problem, e)) return out;
  if (e.outputs.size() != problem.outputs.size()) {
    out.push_back(fmt::format("findings of {} outputs, the case has {}", e.outputs.size(), problem.outputs.size()));
    return out;
  }
  for (std::size_t i = 0; i < e.outputs.size(); ++i) check_output(e.outputs[i], problem.outputs[i], out);
  return out;
}

std::vector<std::string> findings_contradictions(const std::vector<OutputFindings>& recorded,
                                                 const std::vector<OutputFindings>& found) {
  std::vector<std::string> out;
  if (recorded.size() != found.size())
    return {fmt::format("findings of {} outputs, there are {}", recorded.size(), found.size())};
  for (std::size_t i = 0; i < found.size(); ++i) compare_outputs(recorded[i], found[i], out);
  return out;
}

std::vector<std::string> oracle_contradictions(const std::vector<OutputFindings>& recorded,
                                               const std::vector<OutputFindings>& shape,
                                               const Expectation& expectation) {
  std::vector<std::string> out;
  if (recorded.size() != expectation.outputs.size())
    return {fmt::format("findings of {} outputs, the oracle has {}", recorded.size(), expectation.outputs.size())};
  for (std::size_t i = 0; i < recorded.size(); ++i) {
    check_kind(recorded[i], shape[i], out);
    check_element(recorded[i].worst, expectation.outputs[i], "worst", out);
    check_element(recorded[i].first, expectation.outputs[i], "first", out);
  }
  return out;
}

}  // namespace concord::conformance
