// `concord conform`: the operator suite on devices, each in a process of its own, judged against the float64 oracle.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include "base/file.hpp"
#include "cli/case_arguments.hpp"
#include "cli/command.hpp"
#include "cli/conform_output.hpp"
#include "cli/op_devices.hpp"
#include "conformance/bundle/recheck.hpp"
#include "conformance/run/verdict.hpp"
#include "device/provenance.hpp"

namespace concord::cli {
namespace fs = std::filesystem;
using namespace conformance;
namespace {

struct Options {
  CaseArguments cases;
  std::uint64_t seed = 0;
  unsigned threads = 0, repeats = 1;
  double timeout = 60;
  std::string save = "incorrect", out, resume, from, lists, waivers;
  std::vector<std::string> formats;
};

// Everything a run is made of, loaded and checked before anything is executed.
struct Conformance {
  std::vector<PlannedCase> plan;
  Tier tier = Tier::kSmoke;
  bool whole_tier = false;  // nothing was left out by a filter
  std::vector<RequiredList> lists;
  std::vector<CaseRecord> done;
  SessionSettings settings;
  std::vector<OutputFormat> formats;
};

std::string journal_of(const std::string& folder) { return (fs::path(folder) / "cases.jsonl").string(); }

// The journal of the youngest run below results/local; the names hold the time.
Result<std::string> last_journal() {
  std::string last;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("results/local", error)) {
    const std::string folder = entry.path().string();
    if (entry.path().filename().string().starts_with("conform-") && fs::exists(journal_of(folder))) last = std::max(last, folder);
  }
  if (last.empty()) return fail(ErrorKind::kUsage, "conform.no_last_run", "there is no earlier run in results/local; name its journal: --from FOLDER/cases.jsonl");
  return journal_of(last);
}

// "device id" of what the suite's lists require of the devices in a journal: there, UNSUPPORTED is a lost capability.
Result<std::set<std::string>> required_ids(const std::string& tier, const std::vector<CaseRecord>& records) {
  std::set<std::string> devices, keys;
  for (const CaseRecord& r : records) devices.insert(r.device);
  CONCORD_TRY(const Tier of, tier_from_name(tier));
  CONCORD_TRY(const auto lists, load_required());
  for (const std::string& device : devices) {
    CONCORD_TRY(const auto list, required_for(lists, device, of));
    if (!list) continue;
    for (const std::string& id : list->ids) keys.insert(device + " " + id);
  }
  return keys;
}

// Cases and devices that did not come out well there. The devices only where none were named.
Status select_failed(const std::string& from, CaseArguments& arguments) {
  std::string file = from;
  if (from == "last-failed") {
    CONCORD_TRY(file, last_journal());
  }
  CONCORD_TRY(const CaseJournal journal, read_case_journal(file));
  std::set<std::string> ids, devices;
  CONCORD_TRY(const auto required, required_ids(arguments.tier, journal.records));
  for (const CaseRecord& r : journal.records) {
    const bool lost = r.status == CaseStatus::kUnsupported && required.contains(r.key());
    const bool fine = r.status == CaseStatus::kPass || r.status == CaseStatus::kWaived || r.status == CaseStatus::kUnsupported;
    if (fine && !lost && !r.waiver_expired) continue;
    ids.insert(r.id);
    devices.insert(r.device);
  }
  if (ids.empty()) return fail(ErrorKind::kNothingRun, "select.nothing", fmt::format("nothing failed among the {} records", journal.records.size()), file);
  arguments.ids.assign(ids.begin(), ids.end());
  if (arguments.backends.empty()) arguments.backends.assign(devices.begin(), devices.end());
  return {};
}

OrderedJson manifest_of(const Conformance& c) {
  std::vector<std::string> ids;
  for (const PlannedCase& p : c.plan) ids.push_back(p.id);
  std::ranges::sort(ids);
  OrderedJson lists = OrderedJson::object();
  for (const RequiredList& list : c.lists) lists[list.name] = list.digest;
  const ProgramVersion& v = program_version();
  return {{"schema", "concord.conform/1"}, {"program", v.version + " " + v.commit}, {"lists", lists},
          {"tier", tier_name(c.tier)},     {"devices", c.settings.devices},          {"seed", c.settings.seed},
          {"threads", c.settings.threads}, {"repeats", c.settings.repeats},       {"cases", ids.size()},           {"cases_sha256", ids_digest(ids)}};
}

// Takes over the finished cases of an interrupted run, if it was the same run.
Status resume(Conformance& c) {
  const std::string file = (fs::path(c.settings.folder) / "run.json").string(), journal_file = journal_of(c.settings.folder);
  CONCORD_TRY(const Json old, read_json(file, "run"));
  const OrderedJson manifest = manifest_of(c);
  for (const auto& [key, value] : manifest.items())
    if (!old.contains(key) || old[key] != Json(value))
      return bad_input("run.other_plan", fmt::format("\"{}\" was {} there and is {} now; resume with the same arguments or start a new run", key,
                                                     old.contains(key) ? old[key].dump() : "absent", value.dump()), file);
  if (!fs::exists(journal_file)) return {};
  CONCORD_TRY(CaseJournal journal, read_case_journal(journal_file));
  if (journal.partial) {  // what a crash left of its last line; the whole lines before it stand
    std::string whole;
    for (const CaseRecord& r : journal.records) whole += r.to_line() + "\n";
    CONCORD_CHECK(write_atomically(journal_file, whole));
  }
  const SessionSettings& s = c.settings;
  CONCORD_CHECK(recheck(journal.records, {.waivers = s.waivers, .witness = {s.witness.begin(), s.witness.end()}, .seed = s.seed, .today = s.today}, journal_file));
  c.done = std::move(journal.records);
  return {};
}

// The rules go with the run: what is submitted later is judged by what it was run under.
Status write_rules(const Conformance& c) {
  const fs::path folder = c.settings.folder;
  std::error_code error;
  for (const char* name : {"required", "waivers"}) fs::create_directories(folder / name, error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), folder.string());
  for (const RequiredList& list : c.lists) CONCORD_CHECK(write_atomically(folder / "required" / (list.name + ".lock"), list.to_text()));
  std::set<std::string> files;
  for (const Waiver& w : c.settings.waivers) files.insert(w.file);
  for (const std::string& file : files) {
    CONCORD_TRY(const std::string text, read_text(file));
    CONCORD_CHECK(write_atomically(folder / "waivers" / fs::path(file).filename(), text));
  }
  return {};
}

Status create_folder(const Conformance& c) {
  const fs::path folder = c.settings.folder;
  if (fs::exists(folder / "run.json") || fs::exists(journal_of(c.settings.folder)))
    return fail(ErrorKind::kUsage, "run.folder_in_use", "it holds another run; continue that one with --resume, or name another --out", folder.string());
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), folder.string());
  CONCORD_CHECK(write_rules(c));
  return write_atomically(folder / "run.json", manifest_of(c).dump(2) + "\n");
}

std::string default_folder() {
  std::string now = utc_now();  // 2026-11-21T08:00:00Z
  std::erase_if(now, [](char ch) { return ch == '-' || ch == ':' || ch == 'Z'; });
  std::ranges::replace(now, 'T', '-');
  return fmt::format("results/local/conform-{}-{}", now, ::getpid());
}

Result<Save> save_of(const std::string& word) {
  for (const auto& [name, save] : {std::pair{"none", Save::kNone}, {"incorrect", Save::kIncorrect}, {"all", Save::kAll}})
    if (word == name) return save;
  return fail(ErrorKind::kUsage, "conform.save", fmt::format("--save is none, incorrect or all, not \"{}\"", word));
}

// Ids and file names must tell them apart, in records and in the run's folder.
Status add_waivers(std::vector<Waiver>& own, const std::vector<Waiver>& theirs) {
  const std::size_t before = own.size();
  for (const Waiver& w : theirs) {
    for (std::size_t i = 0; i < before; ++i)
      if (own[i].id == w.id || fs::path(own[i].file).filename() == fs::path(w.file).filename())
        return bad_input("waiver.duplicate_id", fmt::format("waiver {} or its file's name is already in {}", w.id, own[i].file), w.file);
    own.push_back(w);
  }
  return {};
}

Status load_rules(const Options& o, const Selection& selection, Conformance& c) {
  c.tier = selection.tier;
  CONCORD_TRY(c.settings.waivers, load_waivers());
  if (!o.waivers.empty()) {
    CONCORD_TRY(const auto theirs, load_waivers(o.waivers));
    CONCORD_CHECK(add_waivers(c.settings.waivers, theirs));
  }
  c.whole_tier = selection.ids.empty() && selection.families.empty() && selection.operators.empty() && selection.pattern.empty() && !selection.ad_hoc() && o.seed == 0;
  if (selection.ad_hoc() || o.seed != 0) return {};  // lists speak of the suite's cases with the data of seed 0, and of nothing else
  CONCORD_TRY(const auto own, load_required());
  std::vector<RequiredList> theirs;
  if (!o.lists.empty()) {
    CONCORD_TRY(theirs, load_required(o.lists));
  }
  CONCORD_TRY(c.lists, required_of(theirs, own, c.settings.devices, c.tier));
  for (const std::string& device : c.settings.devices) {
    CONCORD_TRY(const auto list, required_for(c.lists, device, c.tier));
    if (list) c.settings.witness.emplace_back(device, list->witness_for(device));
  }
  return {};
}

Result<std::unique_ptr<Conformance>> prepare(Options o, const Context& context) {
  auto c = std::make_unique<Conformance>();
  CONCORD_TRY(c->formats, parse_formats(o.formats));
  if (!o.from.empty() && !o.cases.ids.empty()) return fail(ErrorKind::kUsage, "conform.from_and_case", "--from and --case both say which cases; give one of them");
  if (!o.from.empty()) CONCORD_CHECK(select_failed(o.from, o.cases));
  SessionSettings& s = c->settings;
  CONCORD_TRY(s.devices, resolve_devices(context.program, o.cases));  // before anything else runs: a device that is missing ends here
  CONCORD_TRY(SelectedCases selected, open_cases(o.cases));
  c->plan = std::move(selected.cases);
  CONCORD_TRY(s.save, save_of(o.save));
  s.program = context.program, s.seed = o.seed, s.threads = o.threads, s.repeats = o.repeats;
  s.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(o.timeout * 1000));
  s.today = utc_now().substr(0, 10);
  s.folder = !o.resume.empty() ? o.resume : o.out.empty() ? default_folder() : o.out;
  CONCORD_CHECK(load_rules(o, selected.selection, *c));
  CONCORD_CHECK(o.resume.empty() ? create_folder(*c) : resume(*c));
  return c;
}

SessionProgress terminal_progress() {
  if (!::isatty(STDERR_FILENO)) return {};
  return {.before = [](const PlannedCase& c, const std::string& device, std::size_t done, std::size_t total) {
            fmt::print(stderr, "\r\x1b[K[{}/{}] {} {}", done + 1, total, device, c.id);
            std::fflush(stderr);
          },
          .after = {}};
}

// What to type to do the same again.
std::string command_line(const Options& o, const Conformance& c) {
  std::string line = fmt::format("concord conform --tier {} --backends {}", tier_name(c.tier), fmt::join(c.settings.devices, ","));
  const auto all = [&](const char* option, const std::vector<std::string>& values) {
    for (const std::string& v : values) line += fmt::format(" {} '{}'", option, v);
  };
  all("--family", o.cases.families), all("--op", o.cases.operators), all("-a", o.cases.axes);
  if (o.from.empty()) all("--case", o.cases.ids);
  else line += " --from " + o.from;
  if (!o.cases.pattern.empty()) line += fmt::format(" -p '{}'", o.cases.pattern);
  return line + fmt::format(" --seed {}", o.seed);
}

// Every run leaves its report beside its journal.
Status write_report(const ConformanceReport& report) {
  const fs::path folder = report.folder;
  CONCORD_CHECK(write_atomically(folder / "margins.svg", margin_map_svg(report)));
  return write_atomically(folder / "report.md", markdown_report(report, "margins.svg"));
}

Status conform(const Options& o, Context& context) {
  CONCORD_TRY(const std::unique_ptr<Conformance> c, prepare(o, context));
  auto records = run_cases(c->plan, c->done, c->settings, terminal_progress(), Context::stop());
  if (::isatty(STDERR_FILENO)) fmt::print(stderr, "\r\x1b[K");
  if (!records) {
    if (records.error().kind == ErrorKind::kInterrupted)
      records.error().message += fmt::format("; what was finished is kept, continue with the same arguments and --resume {}", c->settings.folder);
    return std::unexpected(records.error());
  }
  ConformanceReport report{.verdict = judge_records(c->settings.devices, c->plan, *records, c->lists, c->tier), .plan = c->plan, .records = std::move(*records),
                           .command = command_line(o, *c), .folder = c->settings.folder, .provenance = provenance(), .notes = {}};
  if (o.cases.backends.empty() && o.from.empty())
    report.notes.push_back("the device \"reference\" was left out: it shares its code with the oracle, so that it proves nothing about itself");
  // Without a list nobody knows what should have run: a whole tier that says so must not look like a success to a script.
  if (c->whole_tier && !report.verdict.green && report.verdict.exit == exit_codes::kOk) {
    report.verdict.exit = exit_codes::kNothingRun;
    report.notes.push_back("a device has no required list, so that nothing says what it should have executed (exit code 5); make one with concord plan --lock, or select cases");
  }
  CONCORD_CHECK(write_report(report));
  CONCORD_CHECK(write_outputs(c->formats, report));
  context.exit = report.verdict.exit;
  return {};
}

}  // namespace

void add_conform_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<Options>();
  CLI::App* c = root.add_subcommand("conform", "Judge the operators of devices against the float64 oracle");
  add_case_options(*c, o->cases);
  add_device_option(*c, o->cases);
  c->add_option("--threads", o->threads, "Threads of each device (default: all that it has)");
  c->add_option("--seed", o->seed, "Seed of the input data; required lists mean 0")->capture_default_str();
  c->add_option("--timeout", o->timeout, "Seconds for one case on one device")->check(CLI::Range(0.01, 86'400.0))->capture_default_str();
  c->add_option("--repeats", o->repeats, "Further runs of each case, compared bit by bit")->check(CLI::Range(1, 10'000))->capture_default_str();
  c->add_option("--save", o->save, "Whose outputs are kept: none, incorrect, all")->capture_default_str();
  c->add_option("--lists", o->lists, "Folder with required lists that go before the suite's own")->check(CLI::ExistingDirectory);
  c->add_option("--waivers", o->waivers, "Folder with waivers besides the suite's own")->check(CLI::ExistingDirectory);
  c->add_option("--format", o->formats, format_help())->allow_extra_args(false);
  auto* out = c->add_option("--out", o->out, "Folder for the journal and outputs (default: results/local/conform-<time>)");
  c->add_option("--resume", o->resume, "Continue an interrupted run in this folder, with the same arguments")->excludes(out);
  c->add_option("--from", o->from, "Only what did not pass in an earlier journal: last-failed, or a FILE");
  c->callback([o, &context] {
    if (const Status s = conform(*o, context); !s) context.fail(s.error());
  });
}

}  // namespace concord::cli
