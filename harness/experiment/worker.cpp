#include "experiment/worker.hpp"

#include <fmt/format.h>

#include <chrono>

namespace concord {
namespace {

constexpr std::size_t kMaxReply = 256u << 20;     // a reply larger than this is a defect, not data [bytes]
constexpr std::chrono::minutes kWatchdog{60};     // a job silent for this long is hung

Result<std::unique_ptr<ChildProcess>> spawn(const std::string& program, const WorkerKey& key) {
  auto process = ChildProcess::start({program, "worker", "--device", key.device, "--threads", std::to_string(key.threads), "--model", key.model,
                                      "--precision", key.precision});
  if (!process) process.error().code = process.error().code == "process.pipe" ? "worker.pipe" : "worker.spawn";
  return process;
}

Error error_of(const Json& j) {
  Error e{.kind = static_cast<ErrorKind>(j.value("kind", static_cast<int>(ErrorKind::kInternal))),
          .code = j.value("code", "worker.error"),
          .message = j.value("message", ""),
          .file = j.value("file", ""),
          .offset = {}};
  if (j.contains("offset")) e.offset = j["offset"].get<std::uint64_t>();
  return e;
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::start(const std::string& program, const WorkerKey& key, const std::atomic<bool>& stop,
                                              const LoadingStep& loading) {
  std::unique_ptr<Worker> worker(new Worker(key, stop));
  CONCORD_TRY(worker->process_, spawn(program, key));
  CONCORD_TRY(Json reply, worker->receive());
  while (reply.contains("loading")) {
    if (loading) loading(reply.value("loading", std::uint64_t{0}), reply.value("of", std::uint64_t{0}));
    CONCORD_TRY(reply, worker->receive());
  }
  CONCORD_TRY(const JsonFields f, JsonFields::from(reply, "reply", "worker"));
  WorkerReady& ready = worker->ready_;
  CONCORD_TRY(ready.weights_digest, f.string("weights_digest"));
  CONCORD_TRY(ready.source_digest, f.string("source_digest"));
  CONCORD_TRY(ready.load_seconds, f.number("load_seconds"));
  CONCORD_TRY(const std::int64_t bytes, f.integer("weight_bytes", 0));
  ready.weight_bytes = static_cast<std::uint64_t>(bytes);
  ready.device = f.raw("device");
  ready.device_weights = f.raw("device_weights");
  return worker;
}

Error Worker::crashed() {
  const std::string how = alive() ? process_->end().to_string() : "ended";
  return {.kind = ErrorKind::kInternal, .code = "worker.crashed",
          .message = fmt::format("the worker for {} ({}) {}", key_.device, key_.precision, how), .file = {}, .offset = {}};
}

// Waits for one line.
Result<Json> Worker::receive() {
  using Received = ChildProcess::Received;
  std::string line;
  switch (process_->receive(line, std::chrono::steady_clock::now() + kWatchdog, stop_, kMaxReply)) {
    case Received::kStopped:
      process_->kill();
      return fail(ErrorKind::kInterrupted, "run.interrupted", "interrupted while a worker was busy");
    case Received::kTimeout:
    case Received::kTooLong:
      process_->kill();
      return fail(ErrorKind::kInternal, "worker.timeout", fmt::format("the worker for {} gave no reply in time", key_.device));
    case Received::kEnded:
      return std::unexpected(crashed());
    case Received::kLine:
      break;
  }
  CONCORD_TRY(Json reply, parse_json(line, "reply", "worker"));
  if (reply.contains("error")) return std::unexpected(error_of(reply["error"]));
  return reply;
}

Result<RunOutcome> Worker::call(const std::string& op, const RunRequest& request) {
  if (!alive()) return std::unexpected(crashed());
  if (!process_->send(to_json(op, request).dump() + "\n")) return std::unexpected(crashed());
  CONCORD_TRY(const Json reply, receive());
  return outcome_from_json(reply.at("outcome"));
}

Result<Worker*> WorkerPool::get(const WorkerKey& key) {
  for (auto it = workers_.begin(); it != workers_.end(); ++it) {
    if ((*it)->key() != key || !(*it)->alive()) continue;
    workers_.splice(workers_.begin(), workers_, it);
    return workers_.front().get();
  }
  std::erase_if(workers_, [](const auto& w) { return !w->alive(); });
  while (workers_.size() >= limit_) workers_.pop_back();
  CONCORD_TRY(auto worker, Worker::start(program_, key, stop_, loading_));
  workers_.push_front(std::move(worker));
  return workers_.front().get();
}

}  // namespace concord
