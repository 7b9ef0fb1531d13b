// A model on one device in this process: loading, prefill, decode, capturing and verifying, each with the peaks
// measured around it.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "bench/blocks.hpp"
#include "bench/cost.hpp"
#include "bench/growth.hpp"
#include "bench/memory.hpp"
#include "bench/peaks.hpp"
#include "bench/shaped_model.hpp"
#include "device/device.hpp"
#include "model/device_weights.hpp"

namespace concord::bench {

struct ModelBenchOptions {
  std::string model, model_name, device = "cpu", precision = "f32";
  std::shared_ptr<const ShapedModel> shaped;         // instead of the file `model`
  unsigned threads = 0;                              // 0: all
  std::int64_t prefill = 512, decode = 64;           // tokens; 0: not measured
  std::int64_t context = 0;                          // tokens in the cache before the first decoded one
  std::int64_t chunk = 0;                            // most tokens in one prefill step; 0: all at once
  std::int64_t batch = 1;                            // sequences side by side; 1: not measured
  std::string capture = "none";                      // none, every8, every
  std::int64_t verify_prompt = 128, verify_new = 0;  // verify_new 0: not measured
  int repetitions = 7, loads = 1;
  bool growth = false;
  std::uint64_t seed = 1;
};

// One measured block with the work it does by the formulas of docs/performance.md.
struct Block {
  std::string name;                                         // "prefill", "decode", "capture", "verify"
  std::string title;                                        // for people: "prefill 512"
  double tokens = 0;                                        // per repetition
  double matmul_flops = 0, attention_flops = 0, bytes = 0;  // per repetition; 0: not stated
  std::vector<Sample> samples;
  Peaks before, after;
  double others = 0;  // share of all processors that other programs used during the repetitions
  Peaks peaks() const { return larger(before, after); }
};

struct ModelBenchReport {
  ModelBenchOptions options;
  std::string precision;  // canonical
  DeviceFacts device;
  unsigned threads = 0;
  double parameters = 0;
  std::int64_t vocab = 0;
  ModelCost cost;
  std::string weights_digest;
  std::uint64_t weight_bytes = 0, buffer_bytes = 0;
  double open_seconds = 0;    // the device
  std::vector<Sample> loads;  // extra "first_state": from the start of loading to the first hidden state of layer 1
  Memory memory;              // after one prefill and one decode, before anything else of this program needs memory
  std::optional<DeviceMemory> device_memory;  // at the same time; where the device counts it
  DeviceWeightCheck device_weights;
  std::vector<Block> blocks;
  std::optional<Growth> growth;    // expected: operations with attention
  double growth_matmul_slope = 0;  // of the operations without attention
  std::string verification;        // "1000 of 1000 tokens are the verifier's own choice"
  std::vector<float> final_state;  // of the prefill's last token
};

// Errors: those of the device, the checkpoint and the model; bench.too_long when the tokens do not fit the model's
// positions; bench.not_finite and bench.unstable_output (kConformance) when the final hidden states are not finite or
// differ between the first and the last repetition.
Result<ModelBenchReport> bench_model(const ModelBenchOptions& options, const std::atomic<bool>& stop);

std::vector<std::int32_t> random_tokens(std::uint64_t seed, std::int64_t count, std::int64_t vocab);

std::string render(const ModelBenchReport& report);
OrderedJson to_json(const ModelBenchReport& report);
// The prefill's token ids and the final-norm state of the last one (concord.bench.states/1), for a comparison with
// another program that runs the same weights.
OrderedJson states_json(const ModelBenchReport& report);

}  // namespace concord::bench
