// One prover or verifier run in this process: a workload on a loaded model, its hidden states into a capture file.
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "capture/capture.hpp"
#include "experiment/plan.hpp"
#include "model/decoder.hpp"
#include "model/sampler.hpp"
#include "model/workload.hpp"

namespace concord {

struct RunRequest {
  Workload workload;                     // bound to the model
  std::vector<std::int32_t> generated;   // verifier: the prover's new tokens; prover: empty
  std::vector<std::vector<std::int32_t>> companions;  // prover: prompts that are run beside this one, in the same steps; their states go nowhere
  CapturePlan plan;
  std::int64_t chunk = 0;                // most tokens in one prefill step; 0: the whole prompt at once
  std::string nonce;                     // hex
  std::filesystem::path out;
  std::string model_name;
  std::string source_digest;
};

struct RunOutcome {
  std::vector<std::int32_t> tokens;      // prompt and generated
  std::vector<TokenMargin> margins;      // verifier: one per generated token
  std::vector<float> logit_top;          // prover: the chosen token's logit, one per generated token
  std::string root;                      // Merkle root, hex
  double prefill_seconds = 0, decode_seconds = 0, logits_seconds = 0;  // wall clock; logits: the verifier's token check
  std::uint64_t buffer_bytes = 0;
  std::optional<std::uint64_t> device_memory_peak;  // most device memory since the worker opened the device [bytes]; where it is counted
};

// How far it is known that a device holds the weights it was given, for records and people.
OrderedJson to_json(const DeviceWeightCheck& check);

// Prefill, then decode one token at a time with the KV cache. Stops between tokens when `stop` is set (error run.interrupted, no file left).
Result<RunOutcome> run_prover(Device& device, const LoadedModel& model, const RunRequest& request, const std::atomic<bool>& stop);
// One teacher-forced prefill over prompt and generated tokens, the token check on its logits.
Result<RunOutcome> run_verifier(Device& device, const LoadedModel& model, const RunRequest& request, const std::atomic<bool>& stop);

}  // namespace concord
