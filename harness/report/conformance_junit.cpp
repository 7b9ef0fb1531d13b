// JUnit as CI systems read it: testsuites > testsuite (device) > testcase with properties.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "report/conformance_summary.hpp"
#include "report/table.hpp"

namespace concord::conformance {
namespace {

std::string property(std::string_view name, std::string_view value) {
  return fmt::format("<property name=\"{}\" value=\"{}\"/>", name, xml_escaped(value));
}

std::string case_properties(const CaseRecord& r) {
  const Evidence& e = r.evidence;
  std::string out = property("status", status_name(r.status)) + property("check", r.check);
  if (!r.waiver.empty()) out += property("waiver", r.waiver);
  if (!e.kernel.empty()) out += property("kernel", e.kernel) + property("fallbacks", std::to_string(e.fallbacks));
  for (const OutputFindings& o : e.outputs)
    out += property(o.name + ".elements", std::to_string(o.elements)) +
           property(o.name + ".max_error", fmt::format("{}", o.max_error)) +
           property(o.name + ".margin", fmt::format("{}", o.margin)) +
           property(o.name + ".margin_probable", fmt::format("{}", o.margin_probable)) +
           property(o.name + ".above_bound", std::to_string(o.above_rigorous));
  if (e.outcome == Outcome::kCompleted)
    out += property("determinism", determinism_name(e.measured())) + property("math_mode", e.math_mode) +
           property("output_sha256", e.output_digest);
  if (r.body.contains("repro")) out += property("repro", r.body["repro"].get<std::string>());
  return out;
}

enum class Kind { kGood, kSkipped, kFailure, kError };

Kind kind_of(const CaseRecord& r, bool required) {
  if (is_good(r)) return Kind::kGood;
  switch (r.status) {
    case CaseStatus::kUnsupported:
    case CaseStatus::kSkipped:
      return required ? Kind::kFailure : Kind::kSkipped;
    case CaseStatus::kError:
    case CaseStatus::kCrash:
    case CaseStatus::kTimeout:
    case CaseStatus::kOom:
    case CaseStatus::kNotRun:
      return Kind::kError;
    default:
      return Kind::kFailure;
  }
}

struct Suite {
  std::string cases;
  std::uint64_t tests = 0, failures = 0, errors = 0, skipped = 0;
  double seconds = 0;
};

void add(Suite& suite, const CaseRecord& r, bool required) {
  const Kind kind = kind_of(r, required);
  ++suite.tests, suite.seconds += r.evidence.seconds;
  std::string body;
  const std::string message = fmt::format("{}: {}", r.check, r.reason);
  if (kind == Kind::kSkipped) {
    ++suite.skipped;
    body = fmt::format("<skipped message=\"{}\"/>", xml_escaped(r.reason));
  } else if (kind != Kind::kGood) {
    const bool error = kind == Kind::kError;
    ++(error ? suite.errors : suite.failures);
    body = fmt::format("<{0} type=\"{1}\" message=\"{2}\"/>", error ? "error" : "failure", status_name(r.status),
                       xml_escaped(message));
  }
  suite.cases += fmt::format(
      "    <testcase classname=\"{}.{}\" name=\"{}\" time=\"{:.6f}\"><properties>{}</properties>{}</testcase>\n",
      xml_escaped(r.device), xml_escaped(r.family), xml_escaped(r.id), r.evidence.seconds, case_properties(r), body);
}

std::string suite_text(const DeviceVerdict& d, const Suite& s, const OrderedJson& provenance) {
  std::string out = fmt::format(
      "  <testsuite name=\"concord.{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3f}\"",
      xml_escaped(d.device), s.tests, s.failures, s.errors, s.skipped, s.seconds);
  if (provenance.contains("date")) {
    std::string date = provenance["date"].get<std::string>();
    if (date.ends_with('Z')) date.pop_back();
    out += fmt::format(" timestamp=\"{}\"", xml_escaped(date));
  }
  out += ">\n    <properties>" + property("device", d.device_name) +
         property("required_list", d.list.empty() ? "none" : d.list) +
         property("required", std::to_string(d.required)) + property("executed", std::to_string(d.executed)) +
         property("verdict", d.line()) + property("provenance", machine_text(provenance)) + "</properties>\n";
  return out + s.cases + "  </testsuite>\n";
}

// A planned case that left no record: what was not executed must be seen.
CaseRecord not_run(const PlannedCase& c, const std::string& device) {
  CaseRecord r;
  r.id = c.id, r.device = device, r.family = c.family, r.check = "outcome",
  r.reason = "no record: the case was planned and not executed";
  return r;
}

}  // namespace

std::string junit_report(const ConformanceReport& report) {
  std::map<std::string, const CaseRecord*> by_key;
  for (const CaseRecord& r : report.records) by_key[r.key()] = &r;
  std::string suites;
  Suite all;
  for (const DeviceVerdict& d : report.verdict.devices) {
    const std::set<std::string> missing(d.missing.begin(), d.missing.end());
    Suite suite;
    for (const PlannedCase& c : report.plan) {
      const auto it = by_key.find(d.device + " " + c.id);
      add(suite, it != by_key.end() ? *it->second : not_run(c, d.device), missing.contains(c.id));
    }
    suites += suite_text(d, suite, report.provenance);
    all.tests += suite.tests, all.failures += suite.failures, all.errors += suite.errors, all.skipped += suite.skipped,
        all.seconds += suite.seconds;
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"concord conformance\" tests=\"{}\" "
      "failures=\"{}\" errors=\"{}\" "
      "skipped=\"{}\" time=\"{:.3f}\">\n{}</testsuites>\n",
      all.tests, all.failures, all.errors, all.skipped, all.seconds, suites);
}

}  // namespace concord::conformance
