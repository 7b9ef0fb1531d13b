#include "conformance/run/op_client.hpp"

#include <fmt/format.h>

#include <csignal>
#include <cstring>

namespace concord::conformance {
namespace {

constexpr std::size_t kMaxReply = 64u << 20;  // [bytes]
constexpr unsigned kMaxFailedStarts =
    3;  // after that the device is given up: each attempt may take as long as the watchdog

Evidence failed(Outcome outcome, std::string message) {
  Evidence e;
  e.outcome = outcome, e.message = std::move(message);
  return e;
}

// "signal SIGSEGV (Segmentation fault)"
std::string signal_words(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return fmt::format("signal {}{} ({})", name ? "SIG" : "", name ? name : std::to_string(signal), ::strsignal(signal));
}

Evidence evidence_of(const ProcessEnd& end) {
  if (end.killed_by_us)
    return failed(Outcome::kCrash, "the worker closed its output without an answer and had to be killed");
  if (end.signal == SIGKILL)
    return failed(
        Outcome::kOom,
        "the worker was ended by SIGKILL, which this program did not send: by inference, the system ran out of memory");
  if (end.signal > 0) return failed(Outcome::kCrash, "the worker was ended by " + signal_words(end.signal));
  return failed(Outcome::kCrash, fmt::format("the worker exited with code {} in the middle of a case", end.exit_code));
}

}  // namespace

MathMode OpClient::mode() const {
  return MathMode::from_features(facts_.is_object() ? facts_.value("features", "") : "");
}

Evidence OpClient::ended() {
  Evidence e = evidence_of(process_->end());
  if (!last_case_.empty()) e.message += fmt::format("; the last case that it finished was {}", last_case_);
  process_.reset();
  return e;
}

// One reply within the time, or null and the failure that explains it.
Result<Json> OpClient::receive(Evidence& failure) {
  using Received = ChildProcess::Received;
  std::string line;
  const Received received =
      process_->receive(line, std::chrono::steady_clock::now() + settings_.timeout, stop_, kMaxReply);
  if (received == Received::kEnded) return failure = ended(), Json();
  if (received == Received::kLine) {
    Result<Json> reply = parse_json(line, "reply", "worker");
    const bool whole = reply && reply->is_object();
    if (whole && !reply->contains("error")) return reply;
    if (whole && (*reply)["error"].is_object()) {
      const Json& error = (*reply)["error"];
      return failure = failed(Outcome::kError,
                              fmt::format("{}: {}", error.value("code", "worker.error"), error.value("message", ""))),
             Json();
    }
  }
  process_->kill();
  process_.reset();
  switch (received) {
    case Received::kStopped:
      return fail(ErrorKind::kInterrupted, "session.interrupted", "interrupted while a worker was busy");
    case Received::kTimeout:
      failure = failed(Outcome::kTimeout,
                       fmt::format("no answer within {} s; the worker was killed", settings_.timeout.count() / 1e3));
      break;
    default:
      failure = failed(Outcome::kError, "the worker's answer could not be read; it was killed");
  }
  return Json();
}

Result<std::optional<Evidence>> OpClient::start() {
  if (process_) return std::optional<Evidence>();
  if (failed_starts_ >= kMaxFailedStarts)
    return failed(
        Outcome::kError,
        fmt::format("the worker could not be started {} times in a row; the device was given up", failed_starts_));
  ++failed_starts_;
  last_case_.clear();
  const int descriptors[] = {inputs_.read_only_fd(), outputs_.fd()};
  std::vector<std::string> environment;
  if (!settings_.backend_path.empty()) environment.push_back("CONCORD_BACKEND_PATH=" + settings_.backend_path);
  auto process = ChildProcess::start(
      {settings_.program, "op-worker", "--device", settings_.device, "--threads", std::to_string(settings_.threads),
       "--input-fd", std::to_string(descriptors[0]), "--output-fd", std::to_string(descriptors[1])},
      descriptors, environment);
  if (!process) return failed(Outcome::kError, process.error().to_string());
  process_ = std::move(*process);
  Evidence failure;
  CONCORD_TRY(const Json ready, receive(failure));
  if (ready.is_null()) {
    process_.reset();
    failure.message = "while the worker started: " + failure.message;
    return failure;
  }
  facts_ = ready.value("device", Json());
  if (!facts_.is_object() || facts_.value("id", "") != settings_.device) {
    process_.reset();
    return failed(Outcome::kError, fmt::format("the worker opened another device than {}", settings_.device));
  }
  failed_starts_ = 0;
  return std::optional<Evidence>();
}

Result<Evidence> OpClient::ask(const std::string& id, const Json& request) {
  CONCORD_TRY(const std::optional<Evidence> not_started, start());
  if (not_started) return *not_started;
  if (!process_->send(request.dump() + "\n")) return ended();
  Evidence failure;
  CONCORD_TRY(const Json reply, receive(failure));
  if (reply.is_null()) return failure;
  const auto fields = JsonFields::from(reply, "reply", "worker");
  const auto object = fields ? fields->object("evidence") : fields;
  Result<Evidence> evidence = object ? evidence_from_json(*object) : std::unexpected(object.error());
  if (!evidence) {
    process_.reset();
    return failed(Outcome::kError, "the worker's answer could not be read: " + evidence.error().to_string());
  }
  last_case_ = id;
  return evidence;
}

Result<Evidence> OpClient::supports(const std::string& id) { return ask(id, {{"op", "supports"}, {"case", id}}); }

Result<Evidence> OpClient::run(const Problem& problem, const RunAsk& a) {
  const std::string id = problem.spec.id();
  return ask(id, {{"op", "run"},
                  {"case", id},
                  {"input_bytes", problem.input_bytes},
                  {"output_bytes", problem.output_bytes},
                  {"repetition", a.repetition},
                  {"repeats", a.repeats},
                  {"threads", a.threads},
                  {"rows", a.rows}});
}

}  // namespace concord::conformance
