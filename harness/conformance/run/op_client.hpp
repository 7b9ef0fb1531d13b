// The parent's side of an operator worker: asks, watches the time, and turns whatever becomes of the process into
// evidence. Starts it again after a crash.
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/child_process.hpp"
#include "base/memory_file.hpp"
#include "conformance/run/evidence.hpp"

namespace concord::conformance {

struct OpWorkerSettings {
  std::string program, device, backend_path;
  unsigned threads = 0;
  std::chrono::milliseconds timeout{60'000};
};
// What is asked of the worker besides the case.
struct RunAsk {
  std::uint32_t repetition = 0, repeats = 0;
  std::vector<std::uint32_t> threads;
  bool rows = false;
};

class OpClient {
 public:
  // The files and the flag outlive the client.
  OpClient(OpWorkerSettings settings, const MemoryFile& inputs, const MemoryFile& outputs,
           const std::atomic<bool>& stop)
      : settings_(std::move(settings)), inputs_(inputs), outputs_(outputs), stop_(stop) {}

  // kCompleted: the device says that it can. Errors of all members: session.interrupted only; everything else is
  // evidence.
  Result<Evidence> supports(const std::string& id);
  // The outputs are in the memory file afterwards. Findings, digest and math mode are the judge's to add.
  Result<Evidence> run(const Problem& problem, const RunAsk& ask);

  const std::string& device() const { return settings_.device; }
  const Json& facts() const {
    return facts_;
  }  // device_json of the device that the worker opened; null before the first start
  MathMode mode() const;

 private:
  Result<Evidence> ask(const std::string& id, const Json& request);
  Result<std::optional<Evidence>> start();  // evidence: why there is no worker
  Result<Json> receive(Evidence& failure);  // null: see failure
  Evidence ended();

  OpWorkerSettings settings_;
  const MemoryFile &inputs_, &outputs_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<ChildProcess> process_;
  Json facts_;
  std::string last_case_;       // the last one that this process answered for
  unsigned failed_starts_ = 0;  // in a row
};

}  // namespace concord::conformance
