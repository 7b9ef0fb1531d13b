// Runs experiments: every pair of devices, every prompt, one prover and several verifiers, and a record for each comparison.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compare/compare.hpp"
#include "experiment/record.hpp"
#include "experiment/suite.hpp"
#include "experiment/worker.hpp"

namespace concord {

struct RunSettings {
  std::string program;                   // path of concord, for the workers
  std::string model;                     // path
  std::string model_name;
  std::vector<Workload> workloads;       // bound to the model
  std::vector<std::string> devices;      // resolved ids
  std::vector<std::string> pool;         // two or more interchangeable devices that stand behind the one of `devices` that is the first of them; or empty
  std::string folder;                    // results: records.jsonl, captures/
  std::int64_t trials = 1;               // per prompt; sampled workloads get a new sampler seed per trial
  std::string layers, positions;         // override the suites' plans when not empty
  bool keep_captures = false;
  std::uint64_t seed = 1;                // nonces and per-trial sampler seeds come from it
};

// One comparison that is to be made.
struct PlannedCase {
  const ExperimentSpec* experiment = nullptr;
  std::string prover, verifier;          // device ids; a pool's first one for all of it
  std::string prover_on, verifier_on;    // the devices that do it
  std::size_t track = 0;                 // cases of one track run one after the other, tracks beside each other: one for each member of a pool, one for the rest
  const Workload* workload = nullptr;
  std::int64_t trial = 0;
  std::size_t verifier_index = 0;
  std::string id;                        // "exp1/cpu:avx2>cpu:avx2/short/t0/v1"
};

// Every case that a run must execute, in the order it is executed in. Empty when no pair of devices fits (a cross experiment on one device).
std::vector<PlannedCase> plan_cases(const std::vector<ExperimentSpec>& experiments, const RunSettings& settings);

struct RunProgress {
  std::function<void(const PlannedCase& next, std::size_t done, std::size_t total)> before;
  std::function<void(const Record& record)> after;
  Worker::LoadingStep loading;  // a worker's model
};

// Executes the cases that `done` does not hold yet and appends a record of each to <folder>/records.jsonl as soon as it is judged: in the order of the plan
// within a track. An error of one case (a crash, an unsupported precision) is a record, not the end. Returns all records in the order of the plan, those of
// `done` included. Calls `progress` from several threads, one at a time. Errors: run.interrupted (everything finished is in the journal), file.*.
Result<std::vector<Record>> execute(const std::vector<PlannedCase>& cases, const std::vector<Record>& done, const RunSettings& settings,
                                    const RunProgress& progress, const std::atomic<bool>& stop);

// The token check of one verifier run.
TokenResult judge_tokens(const std::vector<TokenMargin>& margins, const std::vector<std::int32_t>& tokens, double margin_max, double share_min);

}  // namespace concord
