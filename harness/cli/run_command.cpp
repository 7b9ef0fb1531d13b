// `concord run`: experiments on all devices found, with records, a report and an exit code that cannot be green for want of work.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/text.hpp"
#include "cli/command.hpp"
#include "cli/model_arguments.hpp"
#include "experiment/experiment.hpp"
#include "device/device_id.hpp"
#include "device/provenance.hpp"
#include "report/render.hpp"

namespace concord::cli {
namespace fs = std::filesystem;
namespace {

struct Options {
  std::vector<std::string> suites{"exp1", "exp2", "exp3", "exp4", "exp5"};
  std::string model, workload, out, resume, layers, positions;
  std::vector<std::string> backends, required, devices;
  std::int64_t trials = 1;
  std::uint64_t seed = 1;
  bool keep_captures = false, json = false;
};

// Everything a run is made of, loaded and checked before anything is executed.
struct Plan {
  OpenedModel model;
  std::vector<ExperimentSpec> experiments;
  RunSettings settings;
  std::vector<PlannedCase> cases;
  std::vector<std::string> empty;   // experiments without a case
  std::vector<std::string> absent;  // devices that are not available, with reasons
  std::vector<Record> done;
  OrderedJson manifest;             // run.json
};

// Backends and devices named by the user must be there before anything runs.
Status check_required(const Backends& backends, const std::vector<std::string>& required) {
  for (const std::string& name : required) {
    CONCORD_TRY(const std::string id, backends.resolve(name));
  }
  return {};
}

// What must be the same of devices that stand for each other.
std::vector<std::pair<const char*, std::string>> likeness(const DeviceFacts& d) {
  return {{"backend", d.backend}, {"kind", device_kind(d.id)}, {"architecture", d.architecture}, {"features", d.features},
          {"compute units", std::to_string(d.compute_units)}};
}

Status check_alike(const DeviceFacts& first, const DeviceFacts& other) {
  const auto expected = likeness(first), found = likeness(other);
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (expected[i] != found[i])
      return fail(ErrorKind::kUsage, "run.unlike_devices",
                  fmt::format("--devices takes devices that can stand for each other: the {} of {} is \"{}\", that of {} is \"{}\"; name devices that differ with --backends",
                              expected[i].first, first.id, printable(expected[i].second), other.id, printable(found[i].second)));
  return {};
}

// --devices: available, each once, alike.
Result<std::vector<std::string>> choose_pool(const Backends& backends, const std::vector<std::string>& named) {
  std::vector<std::string> ids;
  for (const std::string& name : named) {
    CONCORD_TRY(std::string id, backends.resolve(name));
    if (std::ranges::find(ids, id) != ids.end())
      return fail(ErrorKind::kUsage, "run.device_twice", fmt::format("--devices names {} twice", id));
    ids.push_back(std::move(id));
  }
  const auto facts = [&](const std::string& id) -> const DeviceFacts& { return *std::ranges::find(backends.devices(), id, &DeviceFacts::id); };
  for (const std::string& id : ids) CONCORD_CHECK(check_alike(facts(ids.front()), facts(id)));
  return ids;
}

// Devices of the experiments: the first of --devices, which stands for all of them, those of --backends, or, where neither is given, every available one.
Result<std::vector<std::string>> choose_devices(const Backends& backends, const std::vector<std::string>& named, const std::vector<std::string>& pool,
                                                std::vector<std::string>& absent) {
  std::vector<std::string> out;
  if (!pool.empty()) out.push_back(pool.front());
  for (const std::string& name : named) {
    CONCORD_TRY(std::string id, backends.resolve(name));
    if (std::ranges::find(pool, id) != pool.end())
      return fail(ErrorKind::kUsage, "run.device_twice", fmt::format("--backends names {}, which is one of --devices", id));
    if (std::ranges::find(out, id) == out.end()) out.push_back(std::move(id));
  }
  for (const DeviceFacts& d : backends.devices()) {
    if (!d.available) absent.push_back(fmt::format("{}: {}", d.id, d.why));
    else if (named.empty() && pool.empty()) out.push_back(d.id);
  }
  for (const PluginFailure& f : backends.failures()) absent.push_back(fmt::format("{}: {}", f.path, f.why));
  if (out.empty()) return fail(ErrorKind::kMissingDevice, "run.no_device", "no backend offers an available device; run concord doctor");
  return out;
}

std::string default_folder() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  gmtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &local);
  return fmt::format("results/local/{}-{}", text, ::getpid());
}

// What the suites and profiles said: a run resumed under other thresholds would mix verdicts of two rules.
std::string rules_digest(const std::vector<ExperimentSpec>& experiments) {
  std::string all;
  for (const ExperimentSpec& e : experiments) {
    all += read_text(e.file).value_or("");
    for (const std::string& name : e.profiles)
      all += read_text(name.ends_with(".json") ? name : suites_folder() + "/profiles/" + name + ".json").value_or("");
  }
  return sha256_hex(all);
}

OrderedJson manifest_of(const Plan& p, const Options& o) {
  std::string ids;
  for (const PlannedCase& c : p.cases) ids += c.id + "\n";
  std::vector<std::string> workloads;
  for (const Workload& w : p.settings.workloads) workloads.push_back(w.id + " " + w.digest());
  OrderedJson out{{"schema", "concord.run/1"},
          {"model", p.settings.model},
          {"suites", o.suites},
          {"workload", p.settings.workloads.front().file},
          {"workloads", workloads},
          {"devices", p.settings.devices},
          {"trials", o.trials},
          {"seed", o.seed},
          {"layers", o.layers},
          {"positions", o.positions},
          {"cases", p.cases.size()},
          {"cases_sha256", sha256_hex(ids)},
          {"rules_sha256", rules_digest(p.experiments)}};
  if (!p.settings.pool.empty()) out["pool"] = p.settings.pool;
  return out;
}

// Takes over the finished cases of an interrupted run, if it was the same run.
Status resume(Plan& p) {
  const std::string folder = p.settings.folder, file = (fs::path(folder) / "run.json").string();
  CONCORD_TRY(const Json old, read_json(file, "run"));
  for (const auto& [key, value] : p.manifest.items())
    if (!old.contains(key) || old[key] != Json(value))
      return bad_input("run.other_plan", fmt::format("\"{}\" was {} there and is {} now; resume with the same arguments or start a new run", key,
                                                     old.contains(key) ? old[key].dump() : "absent", value.dump()), file);
  if (old.contains("pool") && !p.manifest.contains("pool"))
    return bad_input("run.other_plan", fmt::format("the run was spread over {}; resume it with the same --devices", old["pool"].dump()), file);
  const std::string journal_file = (fs::path(folder) / "records.jsonl").string();
  if (!fs::exists(journal_file)) return {};
  CONCORD_TRY(Journal journal, read_journal(journal_file));
  if (journal.partial) {  // what a crash left of its last line; the whole lines before it stand
    std::string whole;
    for (const Record& r : journal.records) whole += r.to_line() + "\n";
    CONCORD_CHECK(write_atomically(journal_file, whole));
  }
  p.done = std::move(journal.records);
  return {};
}

Status load_experiments(const Options& o, Plan& p) {
  std::set<std::string> ids;
  for (const std::string& suite : o.suites) {
    CONCORD_TRY(ExperimentSpec e, ExperimentSpec::load(suite));
    if (!ids.insert(e.id).second) return fail(ErrorKind::kUsage, "run.duplicate_suite", fmt::format("experiment \"{}\" is named twice", e.id), e.file);
    for (const std::string& profile : e.profiles) {
      CONCORD_TRY(const Profile unused, Profile::load(profile));
    }
    p.experiments.push_back(std::move(e));
  }
  return {};
}

Result<std::unique_ptr<Plan>> make_plan(const Options& o, const Context& context) {
  auto p = std::make_unique<Plan>();
  const Backends backends = Backends::discover();
  CONCORD_CHECK(check_required(backends, o.required));
  CONCORD_CHECK(load_experiments(o, *p));
  CONCORD_TRY(p->model, open_model(o.model));
  RunSettings& s = p->settings;
  s.program = context.program;
  s.model = p->model.path;
  s.model_name = p->model.name;
  CONCORD_TRY(s.workloads, open_workloads(o.workload, p->model));
  CONCORD_TRY(s.pool, choose_pool(backends, o.devices));
  CONCORD_TRY(s.devices, choose_devices(backends, o.backends, s.pool, p->absent));
  if (s.pool.size() == 1) s.pool.clear();  // nothing to spread over
  s.folder = !o.resume.empty() ? o.resume : o.out.empty() ? default_folder() : o.out;
  s.trials = o.trials;
  s.seed = o.seed;
  s.layers = o.layers;
  s.positions = o.positions;
  s.keep_captures = o.keep_captures;
  p->cases = plan_cases(p->experiments, s);
  for (const ExperimentSpec& e : p->experiments)
    if (std::ranges::none_of(p->cases, [&](const PlannedCase& c) { return c.experiment == &e; })) p->empty.push_back(e.id);
  p->manifest = manifest_of(*p, o);
  if (!o.resume.empty()) {
    CONCORD_CHECK(resume(*p));
    return p;
  }
  if (p->cases.empty()) return p;  // nothing to run: leave no folder behind
  std::error_code error;
  if (fs::exists(fs::path(s.folder) / "run.json"))
    return fail(ErrorKind::kUsage, "run.folder_in_use", "it holds another run; continue that one with --resume, or name another --out", s.folder);
  fs::create_directories(s.folder, error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), s.folder);
  CONCORD_CHECK(write_atomically(fs::path(s.folder) / "run.json", p->manifest.dump(2) + "\n"));
  return p;
}

RunProgress terminal_progress(const std::string& model) {
  if (!::isatty(STDERR_FILENO)) return {};
  return {.before = [](const PlannedCase& c, std::size_t done, std::size_t total) {
            fmt::print(stderr, "\r\x1b[K[{}/{}] {}", done + 1, total, c.id);
            std::fflush(stderr);
          },
          .after = {},
          .loading = loading_line(model)};
}

std::vector<std::string> notes_of(const Plan& p) {
  std::vector<std::string> notes;
  const bool cross = std::ranges::any_of(p.experiments, &ExperimentSpec::cross);
  const auto is_cpu = [](const std::string& id) { return id.starts_with("cpu") || id == "reference"; };
  if (cross && std::ranges::all_of(p.settings.devices, is_cpu))
    notes.push_back("Only CPU devices took part: \"heterogeneous\" here means different variants (instruction set, order of arithmetic) of the CPU "
                    "backends on one machine, not different vendors.");
  if (const auto& pool = p.settings.pool; !pool.empty())
    notes.push_back(fmt::format("{} stands for {} interchangeable devices, {}: each prompt and trial is proved on one of them and verified on the next. Times were taken "
                                "while the others worked too.", pool.front(), pool.size(), fmt::join(pool, ", ")));
  for (const std::string& a : p.absent) notes.push_back("Not available, and not counted: " + a);
  return notes;
}

// The program, machine and date of the records themselves: a resumed run may be reported by another build.
OrderedJson provenance_of(const std::vector<Record>& records) {
  OrderedJson out = provenance();
  for (const char* key : {"program", "machine", "date"})
    for (const Record& r : records)
      if (r.body.contains(key)) out[key] = r.body[key];
  return out;
}

// What the provers wrote, through the model's token table: each different text once, with who wrote it first.
std::vector<std::string> outputs_of(const Plan& p, const std::vector<Record>& records) {
  std::vector<std::string> lines;
  std::set<std::string> seen;
  for (const Record& r : records) {
    if (!r.body.contains("generated")) continue;
    const std::string prompt = r.body["prompt"];
    std::string text = printable(p.model.tokens.text(r.body["generated"].get<std::vector<std::int32_t>>()), 400);
    std::ranges::replace(text, '`', '\'');  // it stands between backquotes
    if (seen.insert(prompt + "|" + text).second)
      lines.push_back(fmt::format("{}, {} on {}: `{}`", prompt, r.body["prover"]["precision"].get<std::string>(), r.body["prover"]["device"].get<std::string>(), text));
  }
  return lines;
}

// What to type to choose the same devices again.
std::string device_options(const RunSettings& s) {
  if (s.pool.empty()) return fmt::format("--backends {}", fmt::join(s.devices, ","));
  const std::vector<std::string> others(s.devices.begin() + 1, s.devices.end());
  return fmt::format("--devices {}{}", fmt::join(s.pool, ","), others.empty() ? "" : fmt::format(" --backends {}", fmt::join(others, ",")));
}

Status write_report(const Plan& p, const Options& o, const RunSummary& summary, const std::vector<Record>& records) {
  ReportContext context{.model = p.settings.model_name, .workload = fs::path(p.settings.workloads.front().file).filename().string(),
                        .devices = fmt::format("{}", fmt::join(p.settings.devices, ", ")),
                        .command = fmt::format("concord run {} {}{} --trials {} --seed {}", fmt::join(o.suites, " "), device_options(p.settings),
                                               o.model.empty() ? "" : " --model " + p.settings.model_name, o.trials, o.seed),
                        .folder = p.settings.folder, .provenance = provenance_of(records), .outputs = outputs_of(p, records), .notes = notes_of(p)};
  const fs::path folder = p.settings.folder;
  CONCORD_CHECK(write_atomically(folder / "report.md", markdown_report(summary, context)));
  CONCORD_CHECK(write_atomically(folder / "accept-rate.svg", accept_rate_svg(summary)));
  if (o.json) {
    fmt::print("{}\n", OrderedJson{{"folder", p.settings.folder}, {"required", summary.required}, {"executed", summary.executed},
                                   {"passed", summary.passed}, {"exit_code", summary.exit_code()}}.dump(2));
    return {};
  }
  fmt::print("{}report    {}\n", terminal_report(summary, context), (folder / "report.md").string());
  return {};
}

Status run(const Options& o, Context& context) {
  CONCORD_TRY(const std::unique_ptr<Plan> plan, make_plan(o, context));
  if (plan->cases.empty())
    return fail(ErrorKind::kNothingRun, "run.nothing", fmt::format("no case to run: {} needs two devices, found {}", fmt::join(plan->empty, ", "),
                                                                   fmt::join(plan->settings.devices, ", ")));
  auto records = execute(plan->cases, plan->done, plan->settings, terminal_progress(plan->settings.model_name), Context::stop());
  if (::isatty(STDERR_FILENO)) fmt::print(stderr, "\r\x1b[K");
  if (!records) {
    if (records.error().kind == ErrorKind::kInterrupted)
      records.error().message += fmt::format("; what was finished is kept, continue with --resume {}", plan->settings.folder);
    return std::unexpected(records.error());
  }
  const RunSummary summary = summarize(*records, plan->cases.size(), plan->empty);
  CONCORD_CHECK(write_report(*plan, o, summary, *records));
  context.exit = summary.exit_code();
  return {};
}

}  // namespace

void add_run_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<Options>();
  CLI::App* c = root.add_subcommand("run", "Run verification experiments and write records and a report");
  c->add_option("suite", o->suites, "Experiments by name or file")->capture_default_str();
  c->add_option("--model", o->model, "Hugging Face folder or GGUF file (default: the embedded model)");
  c->add_option("--workload", o->workload, "Workload FILE or FILE:ID (default: the one whose tokenizer is the model's)");
  c->add_option("--backends", o->backends, "Devices to use, separated by commas (default: every available one, or none beside --devices)")->delimiter(',');
  c->add_option("--devices", o->devices, "Devices of one kind that stand for each other, separated by commas: trials are spread over them (cuda:0,cuda:1)")->delimiter(',');
  c->add_option("--require-backends", o->required, "Stop with exit code 3, before anything runs, when one of these is missing")->delimiter(',');
  c->add_option("--trials", o->trials, "Trials per prompt and pair")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  c->add_option("--layers", o->layers, "Hidden states to capture instead of the suite's: default, all, every:K or a list");
  c->add_option("--positions", o->positions, "Positions to capture instead of the suite's: generated, all, every:K, last:K or a list");
  c->add_option("--seed", o->seed, "Seed of the nonces")->capture_default_str();
  auto* out = c->add_option("--out", o->out, "Folder for records and report (default: results/local/<time>)");
  c->add_option("--resume", o->resume, "Continue an interrupted run in this folder, with the same arguments")->excludes(out);
  c->add_flag("--keep-captures", o->keep_captures, "Keep the capture files");
  c->add_flag("--json", o->json, "Print a summary as JSON");
  c->callback([o, &context] {
    if (const Status s = run(*o, context); !s) context.fail(s.error());
  });
}

}  // namespace concord::cli
