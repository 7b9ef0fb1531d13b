// What `run` and `capture` share: opening a model with its token table and finding the workloads that fit it.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "experiment/worker.hpp"
#include "model/spec.hpp"
#include "model/tokens.hpp"
#include "model/workload.hpp"

namespace concord::cli {

struct OpenedModel {
  std::string path, name;
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
  TokenTable tokens;
};
// An empty path means the embedded model.
Result<OpenedModel> open_model(const std::string& path);

// FILE, FILE:ID, or empty (the workload file whose tokenizer is the model's). Every workload is bound to the model.
Result<std::vector<Workload>> open_workloads(const std::string& argument, const OpenedModel& model);

// How far a worker has loaded its model, on a terminal; empty elsewhere.
Worker::LoadingStep loading_line(const std::string& model);

}  // namespace concord::cli
