#include "conformance/run/session.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <new>
#include <set>

#include "base/file.hpp"
#include "conformance/run/op_client.hpp"
#include "conformance/run/saved_outputs.hpp"
#include "device/provenance.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace fs = std::filesystem;
namespace {

// Where a case runs again in other configurations: what it costs is a few times the case itself. Of one call.
constexpr double kMaxFlops = 2e8;
constexpr std::uint64_t kMaxBytes = std::uint64_t{256} << 20;
const std::vector<std::uint32_t> kThreadCounts = {1, 3};

Evidence not_run(std::string message) {
  Evidence e;
  e.message = std::move(message);
  return e;
}

// One case on its way through the devices. Inputs and expectations are made when the first device needs them, and then
// used by all.
struct CaseWork {
  const PlannedCase& planned;
  Result<Problem> problem;
  bool filled = false;
  std::map<MathMode, Result<Expectation>> expectations;
};

class Session {
 public:
  Session(const SessionSettings& settings, const SessionProgress& progress, const std::atomic<bool>& stop,
          MemoryFile inputs, MemoryFile outputs)
      : settings_(settings),
        progress_(progress),
        stop_(stop),
        inputs_(std::move(inputs)),
        outputs_(std::move(outputs)),
        saver_(settings.folder) {
    for (const std::string& device : settings.devices)
      clients_.push_back(std::make_unique<OpClient>(
          OpWorkerSettings{settings.program, device, settings.backend_path, settings.threads, settings.timeout},
          inputs_, outputs_, stop_));
  }
  Result<std::vector<CaseRecord>> run(const std::vector<PlannedCase>& plan, const std::vector<CaseRecord>& done);

 private:
  Result<CaseRecord> run_on(CaseWork& work, OpClient& client);
  Result<Evidence> evidence_of(CaseWork& work, OpClient& client);
  Result<Evidence> judged(CaseWork& work, OpClient& client, const Expectation* expectation, const RunAsk& ask);
  Result<Evidence> worst_of_varying(CaseWork& work, OpClient& client, const Expectation* expectation, Evidence first);
  Status prepare(CaseWork& work);
  const Result<Expectation>& expectation(CaseWork& work, const MathMode& mode);
  RunAsk policy(const CaseWork& work) const;
  CaseRecord record_of(CaseWork& work, const OpClient& client, Evidence evidence);
  std::string witness_of(const std::string& device) const;

  const SessionSettings& settings_;
  const SessionProgress& progress_;
  const std::atomic<bool>& stop_;
  MemoryFile inputs_, outputs_;
  OutputSaver saver_;
  std::vector<std::unique_ptr<OpClient>> clients_;
};

RunAsk Session::policy(const CaseWork& work) const {
  RunAsk ask{.repeats = std::max<std::uint32_t>(settings_.repeats, 1)};
  if (settings_.determinism && work.planned.flops <= kMaxFlops && work.problem->input_bytes <= kMaxBytes)
    ask.threads = kThreadCounts, ask.rows = true;
  return ask;
}

// Of this machine, for everything that one case needs at once: inputs and outputs on both sides, the weight in two
// forms, the oracle's values and bounds, three float64 numbers for an output of two bytes. Beyond it the system would
// end some process, and nobody can say which.
Status fits_in_memory(const Problem& problem) {
  constexpr double kGiB = 1u << 30;
  const double all = static_cast<double>(machine().memory_bytes);
  const double needed = 4 * static_cast<double>(problem.input_bytes) + 34 * static_cast<double>(problem.output_bytes);
  if (needed <= 0.75 * all) return {};
  return fail(ErrorKind::kUsage, "session.memory",
              fmt::format("it needs about {:.1f} GiB of memory, more than three quarters of this machine's {:.1f} GiB",
                          needed / kGiB, all / kGiB));
}

Status Session::prepare(CaseWork& work) {
  if (work.filled) return {};
  CONCORD_CHECK(fits_in_memory(*work.problem));
  CONCORD_CHECK(inputs_.grow(work.problem->input_bytes));
  CONCORD_CHECK(outputs_.grow(work.problem->output_bytes));
  fill_inputs(*work.problem, settings_.seed, inputs_.first(work.problem->input_bytes));
  work.filled = true;
  return {};
}

const Result<Expectation>& Session::expectation(CaseWork& work, const MathMode& mode) {
  const auto found = work.expectations.find(mode);
  if (found != work.expectations.end()) return found->second;
  return work.expectations.emplace(mode, expect(*work.problem, inputs_.first(work.problem->input_bytes), mode))
      .first->second;
}

// Runs and adds what the judge finds.
Result<Evidence> Session::judged(CaseWork& work, OpClient& client, const Expectation* expectation, const RunAsk& ask) {
  const Problem& problem = *work.problem;
  const auto inputs = inputs_.first(problem.input_bytes);
  const auto outputs = outputs_.first(problem.output_bytes);
  std::ranges::fill(outputs,
                    std::byte{0});  // nothing of an earlier device or case may be taken for a result of this one
  CONCORD_TRY(Evidence e, client.run(problem, ask));
  e.expect_refusal = problem.expect_refusal;
  if (e.outcome != Outcome::kCompleted && e.outcome != Outcome::kRefused) return e;
  if (!expectation) return e.outputs = judge_untouched(problem, inputs, outputs), e;
  if (e.outcome == Outcome::kRefused) return e;
  e.math_mode = expectation->mode.name();
  e.outputs = judge_outputs(problem, *expectation, inputs, outputs);
  Hasher hasher;
  for (const Operand& o : problem.outputs) hasher.update(outputs.subspan(o.offset, o.bytes));
  e.output_digest = hex(hasher.finish());
  return e;
}

// Where a device may give other bits each time, each time must be within the bounds: the worst run is the evidence.
Result<Evidence> Session::worst_of_varying(CaseWork& work, OpClient& client, const Expectation* expectation,
                                           Evidence first) {
  const std::string witness = witness_of(client.device());
  for (std::uint32_t i = 1; i <= first.again.repeats; ++i) {
    if (decide(work.planned.spec, first, witness).status != CaseStatus::kPass) return first;
    CONCORD_TRY(Evidence next, judged(work, client, expectation, {.repetition = i}));
    next.again = first.again;
    if (decide(work.planned.spec, next, witness).status != CaseStatus::kPass) {
      next.message += fmt::format("{}this was run {}", next.message.empty() ? "" : "; ", i + 1);
      return next;
    }
  }
  return first;
}

Result<Evidence> Session::evidence_of(CaseWork& work, OpClient& client) {
  if (!work.problem) return not_run(work.problem.error().to_string());
  const bool refusal = work.problem->expect_refusal;
  CONCORD_TRY(Evidence asked, client.supports(work.planned.id));
  asked.expect_refusal = refusal;
  if (asked.outcome != Outcome::kCompleted && !(refusal && asked.outcome == Outcome::kRefused)) return asked;
  if (const Status s = prepare(work); !s) return not_run("the judge: " + s.error().to_string());
  const Expectation* expected = nullptr;
  if (!refusal) {
    const Result<Expectation>& made = expectation(work, client.mode());
    if (!made) return not_run("the oracle: " + made.error().to_string());
    expected = &*made;
  }
  CONCORD_TRY(Evidence first, judged(work, client, expected, policy(work)));
  if (first.outcome != Outcome::kCompleted || first.declared != CONCORD_RUN_TO_RUN_VARYING) return first;
  return worst_of_varying(work, client, expected, std::move(first));
}

std::string Session::witness_of(const std::string& device) const {
  for (const auto& [id, pattern] : settings_.witness)
    if (id == device) return pattern;
  return {};
}

CaseRecord Session::record_of(CaseWork& work, const OpClient& client, Evidence evidence) {
  const PlannedCase& c = work.planned;
  CaseRecord r;
  r.id = c.id, r.device = client.device(), r.family = c.family;
  const std::string witness = witness_of(r.device);
  const Waived waived =
      apply_waivers(settings_.waivers, c.id, r.device, evidence, decide(c.spec, evidence, witness), settings_.today);
  r.status = waived.decision.status, r.check = waived.decision.check, r.reason = waived.decision.reason;
  r.waiver = waived.waiver, r.waiver_expired = waived.expired;
  r.evidence = std::move(evidence);
  r.body = {{"tier", tier_name(c.tier)},    {"tags", c.tags},         {"seed", settings_.seed},
            {"threads", settings_.threads}, {"bytes", c.bytes},       {"flops", c.flops},
            {"witness_pattern", witness},   {"facts", client.facts()}};
  const auto expected = work.expectations.find(client.mode());
  if (expected != work.expectations.end() && expected->second)
    r.body["bound"] = {{"formula", expected->second->bound_formula}, {"lambda", expected->second->lambda}};
  r.body["repro"] = fmt::format("concord conform --case '{}' --backends {} --seed {}{}", c.id, r.device, settings_.seed,
                                settings_.threads ? fmt::format(" --threads {}", settings_.threads) : "");
  const OrderedJson origin = provenance();
  for (const auto& [key, value] : origin.items()) r.body[key] = value;
  return r;
}

Result<CaseRecord> Session::run_on(CaseWork& work, OpClient& client) {
  Result<Evidence> evidence = not_run("");
  try {
    evidence = evidence_of(work, client);
  } catch (const std::bad_alloc&) {
    evidence = not_run("the judging process could not allocate memory");
  }
  if (!evidence) return std::unexpected(evidence.error());
  const bool has_outputs =
      evidence->outcome == Outcome::kCompleted || (evidence->outcome == Outcome::kRefused && work.filled);
  CaseRecord record = record_of(work, client, std::move(*evidence));
  if (settings_.folder.empty()) return record;
  const bool correct = record.status == CaseStatus::kPass;
  if (has_outputs && (settings_.save == Save::kAll || (settings_.save == Save::kIncorrect && !correct))) {
    CONCORD_TRY(record.body["saved"],
                saver_.save(record.key(), *work.problem, outputs_.first(work.problem->output_bytes)));
  }
  CONCORD_CHECK(append_line(fs::path(settings_.folder) / "cases.jsonl", record.to_line()));
  return record;
}

Result<std::vector<CaseRecord>> Session::run(const std::vector<PlannedCase>& plan,
                                             const std::vector<CaseRecord>& done) {
  std::map<std::string, const CaseRecord*> finished;
  for (const CaseRecord& r : done) finished.emplace(r.key(), &r);
  std::vector<CaseRecord> records;
  const std::size_t total = plan.size() * clients_.size();
  for (const PlannedCase& planned : plan) {
    CaseWork work{.planned = planned, .problem = make_problem(planned.spec)};
    for (const auto& client : clients_) {
      if (const auto found = finished.find(client->device() + " " + planned.id); found != finished.end()) {
        records.push_back(*found->second);
        continue;
      }
      if (stop_)
        return fail(ErrorKind::kInterrupted, "session.interrupted",
                    fmt::format("interrupted after {} of {} cases", records.size(), total));
      if (progress_.before) progress_.before(planned, client->device(), records.size(), total);
      CONCORD_TRY(CaseRecord record, run_on(work, *client));
      if (progress_.after) progress_.after(record);
      records.push_back(std::move(record));
    }
    inputs_.release();
    outputs_.release();
  }
  return records;
}

}  // namespace

Result<std::vector<CaseRecord>> run_cases(const std::vector<PlannedCase>& plan, const std::vector<CaseRecord>& done,
                                          const SessionSettings& settings, const SessionProgress& progress,
                                          const std::atomic<bool>& stop) {
  SessionSettings mine = settings;
  if (mine.today.empty()) mine.today = utc_now().substr(0, 10);
  if (!mine.folder.empty()) {
    std::error_code error;
    fs::create_directories(mine.folder, error);
    if (error) return fail(ErrorKind::kIo, "file.create", error.message(), mine.folder);
  }
  CONCORD_TRY(MemoryFile inputs, MemoryFile::create("concord inputs"));
  CONCORD_TRY(MemoryFile outputs, MemoryFile::create("concord outputs"));
  return Session(mine, progress, stop, std::move(inputs), std::move(outputs)).run(plan, done);
}

}  // namespace concord::conformance
