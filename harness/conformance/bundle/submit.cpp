#include "conformance/bundle/submit.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "conformance/bundle/bundle_contents.hpp"
#include "conformance/suite/folders.hpp"
#include "device/provenance.hpp"

namespace concord::conformance {
namespace fs = std::filesystem;
namespace {

// A finished run as it lies in its folder, with what it was judged by.
struct Run {
  std::string folder, journal;
  Tier tier = Tier::kSmoke;
  std::uint64_t seed = 0;
  std::vector<std::string> devices;
  std::vector<std::string> ids;  // planned, sorted
  std::vector<CaseRecord> records;
  OrderedJson environment;
  std::vector<RequiredList> lists;
  std::vector<Waiver> waivers;  // of the files that apply to any record
};

std::string under(const std::string& folder, const std::string& name) { return (fs::path(folder) / name).string(); }

// --- the run ---------------------------------------------------------------------------------------------------------

// run.json says what was planned; a journal without a record for each device and case is of an unfinished run.
Status read_plan(Run& run) {
  const std::string file = under(run.folder, "run.json");
  CONCORD_TRY(const Json json, read_json(file, "run"));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, file, "run"));
  CONCORD_CHECK(f.schema("concord.conform/1"));
  CONCORD_TRY(const std::string tier, f.string("tier"));
  CONCORD_TRY(run.tier, tier_from_name(tier));
  CONCORD_TRY(run.devices, f.strings("devices"));
  if (!f.has("seed") || !f.raw("seed").is_number_unsigned())
    return f.error("wrong_type", "seed must be an integer of 0 or more");
  run.seed = f.raw("seed").get<std::uint64_t>();
  CONCORD_TRY(const std::int64_t cases, f.integer("cases", 0));
  CONCORD_TRY(const std::string digest, f.string("cases_sha256"));
  std::set<std::string> ids;
  for (const CaseRecord& r : run.records) ids.insert(r.id);
  run.ids.assign(ids.begin(), ids.end());
  if (ids_digest(run.ids) != digest || run.records.size() != static_cast<std::uint64_t>(cases) * run.devices.size())
    return bad_input("submit.unfinished",
                     fmt::format("{} cases on {} devices were planned, and the journal has {} records of {} cases; "
                                 "finish the run with concord conform --resume",
                                 cases, run.devices.size(), run.records.size(), run.ids.size()),
                     run.journal);
  return {};
}

// A field of a record, as Json, which has no order of fields.
Json field(const CaseRecord& r, const char* key) { return r.body.contains(key) ? Json(r.body[key]) : Json(); }

Status all_have(const Run& run, const char* key, const Json& expected, const char* what) {
  for (const CaseRecord& r : run.records)
    if (field(r, key) != expected)
      return bad_input("submit.mixed",
                       fmt::format("the record of {} on {} has {}; a bundle is of one run", r.id, r.device, what),
                       run.journal);
  return {};
}

Status read_environment(Run& run) {
  CONCORD_CHECK(all_have(run, "seed", run.seed, "another seed than run.json"));
  CONCORD_CHECK(
      all_have(run, "machine", field(run.records.front(), "machine"), "another machine than the first record"));
  CONCORD_CHECK(
      all_have(run, "program", field(run.records.front(), "program"), "another program than the first record"));
  if (!field(run.records.front(), "machine").is_object())
    return bad_input("submit.mixed", "the first record does not say which machine it is of", run.journal);
  const Json mine = provenance();
  if (field(run.records.front(), "program") != mine["program"])
    return bad_input("submit.other_program",
                     fmt::format("the run was made by {}, and this is {}: its operator definitions may be others. "
                                 "Submit with the program that ran",
                                 field(run.records.front(), "program").dump(), mine["program"].dump()),
                     run.journal);
  Json devices = Json::object();
  for (const std::string& id : run.devices) devices[id] = nullptr;
  std::string date;
  for (const CaseRecord& r : run.records) {
    if (std::ranges::find(run.devices, r.device) == run.devices.end())
      return bad_input("submit.mixed", fmt::format("a record of {}, which run.json does not name", printable(r.device)),
                       run.journal);
    if (const Json facts = field(r, "facts"); devices[r.device].is_null())
      devices[r.device] = facts;
    else if (!facts.is_null() && facts != devices[r.device])
      return bad_input("submit.mixed", fmt::format("the records of {} describe two different devices", r.device),
                       run.journal);
    const Json date_field = field(r, "date");
    const std::string when = date_field.is_string() ? date_field.get<std::string>() : std::string();
    if (date.empty() || when < date) date = when;
  }
  run.environment = {{"schema", kEnvironmentSchema},
                     {"program", mine["program"]},
                     {"machine", field(run.records.front(), "machine")},
                     {"date", date},
                     {"devices", devices}};
  return {};
}

// The lists and waivers that apply, as the run was made under them.
Status read_rules(Run& run) {
  CONCORD_TRY(const std::vector<RequiredList> lists, load_required(under(run.folder, "required")));
  std::set<std::string> files;
  for (const std::string& device : run.devices) {
    CONCORD_TRY(auto list, required_for(lists, device, run.tier));
    if (list && files.insert(list->file).second) run.lists.push_back(std::move(*list));
  }
  std::ranges::sort(run.lists, {}, &RequiredList::name);
  CONCORD_TRY(const std::vector<Waiver> waivers, load_waivers(under(run.folder, "waivers")));
  std::set<std::string> used;
  for (const Waiver& w : waivers)
    if (std::ranges::any_of(run.records, [&](const CaseRecord& r) { return w.matches(r.id, r.device); }))
      used.insert(w.file);
  std::ranges::copy_if(waivers, std::back_inserter(run.waivers),
                       [&](const Waiver& w) { return used.contains(w.file); });
  return {};
}

Result<Run> read_run(const std::string& folder) {
  Run run{.folder = folder, .journal = under(folder, "cases.jsonl")};
  CONCORD_TRY(CaseJournal journal, read_case_journal(run.journal));
  if (journal.partial)
    return bad_input("submit.torn",
                     "the last line of the journal is torn; finish the run with concord conform --resume", run.journal);
  run.records = std::move(journal.records);
  if (run.records.empty())
    return fail(ErrorKind::kNothingRun, "submit.empty", "the run has no record: nothing was executed", run.journal);
  CONCORD_CHECK(check_unique(run.records, run.journal));
  CONCORD_CHECK(read_plan(run));
  CONCORD_CHECK(read_environment(run));
  CONCORD_CHECK(read_rules(run));
  return run;
}

// A status that does not follow from its numbers would be found by every judge; better here.
Status check_statuses(const Run& run, const OperatorSuite& suite) {
  Ground ground{.waivers = run.waivers,
                .modes = {},
                .witness = {},
                .seed = run.seed,
                .days = {},
                .today = utc_now().substr(0, 10),
                .recompute = Recompute::kNone};
  for (const std::string& device : run.devices) {
    const Json facts = run.environment["devices"][device];
    if (facts.is_object()) ground.modes[device] = MathMode::from_features(facts.value("features", ""));
    for (const RequiredList& list : run.lists)
      if (list.covers(device)) ground.witness[device] = list.witness_for(device);
  }
  std::set<std::string> days;
  for (const CaseRecord& r : run.records) days.insert(day_of(r));
  ground.days.assign(days.begin(), days.end());
  for (const CaseRecord& r : run.records) {
    CONCORD_TRY(const CaseSpec spec, CaseSpec::parse(r.id));
    CONCORD_TRY(const PlannedCase planned, suite.plan(spec));
    CONCORD_TRY(const std::vector<Rederived> again, rederive_case(planned, std::vector<Claim>{{&r, ""}}, ground));
    if (!again.front().contradictions.empty())
      return bad_input("submit.inconsistent", fmt::format("{}: {}", r.key(), again.front().contradictions.front()),
                       run.journal);
  }
  return {};
}

// --- the bundle ------------------------------------------------------------------------------------------------------

// A folder that is removed again unless it is kept.
class TemporaryFolder {
 public:
  static Result<std::unique_ptr<TemporaryFolder>> beside(const std::string& target) {
    auto folder = std::make_unique<TemporaryFolder>();
    folder->path_ = fmt::format("{}.tmp.{}", target, ::getpid());
    std::error_code ec;
    fs::create_directories(fs::absolute(folder->path_).parent_path(), ec);
    if (!fs::create_directory(folder->path_, ec))
      return fail(ErrorKind::kIo, "file.create", ec ? ec.message() : "it is there already", folder->path_);
    folder->mine_ = true;
    return folder;
  }
  TemporaryFolder() = default;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (mine_) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  Status keep_as(const std::string& target) {
    std::error_code ec;
    fs::rename(path_, target, ec);
    if (ec) return fail(ErrorKind::kIo, "file.commit", ec.message(), target);
    mine_ = false;
    return {};
  }

 private:
  std::string path_;
  bool mine_ = false;
};

Status copy_into(const std::string& from, const std::string& folder, const std::string& name) {
  std::error_code ec;
  fs::create_directories(fs::path(under(folder, name)).parent_path(), ec);
  if (ec) return fail(ErrorKind::kIo, "file.create", ec.message(), folder);
  CONCORD_TRY(const MappedFile source, MappedFile::open(from));
  CONCORD_TRY(AtomicFile target, AtomicFile::create(under(folder, name)));
  CONCORD_CHECK(target.append(source.bytes()));
  return target.commit();
}

Status copy_rules(const Run& run, const std::string& folder) {
  CONCORD_TRY(const std::vector<std::string> definitions, files_of(data_folder("ops"), ".json", 256));
  for (const std::string& file : definitions)
    CONCORD_CHECK(copy_into(file, folder, "ops/" + fs::path(file).filename().string()));
  for (const RequiredList& list : run.lists)
    CONCORD_CHECK(copy_into(list.file, folder, "required/" + list.name + ".lock"));
  std::set<std::string> files;
  for (const Waiver& w : run.waivers) files.insert(w.file);
  for (const std::string& file : files)
    CONCORD_CHECK(copy_into(file, folder, "waivers/" + fs::path(file).filename().string()));
  return {};
}

Result<std::uint64_t> copy_outputs(const Run& run, const std::string& folder) {
  std::uint64_t count = 0;
  for (const CaseRecord& r : run.records) {
    const std::string name = saved_outputs(r);
    if (name.empty()) continue;
    if (!name.starts_with("outputs/") || !is_bundle_path(name))
      return bad_input("submit.outputs", fmt::format("\"{}\" is no place for saved outputs", printable(name)),
                       run.journal);
    CONCORD_CHECK(copy_into(under(run.folder, name), folder, name));
    ++count;
  }
  return count;
}

Result<BundleManifest> write_bundle(const Run& run, const SubmitSettings& settings, const std::string& folder) {
  BundleManifest m{.statement = settings.statement,
                   .date = utc_now(),
                   .program = Json::parse(run.environment["program"].dump()),
                   .tier = run.tier,
                   .seed = run.seed,
                   .devices = run.devices,
                   .lists = {},
                   .definitions_sha256 = {},
                   .records = run.records.size(),
                   .outputs = 0,
                   .files = {}};
  std::string plan;
  for (const std::string& id : run.ids) plan += id + "\n";
  CONCORD_CHECK(copy_into(run.journal, folder, "cases.jsonl"));
  CONCORD_CHECK(copy_into(under(run.folder, "run.json"), folder, "run.json"));
  CONCORD_CHECK(write_atomically(under(folder, "plan.txt"), plan));
  CONCORD_CHECK(write_atomically(under(folder, "environment.json"), run.environment.dump(2) + "\n"));
  CONCORD_CHECK(copy_rules(run, folder));
  CONCORD_TRY(m.outputs, copy_outputs(run, folder));
  for (const RequiredList& l : run.lists)
    m.lists.push_back({.name = l.name, .devices = l.devices, .count = l.ids.size(), .sha256 = l.digest});
  CONCORD_TRY(m.files, scan_bundle(folder));
  m.definitions_sha256 = definitions_digest(m.files);
  CONCORD_CHECK(write_atomically(under(folder, kManifestFile), m.to_text()));
  return m;
}

}  // namespace

Result<BundleManifest> submit_run(const SubmitSettings& given) {
  SubmitSettings settings = given;
  while (settings.out.size() > 1 && settings.out.ends_with('/')) settings.out.pop_back();
  std::error_code ec;
  if (fs::exists(fs::symlink_status(settings.out, ec)))
    return fail(ErrorKind::kUsage, "submit.target_exists", "it is there already; name another --out", settings.out);
  CONCORD_TRY(const Run run, read_run(settings.run));
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  CONCORD_CHECK(check_statuses(run, suite));
  CONCORD_TRY(const auto temporary, TemporaryFolder::beside(settings.out));
  CONCORD_TRY(BundleManifest manifest, write_bundle(run, settings, temporary->path()));
  CONCORD_CHECK(temporary->keep_as(settings.out));
  return manifest;
}

}  // namespace concord::conformance
