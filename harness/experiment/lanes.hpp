// Several sequences generated side by side: the one that is captured, and companions that only keep it company in every step. What a token gets must not
// depend on them where a device says so; a real server's batch is what they stand for.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.hpp"
#include "model/sampler.hpp"

namespace concord {

class Lanes {
 public:
  // prompts: at least one; the first is the one whose states go to a sink. The decoder must have a sequence for each.
  Lanes(Decoder& decoder, std::int64_t vocab, std::vector<std::vector<std::int32_t>> prompts);

  // Most tokens that a step of prefill() has when each lane gives at most `step`.
  static std::int64_t widest(const std::vector<std::vector<std::int32_t>>& prompts, std::int64_t step);

  // Errors: run.interrupted when `stop` is set between steps, and the decoder's.
  Status prefill(std::int64_t step, const HiddenSink* sink, const std::atomic<bool>& stop);
  // Chooses a token for every lane; `logit` is the first lane's.
  Result<std::int32_t> choose(const SamplerSpec& sampler, float& logit);
  // Runs the tokens that were chosen last.
  Status step(const HiddenSink* sink);

  const std::vector<std::int32_t>& tokens() const { return tokens_.front(); }  // prompt and chosen tokens of the first lane

 private:
  Decoder& decoder_;
  std::size_t vocab_;
  std::vector<std::vector<std::int32_t>> tokens_;
  std::vector<float> logits_;  // [lanes, vocab], of each lane's last token
  std::vector<DecoderStep> steps_;
};

}  // namespace concord
