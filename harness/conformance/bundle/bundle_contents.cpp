#include "conformance/bundle/bundle_contents.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"

namespace concord::conformance {
namespace {

constexpr std::size_t kMaxPlanBytes = 64u << 20, kMaxKernel = 400;

// --- environment -----------------------------------------------------------------------------------------------------

// Texts of a bundle are shown on terminals and in reports.
bool is_plain(const Json& value) {
  if (value.is_structured()) return std::ranges::all_of(value, is_plain);
  if (!value.is_string()) return true;
  const auto& text = value.get_ref<const std::string&>();
  return printable(text, text.size() + 1) == text;
}

Status check_facts(const JsonFields& f) {
  CONCORD_TRY(const std::string date, f.string("date"));
  for (const char* key : {"program", "machine"}) {
    CONCORD_TRY(const JsonFields block, f.object(key));
  }
  if (!is_plain(f.json())) return f.error("text", "a text in it has control characters");
  return {};
}

Status read_environment(const Bundle& bundle, BundleContents& c) {
  const std::string file = bundle.path_of("environment.json");
  CONCORD_TRY(const Json json, read_json(file, "environment"));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "environment"));
  CONCORD_CHECK(f.schema(kEnvironmentSchema));
  CONCORD_CHECK(check_facts(f));
  CONCORD_TRY(const JsonFields devices, f.object("devices"));
  for (const std::string& id : bundle.manifest.devices) {
    if (devices.json().contains(id) && devices.json()[id].is_null())
      continue;  // its worker never started: no record can have bounds
    CONCORD_TRY(const JsonFields device, devices.object(id));
    CONCORD_TRY(const std::string features, device.string("features"));
    CONCORD_TRY(const std::string name, device.string("name"));
    c.modes[id] = MathMode::from_features(features);
  }
  if (devices.json().size() != bundle.manifest.devices.size())
    return f.error("devices", fmt::format("it has {} devices, the manifest {}", devices.json().size(),
                                          bundle.manifest.devices.size()));
  c.environment = json;
  return {};
}

// --- plan ------------------------------------------------------------------------------------------------------------

Status read_plan(const Bundle& bundle, const OperatorSuite& suite, BundleContents& c) {
  std::map<std::string_view, const PlannedCase*> known;
  for (const PlannedCase& p : suite.cases()) known[p.id] = &p;
  const std::string file = bundle.path_of("plan.txt");
  CONCORD_TRY(const std::string text, read_text(file, kMaxPlanBytes));
  std::set<std::string> seen;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos)
      return bad_input("bundle.plan", "the last line has no end of line: the file may be cut off", file);
    const std::string id = text.substr(at, end - at);
    at = end + 1;
    if (!seen.insert(id).second)
      return bad_input("bundle.plan", fmt::format("{} stands twice", printable(id, 200)), file);
    if (const auto it = known.find(id); it != known.end()) {
      c.plan.push_back(*it->second);
      continue;
    }
    const auto spec = CaseSpec::parse(id);
    if (!spec) return bad_input(spec.error().code, spec.error().message, file);
    auto planned = suite.plan(*spec);
    if (!planned) return bad_input(planned.error().code, planned.error().message, file);
    c.plan.push_back(std::move(*planned));
  }
  if (c.plan.empty()) return bad_input("bundle.plan", "no case was planned", file);
  return {};
}

// --- records ---------------------------------------------------------------------------------------------------------

// Compared as Json, which has no order of fields.
bool body_is(const CaseRecord& r, const char* key, const Json& value) {
  return r.body.contains(key) && Json(r.body[key]) == value;
}

Status check_record(const CaseRecord& r, const BundleManifest& m, const BundleContents& c,
                    const std::map<std::string_view, const PlannedCase*>& plan, const std::string& file) {
  const auto wrong = [&](const char* code, const std::string& what) {
    return bad_input(code, fmt::format("the record of {} on {}: {}", printable(r.id, 200), printable(r.device), what),
                     file);
  };
  const auto planned = plan.find(r.id);
  if (planned == plan.end()) return wrong("bundle.unplanned", "the case is not in plan.txt");
  if (std::ranges::find(m.devices, r.device) == m.devices.end())
    return wrong("bundle.device", "the device is not one of the manifest");
  if (r.family != planned->second->family)
    return wrong("bundle.family",
                 fmt::format("its family is {}, the suite says {}", printable(r.family), planned->second->family));
  if (!body_is(r, "seed", m.seed))
    return wrong("bundle.seed", fmt::format("it is not of the seed {} that the manifest names", m.seed));
  if (const auto repro = r.body.find("repro"); repro != r.body.end() && (!repro->is_string() || !is_plain(*repro)))
    return wrong("bundle.text", "its repro line is no line of text");
  if (r.evidence.kernel.size() > kMaxKernel ||
      std::ranges::any_of(r.evidence.other_kernels, [](const std::string& k) { return k.size() > kMaxKernel; }))
    return wrong("bundle.text", fmt::format("a kernel's name is longer than {} characters",
                                            kMaxKernel));  // patterns are searched in it
  if (day_of(r).size() != 10) return wrong("bundle.date", "it has no date");
  for (const char* key : {"program", "machine"})
    if (!body_is(r, key, c.environment.value(key, Json())))
      return wrong("bundle.environment", fmt::format("its {} is not that of environment.json", key));
  const bool silent = body_is(r, "facts", nullptr) && r.evidence.outputs.empty();  // the worker never started
  if (!silent && !body_is(r, "facts", c.environment["devices"][r.device]))
    return wrong("bundle.environment", "its device is described otherwise in environment.json");
  return {};
}

Status read_records(const Bundle& bundle, BundleContents& c) {
  const std::string file = bundle.path_of("cases.jsonl");
  CONCORD_TRY(CaseJournal journal, read_case_journal(file));
  if (journal.partial) return bad_input("bundle.torn", "the last line is torn", file);
  if (journal.records.size() != bundle.manifest.records)
    return bad_input("bundle.counts",
                     fmt::format("{} records, the manifest says {}", journal.records.size(), bundle.manifest.records),
                     file);
  CONCORD_CHECK(check_unique(journal.records, file));
  std::map<std::string_view, const PlannedCase*> plan;
  for (const PlannedCase& p : c.plan) plan[p.id] = &p;
  for (const CaseRecord& r : journal.records) {
    CONCORD_CHECK(check_record(r, bundle.manifest, c, plan, file));
  }
  c.records = std::move(journal.records);
  return {};
}

// Each saved output belongs to one record, and what a record names is there.
Status match_outputs(const Bundle& bundle, BundleContents& c) {
  std::set<std::string> used;
  for (const CaseRecord& r : c.records) {
    const std::string path = saved_outputs(r);
    if (path.empty()) continue;
    if (!path.starts_with("outputs/") || !bundle.manifest.find(path))
      return bad_input(
          "bundle.outputs",
          fmt::format("{} names its outputs \"{}\", and the bundle has no such file", r.key(), printable(path, 200)),
          bundle.folder);
    if (!used.insert(path).second)
      return bad_input("bundle.outputs", fmt::format("a second record names {}", path), bundle.folder);
    c.outputs[r.key()] = bundle.path_of(path);
  }
  if (used.size() != bundle.manifest.outputs)
    return bad_input("bundle.outputs",
                     fmt::format("{} files in outputs/, and the records name {}", bundle.manifest.outputs, used.size()),
                     bundle.folder);
  return {};
}

// --- lists -----------------------------------------------------------------------------------------------------------

Status read_lists(const Bundle& bundle, BundleContents& c) {
  for (const BundleList& claim : bundle.manifest.lists) {
    const std::string file = bundle.path_of("required/" + claim.name + ".lock");
    CONCORD_TRY(const std::string text, read_text(file));
    CONCORD_TRY(RequiredList list, RequiredList::parse(text, file));
    if (list.devices != claim.devices || list.ids.size() != claim.count || list.digest != claim.sha256 ||
        list.tier != bundle.manifest.tier)
      return bad_input("bundle.list", "its devices, tier, count or digest are not what the manifest says", file);
    c.lists.push_back(std::move(list));
  }
  return {};
}

}  // namespace

std::string saved_outputs(const CaseRecord& r) {
  if (!r.body.contains("saved") || !r.body["saved"].is_object()) return {};
  const OrderedJson& saved = r.body["saved"];
  return saved.contains("file") && saved["file"].is_string() ? saved["file"].get<std::string>() : std::string();
}

Status check_unique(const std::vector<CaseRecord>& records, const std::string& file) {
  std::set<std::string> keys;
  for (const CaseRecord& r : records)
    if (!keys.insert(r.key()).second)
      return bad_input("bundle.duplicate_record",
                       fmt::format("two records of {} on {}", printable(r.id, 200), printable(r.device)), file);
  return {};
}

Result<BundleContents> read_contents(const Bundle& bundle, const OperatorSuite& suite) {
  BundleContents c;
  CONCORD_CHECK(read_environment(bundle, c));
  CONCORD_CHECK(read_plan(bundle, suite, c));
  CONCORD_CHECK(read_records(bundle, c));
  CONCORD_CHECK(match_outputs(bundle, c));
  CONCORD_CHECK(read_lists(bundle, c));
  CONCORD_TRY(c.waivers, load_waivers(bundle.path_of("waivers")));
  return c;
}

}  // namespace concord::conformance
