// Workers: one process holds one device with one model in one precision, and runs provers and verifiers on request. A crash or a hang costs one job.
// Devices of one plug-in may need different process-wide settings (an instruction-set limit), which is another reason for the separation.
//
// Protocol: one JSON object a line on the worker's standard input and output; see docs/workers.md.
#pragma once
#include <atomic>
#include <compare>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/child_process.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "experiment/runner.hpp"

namespace concord {

struct WorkerKey {
  std::string device;      // resolved id, "cpu:avx2"
  unsigned threads = 0;    // 0: all
  std::string model;       // path
  std::string precision;   // RunPrecision::name()
  auto operator<=>(const WorkerKey&) const = default;
};

// What a worker says when its model is loaded.
struct WorkerReady {
  std::string weights_digest, source_digest;
  double load_seconds = 0;
  std::uint64_t weight_bytes = 0;
  Json device;          // device_json()
  Json device_weights;  // to_json(DeviceWeightCheck)
};

// The parent's side. Killed by the destructor.
class Worker {
 public:
  // program: path of concord. Errors: the worker's own (missing device, bad model, unsupported precision), worker.crashed, worker.timeout.
  // `loading` is called with the tensors that are loaded and how many there are, now and then; it may be empty.
  using LoadingStep = std::function<void(std::uint64_t done, std::uint64_t total)>;
  static Result<std::unique_ptr<Worker>> start(const std::string& program, const WorkerKey& key, const std::atomic<bool>& stop,
                                               const LoadingStep& loading = {});
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const WorkerReady& ready() const { return ready_; }
  const WorkerKey& key() const { return key_; }
  bool alive() const { return process_ && process_->alive(); }
  Result<RunOutcome> prove(const RunRequest& request) { return call("prove", request); }
  Result<RunOutcome> verify(const RunRequest& request) { return call("verify", request); }

 private:
  Worker(WorkerKey key, const std::atomic<bool>& stop) : key_(std::move(key)), stop_(stop) {}
  Result<RunOutcome> call(const std::string& op, const RunRequest& request);
  Result<Json> receive();
  Error crashed();

  WorkerKey key_;
  const std::atomic<bool>& stop_;
  WorkerReady ready_;
  std::unique_ptr<ChildProcess> process_;
};

// Keeps the most recently used workers, so that a model is not loaded again for every trial, and not all of them, because each holds its weights.
class WorkerPool {
 public:
  WorkerPool(std::string program, std::size_t limit, const std::atomic<bool>& stop, Worker::LoadingStep loading)
      : program_(std::move(program)), limit_(limit), stop_(stop), loading_(std::move(loading)) {}
  Result<Worker*> get(const WorkerKey& key);

 private:
  std::string program_;
  std::size_t limit_;
  const std::atomic<bool>& stop_;
  Worker::LoadingStep loading_;
  std::list<std::unique_ptr<Worker>> workers_;  // most recent first
};

// The worker's side: serves requests from `in` until it is closed. Returns the exit code.
int serve_worker(const WorkerKey& key, int in, int out);

// Requests and outcomes as JSON (for the protocol and its tests).
Json to_json(const std::string& op, const RunRequest& request);
Result<RunRequest> request_from_json(const Json& json);
Json to_json(const RunOutcome& outcome);
Result<RunOutcome> outcome_from_json(const Json& json);

}  // namespace concord
