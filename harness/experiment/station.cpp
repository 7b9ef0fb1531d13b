#include "experiment/station.hpp"

#include <algorithm>

namespace concord {

Result<Station::Done> Station::work(const WorkerKey& key, RunRequest& request,
                                    Result<RunOutcome> (Worker::*job)(const RunRequest&)) {
  const std::lock_guard lock(busy_);
  CONCORD_TRY(Worker * worker, workers_.get(key));
  request.source_digest = worker->ready().source_digest;
  CONCORD_TRY(RunOutcome outcome, (worker->*job)(request));
  return Done{std::move(outcome), worker->ready()};
}

Stations::Stations(const std::string& program, const std::vector<std::string>& pool, const std::atomic<bool>& stop,
                   const Worker::LoadingStep& loading)
    : pool_(pool) {
  for (std::size_t i = 0; i <= pool.size(); ++i) stations_.push_back(std::make_unique<Station>(program, stop, loading));
}

Station& Stations::of(const std::string& device) {
  return *stations_[static_cast<std::size_t>(std::ranges::find(pool_, device) - pool_.begin())];
}

}  // namespace concord
