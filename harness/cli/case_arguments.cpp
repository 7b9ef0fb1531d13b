#include "cli/case_arguments.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "device/device_id.hpp"

namespace concord::cli {
namespace {

// One value per use: values of these options hold commas, and a value must never swallow the argument behind it.
void add_repeated(CLI::App& command, const char* flags, std::vector<std::string>& to, const char* help) {
  command.add_option(flags, to, help)->allow_extra_args(false);
}

void append_once(std::vector<std::string>& ids, const std::string& id) {
  if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
}

// "cpu:*": all available devices that a pattern matches.
Status append_all_of(const Backends& backends, const std::string& pattern, std::vector<std::string>& ids) {
  std::string absent = pattern;  // what to name where there is none: the first that matches, or that nothing does
  bool found = false;
  for (const DeviceFacts& d : backends.devices()) {
    if (!matches_device(pattern, d.id)) continue;
    if (d.available) found = true, append_once(ids, d.id);
    else if (absent == pattern) absent = d.id;
  }
  if (found) return {};
  CONCORD_TRY(const std::string unused, backends.resolve(absent));  // says what is missing
  return {};
}

}  // namespace

void add_case_options(CLI::App& command, CaseArguments& a) {
  command.add_option("--tier", a.tier, "smoke, full or nightly; each holds the ones before it")->capture_default_str();
  command.add_option("--family", a.families, "Families, separated by commas: embedding, norm, matmul, rope, kv, attention, activation, softmax, select")
      ->delimiter(',');
  command.add_option("--op", a.operators, "Operators, separated by commas: matmul,attention")->delimiter(',');
  command.add_option("-p,--pattern", a.pattern, "Cases whose id holds this regular expression");
  add_repeated(command, "-a,--axis", a.axes, "Other values for a key: \"K[pow2]=[0:12:2]\", \"M=[1,7,64]\", \"x=[bf16,f16]\" (repeatable)");
  add_repeated(command, "--case", a.ids, "A case by its exact id, of the suite or not (repeatable)");
}

void add_device_option(CLI::App& command, CaseArguments& a) {
  command.add_option("--backends", a.backends, "Devices, separated by commas: cpu:avx2, cpu (its first), cpu:*, cuda:*:portable (default: every available one but reference)")
      ->delimiter(',');
}

Result<conformance::Selection> selection_of(const CaseArguments& a) {
  conformance::Selection s;
  CONCORD_TRY(s.tier, conformance::tier_from_name(a.tier));
  s.ids = a.ids, s.families = a.families, s.operators = a.operators, s.pattern = a.pattern, s.axes = a.axes;
  return s;
}

Result<SelectedCases> open_cases(const CaseArguments& a) {
  SelectedCases out;
  CONCORD_TRY(out.selection, selection_of(a));
  CONCORD_TRY(out.suite, conformance::OperatorSuite::load());
  CONCORD_TRY(out.cases, conformance::select(out.suite, out.selection));
  return out;
}

Result<std::vector<std::string>> choose_case_devices(const Backends& backends, const CaseArguments& a) {
  std::vector<std::string> ids;
  for (const std::string& name : a.backends) {
    if (is_device_pattern(name)) {
      CONCORD_CHECK(append_all_of(backends, name, ids));
      continue;
    }
    CONCORD_TRY(const std::string id, backends.resolve(name));
    append_once(ids, id);
  }
  if (!a.backends.empty()) return ids;
  for (const DeviceFacts& d : backends.devices())
    if (d.available && d.backend != "reference") append_once(ids, d.id);
  if (ids.empty())
    return fail(ErrorKind::kMissingDevice, "device.none", "no device is available but the reference; `concord doctor` says what is missing");
  return ids;
}

}  // namespace concord::cli
