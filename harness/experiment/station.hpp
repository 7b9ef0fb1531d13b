// The workers of one physical device, or of all devices that are no part of a pool, and one job for them at a time:
// what runs on a device is not disturbed by another job on it, and a device outside a pool, such as the processor, is
// used by one unit at a time.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "experiment/worker.hpp"

namespace concord {

class Station {
 public:
  struct Done {
    RunOutcome outcome;
    WorkerReady ready;  // of the worker that did it
  };
  Station(const std::string& program, const std::atomic<bool>& stop, const Worker::LoadingStep& loading)
      : workers_(program, kWorkers, stop, loading) {}

  // Waits until the station is free, starts the worker where there is none, and fills in the request's source digest.
  // Errors: the worker's.
  Result<Done> prove(const WorkerKey& key, RunRequest& request) { return work(key, request, &Worker::prove); }
  Result<Done> verify(const WorkerKey& key, RunRequest& request) { return work(key, request, &Worker::verify); }

 private:
  static constexpr std::size_t kWorkers = 6;
  Result<Done> work(const WorkerKey& key, RunRequest& request, Result<RunOutcome> (Worker::*job)(const RunRequest&));
  std::mutex busy_;
  WorkerPool workers_;
};

// A station for each member of a pool, and one for all other devices.
class Stations {
 public:
  Stations(const std::string& program, const std::vector<std::string>& pool, const std::atomic<bool>& stop,
           const Worker::LoadingStep& loading);
  Station& of(const std::string& device);

 private:
  std::vector<std::string> pool_;
  std::vector<std::unique_ptr<Station>> stations_;  // as pool_, then the one for the others
};

}  // namespace concord
