// The worker's side of operator conformance: one device, cases by id, operands and outputs in memory shared with the
// parent. Reports numbers, judges nothing.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <new>

#include "base/line_server.hpp"
#include "base/memory_file.hpp"
#include "conformance/run/op_run.hpp"
#include "conformance/run/session.hpp"
#include "device/provenance.hpp"

namespace concord::conformance {
namespace {

std::string line_of(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

OrderedJson error_json(const Error& e) { return {{"error", {{"code", e.code}, {"message", e.message}}}}; }

void set_outcome(Evidence& e, const Status& status, const std::string& where = {}) {
  e.outcome = status ? Outcome::kCompleted : outcome_of(status.error());
  if (!status) e.message = where + status.error().message;
}

// What the parent asks to be run.
struct Request {
  Problem problem;
  std::uint32_t repetition = 0, repeats = 0;
  std::vector<std::uint32_t> threads;
  bool rows = false;
};

Result<Problem> problem_of(const JsonFields& f) {
  CONCORD_TRY(const std::string id, f.string("case"));
  CONCORD_TRY(const CaseSpec spec, CaseSpec::parse(id));
  return make_problem(spec);
}

Result<Request> request_of(const JsonFields& f) {
  Request r;
  CONCORD_CHECK(f.only({"op", "case", "input_bytes", "output_bytes", "repetition", "repeats", "threads", "rows"}));
  CONCORD_TRY(r.problem, problem_of(f));
  CONCORD_TRY(const std::int64_t repetition, f.integer("repetition", 0, 1'000'000));
  CONCORD_TRY(const std::int64_t repeats, f.integer("repeats", 0, 1'000'000));
  CONCORD_TRY(const auto threads, f.integers("threads", 1, 1024));
  CONCORD_TRY(r.rows, f.boolean_or("rows", false));
  CONCORD_TRY(const std::int64_t input_bytes, f.integer("input_bytes", 0));
  CONCORD_TRY(const std::int64_t output_bytes, f.integer("output_bytes", 0));
  r.repetition = static_cast<std::uint32_t>(repetition), r.repeats = static_cast<std::uint32_t>(repeats);
  r.threads.assign(threads.begin(), threads.end());
  if (static_cast<std::uint64_t>(input_bytes) != r.problem.input_bytes ||
      static_cast<std::uint64_t>(output_bytes) != r.problem.output_bytes)
    return fail(ErrorKind::kInternal, "worker.other_layout",
                "parent and worker disagree about the case's operands; are they the same program?");
  return r;
}

// One case on one device: the call, then the same again in the ways that were asked for.
class CaseRun {
 public:
  CaseRun(const Request& request, std::span<const std::byte> inputs, std::span<std::byte> outputs)
      : request_(request), inputs_(inputs), outputs_(outputs) {}

  // The first call. False: nothing can be repeated.
  bool first(Device& device);
  bool repeat(Device& device);
  bool with_threads(Device& device, std::uint32_t threads);
  bool rows(Device& device);
  Evidence& evidence() { return evidence_; }

 private:
  Status again(Device& device, OpRun& run, const Problem& problem, unsigned repetition);
  bool broke(const Status& status, const std::string& where);
  void count_fallbacks(const Device& device, std::uint64_t before) {
    evidence_.fallbacks += device.fallbacks() - before;
  }

  const Request& request_;
  std::span<const std::byte> inputs_;
  std::span<std::byte> outputs_;
  std::unique_ptr<OpRun> run_;
  std::vector<std::byte> buffer_;  // outputs of a repetition
  Evidence evidence_;
};

bool CaseRun::first(Device& device) {
  Evidence& e = evidence_;
  const std::uint64_t before = device.fallbacks();
  run_ = std::make_unique<OpRun>(device, request_.problem, inputs_);
  CallResult result;
  result.status = run_->prepare();
  const bool prepared = result.status.has_value();
  if (prepared)
    result = run_->call(request_.repetition, outputs_);
  else if (request_.problem.expect_refusal)  // refused before there was a call
    fill_outputs(request_.problem, request_.repetition, inputs_, outputs_);
  set_outcome(e, result.status);
  count_fallbacks(device, before);
  e.kernel = result.kernel, e.seconds = result.seconds;
  e.declared = result.declared;
  if (!prepared || (e.outcome != Outcome::kCompleted && e.outcome != Outcome::kRefused)) return false;
  const Result<std::string> changed = run_->changed_input();
  if (changed)
    e.changed_input = *changed;
  else
    set_outcome(e, std::unexpected(changed.error()), "reading the inputs again: ");
  return e.outcome == Outcome::kCompleted;
}

// A device that did it once and now refuses contradicts itself.
bool CaseRun::broke(const Status& status, const std::string& where) {
  if (status) return false;
  set_outcome(evidence_, status, where);
  if (evidence_.outcome == Outcome::kUnsupported || evidence_.outcome == Outcome::kRefused)
    evidence_.outcome = Outcome::kError;
  return true;
}

Status CaseRun::again(Device& device, OpRun& run, const Problem& problem, unsigned repetition) {
  const std::uint64_t before = device.fallbacks();
  buffer_.resize(problem.output_bytes);
  const CallResult result = run.call(repetition, buffer_);
  count_fallbacks(device, before);
  auto& others = evidence_.other_kernels;
  // A row alone is another shape and may have a kernel of its own.
  if (result.ran && &problem == &request_.problem && result.kernel != evidence_.kernel &&
      std::ranges::find(others, result.kernel) == others.end())
    others.push_back(result.kernel);
  return result.status;
}

// Odd repetitions use the buffers of the first run, filled with another poison; even ones have buffers of their own.
bool CaseRun::repeat(Device& device) {
  for (std::uint32_t i = 1; i <= request_.repeats; ++i) {
    OpRun fresh(device, request_.problem, inputs_, run_->weight());
    Status status = i % 2 == 0 ? fresh.prepare() : Status();
    if (status) status = again(device, i % 2 == 0 ? fresh : *run_, request_.problem, request_.repetition + i);
    if (broke(status, fmt::format("in repetition {}: ", i))) return false;
    ++evidence_.again.repeats;
    evidence_.again.repeats_equal += same_outputs(request_.problem, outputs_, buffer_, inputs_);
  }
  return true;
}

bool CaseRun::with_threads(Device& device, std::uint32_t threads) {
  OpRun run(device, request_.problem, inputs_);
  Status status = run.prepare();
  if (status) status = again(device, run, request_.problem, request_.repetition + threads);
  if (broke(status, fmt::format("with {} threads: ", threads))) return false;
  evidence_.again.threads.push_back(threads);
  if (same_outputs(request_.problem, outputs_, buffer_, inputs_)) evidence_.again.threads_equal.push_back(threads);
  return true;
}

bool CaseRun::rows(Device& device) {
  const std::int64_t count = row_count(request_.problem);
  std::int64_t last = -1;
  for (const std::int64_t row : {std::int64_t{0}, count / 2, count - 1}) {
    const std::optional<Problem> alone = row == last ? std::nullopt : row_problem(request_.problem, row);
    last = row;
    if (!alone) continue;
    OpRun run(device, *alone, inputs_, run_->weight());
    Status status = run.prepare();
    if (status) status = again(device, run, *alone, request_.repetition + 1);
    if (!status && status.error().code == "device.unsupported") continue;  // the device need not have this shape
    if (broke(status, fmt::format("row {} alone: ", row))) return false;
    ++evidence_.again.rows;
    evidence_.again.rows_equal += same_row(request_.problem, outputs_, *alone, buffer_, row);
  }
  return true;
}

class OpServer {
 public:
  OpServer(Backends backends, Device device, int input_fd, int output_fd)
      : backends_(std::move(backends)), device_(std::move(device)), input_fd_(input_fd), output_fd_(output_fd) {}

  std::string answer(const std::string& line);
  OrderedJson ready() const {
    return {{"ready", true}, {"device", device_json(device_.facts())}, {"threads", device_.threads()}};
  }

 private:
  Result<OrderedJson> serve(const std::string& line);
  OrderedJson supports(const Problem& problem);
  Result<OrderedJson> run(const Request& request);
  Result<Device*> with_threads(std::uint32_t threads);

  Backends backends_;
  Device device_;
  std::map<std::uint32_t, Device>
      others_;  // the same device opened with other thread counts, for as long as this process lives
  int input_fd_, output_fd_;
};

Result<Device*> OpServer::with_threads(std::uint32_t threads) {
  if (threads == device_.threads()) return &device_;
  const auto found = others_.find(threads);
  if (found != others_.end()) return &found->second;
  CONCORD_TRY(Device device, backends_.open(device_.facts().id, threads));
  return &others_.emplace(threads, std::move(device)).first->second;
}

OrderedJson OpServer::supports(const Problem& problem) {
  Evidence e;
  set_outcome(e, device_.supports(problem.call));
  return {{"evidence", to_json(e)}};
}

Result<OrderedJson> OpServer::run(const Request& request) {
  CONCORD_TRY(const MemoryView inputs, MemoryView::map(input_fd_, request.problem.input_bytes, false));
  CONCORD_TRY(const MemoryView outputs, MemoryView::map(output_fd_, request.problem.output_bytes, true));
  CaseRun run(request, inputs.bytes(), outputs.writable());
  bool going = run.first(device_) && run.repeat(device_);
  for (std::size_t i = 0; going && i < request.threads.size(); ++i) {
    const Result<Device*> device = with_threads(request.threads[i]);
    if (device)
      going = run.with_threads(**device, request.threads[i]);
    else
      set_outcome(run.evidence(), std::unexpected(device.error()),
                  fmt::format("with {} threads: ", request.threads[i])),
          going = false;
  }
  if (going && request.rows) run.rows(device_);
  return OrderedJson{{"evidence", to_json(run.evidence())}};
}

Result<OrderedJson> OpServer::serve(const std::string& line) {
  CONCORD_TRY(const Json json, parse_json(line, "request", "worker"));
  CONCORD_TRY(const JsonFields f, JsonFields::from(json, "request", "worker"));
  CONCORD_TRY(const std::string op, f.string("op"));
  if (op == "supports") {
    CONCORD_TRY(const Problem problem, problem_of(f));
    return supports(problem);
  }
  if (op != "run") return f.error("unknown_request", "expected \"supports\" or \"run\"");
  CONCORD_TRY(const Request request, request_of(f));
  return run(request);
}

std::string OpServer::answer(const std::string& line) {
  try {
    const Result<OrderedJson> reply = serve(line);
    return line_of(reply ? *reply : error_json(reply.error()));
  } catch (const std::bad_alloc&) {
    Evidence e;
    e.outcome = Outcome::kOom, e.message = "the worker could not allocate memory";
    return line_of({{"evidence", to_json(e)}});
  }
}

}  // namespace

int serve_op_worker(const OpWorkerKey& key, int in, int out, int input_fd, int output_fd) {
  die_with_parent();
  Backends backends = Backends::discover();
  Result<Device> device = backends.open(key.device, key.threads);
  if (!device) {
    write_line(out, line_of(error_json(device.error())));
    return exit_codes::kOk;
  }
  OpServer server(std::move(backends), std::move(*device), input_fd, output_fd);
  if (write_line(out, line_of(server.ready())))
    serve_lines(in, out, [&](const std::string& line) { return server.answer(line); });
  return exit_codes::kOk;
}

}  // namespace concord::conformance
