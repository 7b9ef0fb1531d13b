#include "experiment/experiment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <filesystem>
#include <latch>
#include <mutex>
#include <optional>
#include <thread>

#include "base/file.hpp"
#include "device/provenance.hpp"
#include "experiment/station.hpp"

namespace concord {
namespace fs = std::filesystem;
namespace {

// A prover's capture, kept until the run ends.
struct Proof {
  RunOutcome outcome;
  RunRequest request;
  WorkerReady ready;
};

// Its place: who comes first makes it, who comes meanwhile waits. Once made it does not change.
struct ProofSlot {
  std::mutex mutex;
  std::optional<Proof> proof;
};

// Makes one record. Cases may be run from several threads.
class Executor {
 public:
  Executor(const RunSettings& settings, const Worker::LoadingStep& loading, const std::atomic<bool>& stop)
      : s_(settings), stations_(settings.program, settings.pool, stop, loading) {}

  Result<Record> run(const PlannedCase& c) {
    Record record{.id = c.id, .experiment = c.experiment->id, .status = CaseStatus::kNotRun, .reason = {}, .body = describe(c)};
    const Status status = judge(c, record);
    if (status) return record;
    const Error& e = status.error();
    if (e.kind == ErrorKind::kInterrupted || e.kind == ErrorKind::kIo) return std::unexpected(e);
    record.status = status_of(e);
    record.reason = e.to_string();
    return record;
  }

 private:
  static CaseStatus status_of(const Error& e) {
    if (e.kind == ErrorKind::kUnsupported) return CaseStatus::kUnsupported;
    if (e.code == "worker.crashed") return CaseStatus::kCrash;
    if (e.code == "worker.timeout") return CaseStatus::kTimeout;
    if (e.code == "device.out_of_memory") return CaseStatus::kOom;
    return CaseStatus::kError;
  }

  OrderedJson describe(const PlannedCase& c) const {
    const ExperimentSpec& e = *c.experiment;
    const VerifierSpec& v = e.verifiers[c.verifier_index];
    return {{"title", e.title},
            {"class", e.class_name},
            {"expect", e.expect_accept ? "accept" : "reject"},
            {"decide", e.decide},
            {"seed_accept_rate_min", e.seed_accept_rate_min},
            {"model", s_.model_name},
            {"prompt", c.workload->id},
            {"trial", c.trial},
            {"verifier_index", c.verifier_index},
            {"seed", s_.seed},
            {"prover", side(c.prover, c.prover_on, e.prover, {})},
            {"verifier", side(c.verifier, c.verifier_on, e.verifier, v)}};
  }

  OrderedJson side(const std::string& device, const std::string& on, const RunPrecision& precision, const VerifierSpec& how) const {
    OrderedJson out{{"device", on}, {"precision", precision.name()}, {"threads", how.threads}, {"chunk", how.chunk}};
    if (!s_.pool.empty() && device == s_.pool.front()) out["pool"] = device;
    return out;
  }

  // A trial of a sampled workload draws with its own seed; the nonce is new for every proof.
  RunRequest request_for(const PlannedCase& c) const {
    RunRequest r{.workload = *c.workload, .generated = {}, .plan = c.experiment->plan, .chunk = 0, .nonce = {}, .out = {},
                 .model_name = s_.model_name, .source_digest = {}};
    if (!s_.layers.empty()) r.plan.layers = s_.layers;
    if (!s_.positions.empty()) r.plan.positions = s_.positions;
    r.workload.sampler.seed += static_cast<std::uint64_t>(c.trial);
    return r;
  }

  // One proof serves every verifier and every experiment that asks for the same one. The nonce does not depend on which member of a pool gives it.
  Result<const Proof*> proof_for(const PlannedCase& c) {
    RunRequest r = request_for(c);
    const std::string what = fmt::format("{}|{}|{}|{}|{}", c.experiment->prover.name(), c.workload->digest(), c.trial, r.plan.layers, r.plan.positions);
    const std::string key = c.prover_on + "|" + what;
    ProofSlot& slot = slot_of(key);
    const std::lock_guard lock(slot.mutex);
    if (slot.proof) return &*slot.proof;
    r.nonce = sha256_hex(fmt::format("concord.nonce/1|{}|{}|{}", s_.seed, c.prover, what));
    r.out = fs::path(s_.folder) / "captures" / (sha256_hex(key).substr(0, 16) + ".prover.safetensors");
    CONCORD_TRY(Station::Done done, stations_.of(c.prover_on).prove({c.prover_on, 0, s_.model, c.experiment->prover.name()}, r));
    return &slot.proof.emplace(std::move(done.outcome), std::move(r), std::move(done.ready));
  }

  ProofSlot& slot_of(const std::string& key) {
    const std::lock_guard lock(proofs_mutex_);
    return proofs_[key];
  }

  Status judge(const PlannedCase& c, Record& record) {
    const ExperimentSpec& e = *c.experiment;
    const VerifierSpec& spec = e.verifiers[c.verifier_index];
    CONCORD_TRY(const Proof* proof, proof_for(c));
    RunRequest r = proof->request;
    r.generated.assign(proof->outcome.tokens.begin() + static_cast<std::ptrdiff_t>(r.workload.tokens.size()), proof->outcome.tokens.end());
    r.chunk = spec.chunk;
    r.out.replace_extension().replace_extension(fmt::format("{}.v{}.safetensors", sha256_hex(c.id).substr(0, 8), c.verifier_index));
    CONCORD_TRY(const Station::Done verified, stations_.of(c.verifier_on).verify({c.verifier_on, spec.threads, s_.model, e.verifier.name()}, r));
    CONCORD_CHECK(compare_captures(c, *proof, r, verified.outcome, verified.ready, record));
    if (!s_.keep_captures) fs::remove(r.out);
    return {};
  }

  Status compare_captures(const PlannedCase& c, const Proof& proof, const RunRequest& r, const RunOutcome& verified,
                          const WorkerReady& verifier_ready, Record& record) {
    const ExperimentSpec& e = *c.experiment;
    std::vector<Profile> profiles;
    for (const std::string& name : e.profiles) {
      CONCORD_TRY(profiles.emplace_back(), Profile::load(name));
    }
    CONCORD_TRY(const Capture subject, Capture::open(proof.request.out));
    CONCORD_TRY(const Capture reference, Capture::open(r.out));
    CONCORD_CHECK(subject.verify());
    CONCORD_CHECK(reference.verify());
    const CompareContext context{.activations = float_name(e.verifier.activations), .class_name = e.class_name};
    CONCORD_TRY(const std::vector<Comparison> results, compare(subject, reference, profiles, context));
    const TokenResult tokens = judge_tokens(verified.margins, r.generated, e.token_margin_max, e.token_share_min);
    fill(record, e, proof, verified, verifier_ready, results, tokens);
    return {};
  }

  static void decide(Record& record, const ExperimentSpec& e, const Comparison& deciding, const TokenResult& tokens) {
    record.reason = deciding.rule;
    Verdict verdict = deciding.verdict;
    if (e.judge_tokens && !tokens.accepted && verdict == Verdict::kAccept) {
      verdict = Verdict::kReject;
      record.reason = fmt::format("token check: {} of {} tokens within a margin of {}", tokens.within, tokens.tokens, e.token_margin_max);
    }
    record.body["verdict"] = verdict_name(verdict);
    const Verdict expected = e.expect_accept ? Verdict::kAccept : Verdict::kReject;
    record.status = verdict == Verdict::kInconclusive ? CaseStatus::kInconclusive
                    : verdict == expected             ? CaseStatus::kPass
                                                      : CaseStatus::kFail;
  }

  // Two runs in one precision must hold the same weights, bit for bit, whatever their states say.
  static void require_weights(Record& record, const ExperimentSpec& e, const std::string& prover, const std::string& verifier) {
    if (e.prover.name() != e.verifier.name() || prover == verifier) return;
    record.status = CaseStatus::kFail;
    record.reason = fmt::format("weight digests differ in one precision: prover {}, verifier {}", prover, verifier);
  }

  // The layers' statistics do not depend on the profile: they stand once in a record.
  static OrderedJson without_layer_stats(OrderedJson profile) {
    for (OrderedJson& layer : profile["layers"]) layer.erase("stats");
    return profile;
  }

  static void fill(Record& record, const ExperimentSpec& e, const Proof& proof, const RunOutcome& verified,
                   const WorkerReady& verifier_ready, const std::vector<Comparison>& results, const TokenResult& tokens) {
    for (const Comparison& result : results)
      if (result.profile == e.decide) decide(record, e, result, tokens);
    require_weights(record, e, proof.ready.weights_digest, verifier_ready.weights_digest);
    OrderedJson& b = record.body;
    b["profiles"] = OrderedJson::object();
    for (const Comparison& result : results) b["profiles"][result.profile] = without_layer_stats(to_json(result));
    b["layers"] = OrderedJson::array();
    for (const LayerResult& layer : results.front().layers) b["layers"].push_back({{"layer", layer.layer}, {"stats", to_json(layer.stats)}});
    b["tokens"] = to_json(tokens);
    b["generated"] = std::vector<std::int32_t>(verified.tokens.begin() + static_cast<std::ptrdiff_t>(proof.request.workload.tokens.size()),
                                               verified.tokens.end());
    b["cost"] = {{"prompt_tokens", proof.request.workload.tokens.size()},
                 {"new_tokens", proof.request.workload.new_tokens},
                 {"kv_cache", true},
                 {"generate_prefill_seconds", proof.outcome.prefill_seconds},
                 {"generate_decode_seconds", proof.outcome.decode_seconds},
                 {"verify_prefill_seconds", verified.prefill_seconds},
                 {"verify_logits_seconds", verified.logits_seconds}};
    b["digests"] = {{"workload", proof.request.workload.digest()},
                    {"prover_weights", proof.ready.weights_digest},
                    {"verifier_weights", verifier_ready.weights_digest},
                    {"source", verifier_ready.source_digest},
                    {"source_equal", proof.ready.source_digest == verifier_ready.source_digest},
                    {"weights_equal", proof.ready.weights_digest == verifier_ready.weights_digest},
                    {"prover_root", proof.outcome.root},
                    {"verifier_root", verified.root},
                    {"nonce", proof.request.nonce}};
    const auto peak = [](const RunOutcome& o) { return o.device_memory_peak ? OrderedJson(*o.device_memory_peak) : OrderedJson(); };
    b["device_weights"] = {{"prover", proof.ready.device_weights}, {"verifier", verifier_ready.device_weights}};
    b["device_memory_peak"] = {{"prover", peak(proof.outcome)}, {"verifier", peak(verified)}};
    const OrderedJson origin = provenance();  // named: a temporary would not live through the loop
    for (const auto& [key, value] : origin.items()) b[key] = value;
  }

  const RunSettings& s_;
  Stations stations_;
  std::mutex proofs_mutex_;
  std::map<std::string, ProofSlot> proofs_;  // by everything that a proof depends on
};

// One call of execute(): the tracks, what they have finished, and what ended them.
class Execution {
 public:
  Execution(const std::vector<PlannedCase>& cases, const std::vector<Record>& done, const RunSettings& settings, const RunProgress& progress,
            const std::atomic<bool>& stop)
      : cases_(cases), journal_((fs::path(settings.folder) / "records.jsonl").string()), progress_(progress), stop_(stop), records_(cases.size()),
        executor_(settings, loading(), stop) {
    for (const Record& r : done) finished_[r.id] = &r;
  }

  Result<std::vector<Record>> run() {
    std::map<std::size_t, std::vector<std::size_t>> tracks;  // indices of cases
    for (std::size_t i = 0; i < cases_.size(); ++i) tracks[cases_[i].track].push_back(i);
    if (tracks.size() == 1) follow(tracks.begin()->second);
    else follow_all(tracks);
    if (thrown_) std::rethrow_exception(thrown_);
    if (error_) return std::unexpected(*error_);
    std::vector<Record> out;
    for (std::optional<Record>& r : records_) out.push_back(std::move(*r));
    return out;
  }

 private:
  // No thread ends before all are done: a worker dies with the thread that started it, and another track may be using it.
  void follow_all(const std::map<std::size_t, std::vector<std::size_t>>& tracks) {
    std::latch all_done(static_cast<std::ptrdiff_t>(tracks.size()));
    std::vector<std::jthread> threads;
    for (const auto& track : tracks)
      try {
        threads.emplace_back([this, &all_done, &indices = track.second] {
          guarded([&] { follow(indices); });
          all_done.arrive_and_wait();
        });
      } catch (...) {  // no thread to be had: the others end at their next case
        guarded([] { throw; });
        all_done.count_down();
      }
  }

  // What is thrown ends all tracks and leaves run().
  void guarded(const std::function<void()>& work) {
    try {
      work();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      thrown_ = std::current_exception();
    }
  }

  void follow(const std::vector<std::size_t>& indices) {
    for (const std::size_t i : indices) {
      const Status status = step(i);
      if (status) continue;
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = status.error();
      return;
    }
  }

  Status step(std::size_t i) {
    const PlannedCase& c = cases_[i];
    {
      const std::lock_guard lock(mutex_);
      if (stop_ || error_ || thrown_)
        return fail(ErrorKind::kInterrupted, "run.interrupted", fmt::format("stopped after {} of {} cases", done_, cases_.size()));
      if (progress_.before) progress_.before(c, done_, cases_.size());
      if (const auto it = finished_.find(c.id); it != finished_.end()) return keep(i, *it->second);
    }
    CONCORD_TRY(Record record, executor_.run(c));
    const std::lock_guard lock(mutex_);
    CONCORD_CHECK(append_line(journal_, record.to_line()));
    return keep(i, std::move(record));
  }

  Status keep(std::size_t i, Record record) {
    records_[i] = std::move(record), ++done_;
    if (progress_.after) progress_.after(*records_[i]);
    return {};
  }

  Worker::LoadingStep loading() {
    if (!progress_.loading) return {};
    return [this](std::uint64_t done, std::uint64_t total) {
      const std::lock_guard lock(mutex_);
      progress_.loading(done, total);
    };
  }

  const std::vector<PlannedCase>& cases_;
  std::string journal_;
  const RunProgress& progress_;
  const std::atomic<bool>& stop_;
  std::map<std::string, const Record*> finished_;
  std::mutex mutex_;  // over everything below but the executor
  std::vector<std::optional<Record>> records_;
  std::size_t done_ = 0;
  std::optional<Error> error_;
  std::exception_ptr thrown_;
  Executor executor_;
};

}  // namespace

Result<std::vector<Record>> execute(const std::vector<PlannedCase>& cases, const std::vector<Record>& done, const RunSettings& settings,
                                    const RunProgress& progress, const std::atomic<bool>& stop) {
  std::error_code error;
  fs::create_directories(fs::path(settings.folder) / "captures", error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), settings.folder);
  Execution execution(cases, done, settings, progress, stop);
  CONCORD_TRY(std::vector<Record> out, execution.run());
  if (!settings.keep_captures) fs::remove_all(fs::path(settings.folder) / "captures", error);
  return out;
}

TokenResult judge_tokens(const std::vector<TokenMargin>& margins, const std::vector<std::int32_t>& tokens, double margin_max, double share_min) {
  TokenResult t;
  t.tokens = static_cast<std::int64_t>(margins.size());
  double sum = 0;
  std::int64_t finite = 0;
  for (std::size_t i = 0; i < margins.size(); ++i) {
    const TokenMargin& m = margins[i];
    t.within += m.margin <= margin_max;
    t.equal += i < tokens.size() && m.best == tokens[i];
    t.margin_max = std::max(t.margin_max, m.margin);
    t.rank_max = std::max(t.rank_max, m.rank);
    if (!std::isfinite(m.margin)) continue;
    sum += m.margin;
    ++finite;
  }
  t.margin_mean = finite > 0 ? sum / static_cast<double>(finite) : 0;
  t.accepted = t.tokens > 0 && static_cast<double>(t.within) >= share_min * static_cast<double>(t.tokens);
  return t;
}

}  // namespace concord
