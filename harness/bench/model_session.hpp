// What the blocks of one model benchmark share: the device, the model, one decoder. Internal to this floor.
#pragma once
#include <functional>
#include <memory>

#include "bench/model_bench.hpp"
#include "bench/stopwatch.hpp"
#include "model/decoder.hpp"

namespace concord::bench {

// Declared in order of lifetime: the decoder and the model must go before the device.
struct Session {
  const ModelBenchOptions* options = nullptr;
  const std::atomic<bool>* stop = nullptr;
  RunPrecision precision;
  std::unique_ptr<Device> device;
  std::unique_ptr<LoadedModel> model;
  std::unique_ptr<Decoder> decoder;
  ModelCost cost;
  std::optional<Arithmetic> arithmetic;
  std::vector<float> final_state;  // of the last prefill's last token

  const ModelSpec& spec() const { return model->spec(); }
  std::int64_t step_of(std::int64_t count) const {  // tokens in one step of a prefill
    return options->chunk > 0 ? std::min(options->chunk, count) : count;
  }
};

// The final-norm states of one timed run, kept so that the first run can be held against the last.
struct FinalStates {
  std::vector<std::byte> bytes;
  std::vector<std::int32_t> tokens;  // decoded ones
  HiddenSink sink(const Session& session);
  bool operator==(const FinalStates&) const = default;
};
// Refuses states that are not finite (bench.not_finite) or that differ between the first and the last repetition
// (bench.unstable_output): a time is reported only for work that came out as it should. `what` names the work.
Status check_states(const std::string& what, DType dtype, const FinalStates& first, const FinalStates& last);

// One timed run of `count` random tokens in steps of options.chunk, then the logits of the last one; seconds.
Result<double> prefill_once(Session& session, std::int64_t count, FinalStates& states);
// One timed greedy generation of options.decode tokens behind options.context ones (whose prefill is not timed);
// seconds.
Result<double> decode_once(Session& session, FinalStates& states);

// Repeats `run` between two measurements of the peaks; the states of the first repetition must be finite and equal those of the last.
Status run_checked(Session& session, Block& block, const std::function<Result<double>(FinalStates&)>& run);

Result<Block> prefill_block(Session& session);
Result<Block> batch_prefill_block(Session& session);
Result<Block> batch_decode_block(Session& session);
Result<Block> decode_block(Session& session);
// The same states copied to host memory and left there, and written as a capture; each beside the prefill without.
Result<Block> copy_out_block(Session& session);
Result<Block> capture_block(Session& session);
struct Verified {
  Block block;
  std::string text;
};
Result<Verified> verify_block(Session& session);
Result<Growth> prefill_growth(Session& session);

}  // namespace concord::bench
