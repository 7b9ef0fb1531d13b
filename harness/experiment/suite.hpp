// An experiment as data: who proves, who verifies, what is expected. Schema "concord.experiment/1", see docs/experiments.md.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "experiment/plan.hpp"
#include "model/precision.hpp"

namespace concord {

struct VerifierSpec {
  unsigned threads = 0;    // 0: all
  std::int64_t chunk = 0;  // 0: one-shot prefill
};

struct ExperimentSpec {
  std::string file, id, title, class_name, source;
  bool cross = false;                   // pairs: "same" device, or "cross": every ordered pair of different devices
  RunPrecision prover, verifier;
  std::vector<VerifierSpec> verifiers;  // one comparison each, per trial
  bool expect_accept = true;
  std::string decide;                   // the profile whose verdict is held against the expectation
  std::vector<std::string> profiles;    // all that are computed; contains `decide`
  bool judge_tokens = false;            // the token check must agree with the expectation too
  double token_margin_max = 0;          // largest margin of an accepted token, in logits over temperature
  double token_share_min = 1;           // share of tokens that must be within it
  double seed_accept_rate_min = 0;      // verillm-experiments' PASS threshold for this experiment
  std::vector<std::string> prompts;     // prompt ids; empty: all of the workload
  CapturePlan plan;

  static Result<ExperimentSpec> load(const std::string& name_or_file);
};

// Where the program's data lives: $CONCORD_SUITES, else share/concord/suites beside the program, else the source tree it was built from.
std::string suites_folder();
// "exp1" -> <suites>/verification/exp1.json; a path is returned as it is.
std::string suite_path(const std::string& name_or_file);
// The default model: the embedded one. Next to the suites, in fixtures/models.
std::string embedded_model();
// The workload file under <suites>/workloads whose tokenizer fingerprint is the model's (greedy ones before sampled ones), or nothing.
std::optional<std::string> workload_for(const std::string& tokenizer_sha256);

}  // namespace concord
