#include "experiment/lanes.hpp"

#include <algorithm>

namespace concord {

Lanes::Lanes(Decoder& decoder, std::int64_t vocab, std::vector<std::vector<std::int32_t>> prompts)
    : decoder_(decoder), vocab_(static_cast<std::size_t>(vocab)), tokens_(std::move(prompts)), logits_(tokens_.size() * vocab_) {
  steps_.reserve(tokens_.size());
}

std::int64_t Lanes::widest(const std::vector<std::vector<std::int32_t>>& prompts, std::int64_t step) {
  std::int64_t rows = 0;
  for (const auto& p : prompts) rows += std::min(step, static_cast<std::int64_t>(p.size()));
  return rows;
}

Status Lanes::prefill(std::int64_t step, const HiddenSink* sink, const std::atomic<bool>& stop) {
  std::int64_t longest = 0;
  for (const auto& t : tokens_) longest = std::max(longest, static_cast<std::int64_t>(t.size()));
  for (std::int64_t first = 0; first < longest; first += step) {
    if (stop) return fail(ErrorKind::kInterrupted, "run.interrupted", "interrupted during the prefill");
    steps_.clear();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const std::int64_t rows = std::min(step, static_cast<std::int64_t>(tokens_[i].size()) - first);
      if (rows <= 0) continue;
      const auto part = std::span(tokens_[i]).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
      steps_.push_back({part, first, static_cast<std::int64_t>(i), i == 0 ? sink : nullptr});
    }
    CONCORD_CHECK(decoder_.forward(steps_));
    std::int64_t row = 0;
    for (const DecoderStep& s : steps_) {
      row += static_cast<std::int64_t>(s.tokens.size());
      const auto lane = static_cast<std::size_t>(s.sequence);
      if (s.start + s.tokens.size() == tokens_[lane].size()) {
        CONCORD_CHECK(decoder_.logits(row - 1, 1, std::span(logits_).subspan(lane * vocab_, vocab_)));
      }
    }
  }
  return {};
}

Result<std::int32_t> Lanes::choose(const SamplerSpec& sampler, float& logit) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const auto row = std::span<const float>(logits_).subspan(i * vocab_, vocab_);
    CONCORD_TRY(const std::int32_t token, choose_token(sampler, row, static_cast<std::int64_t>(tokens_[i].size())));
    if (i == 0) logit = row[static_cast<std::size_t>(token)];
    tokens_[i].push_back(token);
  }
  return tokens_.front().back();
}

Status Lanes::step(const HiddenSink* sink) {
  steps_.clear();
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    steps_.push_back({std::span(tokens_[i]).last(1), static_cast<std::int64_t>(tokens_[i].size()) - 1, static_cast<std::int64_t>(i),
                      i == 0 ? sink : nullptr});
  CONCORD_CHECK(decoder_.forward(steps_));
  return decoder_.logits(0, static_cast<std::int64_t>(tokens_.size()), logits_);
}

}  // namespace concord
