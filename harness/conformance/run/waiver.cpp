#include "conformance/run/waiver.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "conformance/suite/folders.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kMaxWaivers = 1000, kMaxFiles = 64, kMaxText = 1000, kMaxFileBytes = 4u << 20, kMaxDevices = 64;

// What a waiver can excuse. The other statuses are not outcomes of an execution.
constexpr CaseStatus kExcusable[] = {CaseStatus::kFail,    CaseStatus::kMistrusted, CaseStatus::kNondeterministic, CaseStatus::kError,
                                     CaseStatus::kCrash,   CaseStatus::kTimeout,    CaseStatus::kOom,              CaseStatus::kUnsupported};
bool has_margin(CaseStatus s) { return s == CaseStatus::kFail || s == CaseStatus::kMistrusted; }

bool is_literal(std::string_view text) { return !text.empty() && text.find_first_of("*?") == std::string_view::npos; }

bool is_date(const std::string& text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  for (const std::size_t i : {0, 1, 2, 3, 5, 6, 8, 9})
    if (text[i] < '0' || text[i] > '9') return false;
  const std::chrono::year_month_day date{std::chrono::year(std::stoi(text.substr(0, 4))), std::chrono::month(static_cast<unsigned>(std::stoi(text.substr(5, 2)))),
                                         std::chrono::day(static_cast<unsigned>(std::stoi(text.substr(8, 2))))};
  return date.ok();
}

Result<std::string> text_of(const JsonFields& f, const char* key) {
  CONCORD_TRY(std::string text, f.string(key));
  if (text.empty() || text.size() > kMaxText) return f.error("out_of_range", fmt::format("{} is empty or longer than {} characters", key, kMaxText));
  return text;
}

Status read_statuses(Waiver& w, const JsonFields& f) {
  CONCORD_TRY(const std::vector<std::string> names, f.strings("statuses"));
  for (const std::string& name : names) {
    const auto status = status_from_name(name);
    if (!status || std::ranges::find(kExcusable, *status) == std::end(kExcusable))
      return f.error("bad_status", fmt::format("\"{}\" cannot be excused; expected FAIL, MISTRUSTED, NONDETERMINISTIC, ERROR, CRASH, TIMEOUT, OOM or UNSUPPORTED",
                                               printable(name)));
    if (std::ranges::find(w.statuses, *status) != w.statuses.end()) return f.error("bad_status", name + " stands twice");
    w.statuses.push_back(*status);
  }
  if (w.statuses.empty()) return f.error("bad_status", "statuses is empty");
  CONCORD_TRY(w.bound, f.number("bound"));
  const bool margin = std::ranges::any_of(w.statuses, has_margin);
  if (margin ? !(w.bound > 0 && w.bound <= 1e6) : w.bound != 0)
    return f.error("bad_bound", margin ? "bound is the largest excused error as a multiple of the rigorous bound: above 0, at most 1000000"
                                       : "bound must be 0: none of the statuses has an error to measure");
  return {};
}

Status read_scope(Waiver& w, const JsonFields& f) {
  CONCORD_TRY(w.cases, text_of(f, "cases"));
  const std::size_t slash = w.cases.find('/');
  if (slash == std::string::npos || !is_literal(std::string_view(w.cases).substr(0, slash)))
    return f.error("too_wide", fmt::format("\"{}\": a pattern of cases begins with an operator and a slash, both without wildcards", printable(w.cases)));
  CONCORD_TRY(w.devices, f.strings("devices"));
  if (w.devices.empty() || w.devices.size() > kMaxDevices) return f.error("out_of_range", fmt::format("1 to {} devices", kMaxDevices));
  for (const std::string& d : w.devices)
    if (d.size() > kMaxText || !is_literal(std::string_view(d).substr(0, d.find(':'))))
      return f.error("too_wide", fmt::format("\"{}\": a device pattern names its backend without wildcards, such as cpu:avx2 or cuda:*", printable(d)));
  return {};
}

Result<Waiver> read_waiver(const JsonFields& f) {
  CONCORD_CHECK(f.only({"id", "cases", "devices", "statuses", "bound", "reason", "link", "expires"}));
  Waiver w;
  w.file = f.file();
  CONCORD_TRY(w.id, text_of(f, "id"));
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; };
  if (!std::ranges::all_of(w.id, good)) return f.error("out_of_range", fmt::format("the id \"{}\" is no word of [a-z0-9._-]", printable(w.id)));
  CONCORD_CHECK(read_scope(w, f));
  CONCORD_CHECK(read_statuses(w, f));
  CONCORD_TRY(w.reason, text_of(f, "reason"));
  CONCORD_TRY(w.link, text_of(f, "link"));
  if (!w.link.starts_with("https://") && !w.link.starts_with("http://")) return f.error("bad_link", fmt::format("\"{}\" is no http(s) address", printable(w.link)));
  CONCORD_TRY(w.expires, f.string("expires"));
  if (!is_date(w.expires)) return f.error("bad_date", fmt::format("expires \"{}\" is no date; expected YYYY-MM-DD, the last valid day", printable(w.expires)));
  return w;
}

// FAIL and MISTRUSTED are excused where an error was measured, nothing worse was found, and it is within the waiver's bound. A damaged guard, a NaN, an element
// that was not written or a wrong exact result has no size that could be bounded, and is never excused.
bool excuses(const Waiver& w, const Evidence& evidence, const Decision& d) {
  if (std::ranges::find(w.statuses, d.status) == w.statuses.end()) return false;
  if (!has_margin(d.status)) return true;
  if (d.check != "bound" && d.check != "probable") return false;
  const auto within = [&](const OutputFindings& o) { return o.guard_bytes == 0 && o.unwritten == 0 && o.nonfinite == 0 && o.margin <= w.bound; };
  return !evidence.outputs.empty() && std::ranges::all_of(evidence.outputs, within);
}

}  // namespace

bool Waiver::matches(const std::string& case_id, const std::string& device) const {
  return glob_matches(cases, case_id) && std::ranges::any_of(devices, [&](const std::string& d) { return glob_matches(d, device); });
}

Result<std::vector<Waiver>> parse_waivers(std::string_view text, const std::string& file) {
  CONCORD_TRY(const Json json, parse_json(text, file, "waiver"));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "waiver"));
  CONCORD_CHECK(f.schema("concord.waivers/1"));
  CONCORD_CHECK(f.only({"schema", "waivers"}));
  CONCORD_TRY(const std::vector<JsonFields> all, f.objects("waivers"));
  if (all.size() > kMaxWaivers) return f.error("out_of_range", fmt::format("more than {} waivers", kMaxWaivers));
  std::vector<Waiver> waivers;
  for (const JsonFields& one : all) {
    CONCORD_TRY(Waiver w, read_waiver(one));
    waivers.push_back(std::move(w));
  }
  return waivers;
}

Result<std::vector<Waiver>> load_waivers(const std::string& given) {
  const std::string folder = given.empty() ? data_folder("waivers") : given;
  CONCORD_TRY(const std::vector<std::string> files, files_of(folder, ".json", kMaxFiles));
  std::vector<Waiver> waivers;
  std::set<std::string> ids;
  for (const std::string& file : files) {
    CONCORD_TRY(const std::string text, read_text(file, kMaxFileBytes));
    CONCORD_TRY(std::vector<Waiver> some, parse_waivers(text, file));
    for (Waiver& w : some) {
      if (!ids.insert(w.id).second) return bad_input("waiver.duplicate_id", fmt::format("a second waiver has the id {}", w.id), file);
      waivers.push_back(std::move(w));
    }
  }
  return waivers;
}

Waived apply_waivers(const std::vector<Waiver>& waivers, const std::string& case_id, const std::string& device, const Evidence& evidence, Decision decision,
                     const std::string& today) {
  Waived out{.decision = decision, .waiver = {}, .expired = false};
  std::string expired_notes;
  for (const Waiver& w : waivers) {
    if (!w.matches(case_id, device)) continue;
    const bool passed = decision.status == CaseStatus::kPass;
    if (w.expired(today)) {
      if (out.waiver.empty()) out.waiver = w.id;
      out.expired = true;
      expired_notes += fmt::format("; waiver {} expired on {}: renew it with a reason or remove it", w.id, w.expires);
      continue;
    }
    if (out.decision.status != decision.status) continue;  // one valid waiver has decided
    if (passed) {
      out.decision = {CaseStatus::kXPass, decision.check, fmt::format("passed, although waiver {} says that it does not: remove the waiver", w.id)};
      out.waiver = w.id;
    } else if (excuses(w, evidence, decision)) {
      out.decision = {CaseStatus::kWaived, decision.check, fmt::format("{} (waived by {} until {}: {})", decision.reason, w.id, w.expires, w.reason)};
      out.waiver = w.id;
    }
  }
  out.decision.reason += expired_notes;
  return out;
}

}  // namespace concord::conformance
