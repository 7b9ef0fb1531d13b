// Choosing the next token, and judging a choice somebody else made. Runs on the host in float64, so that it is the same on every backend.
//
// Greedy: the largest logit, the lowest id among equals. Sampling: keep the top_k largest logits, of these the smallest set with at least top_p of the
// probability at the given temperature, then take the largest of logit * (1 / temperature) + g, where g = -log(-log(u)) is Gumbel noise and u is
// uniform_open(seed, position, id): the Gumbel-max form of drawing from softmax (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030). The noise depends
// on seed, position and token id alone, so a verifier can draw the same one (the idea of Token-DiFR, arXiv 2511.20621).
#pragma once
#include <cstdint>
#include <span>

#include "base/error.hpp"
#include "model/workload.hpp"

namespace concord {

// How an emitted token stands against the best one under the declared sampler.
struct TokenMargin {
  std::int32_t best = 0;
  double margin = 0;       // score(best) - score(emitted) >= 0; infinity when the emitted token was not eligible (outside top_k / top_p)
  std::int64_t rank = 0;   // number of tokens with a larger score (all ids for an ineligible token)
};

// `position` is the index in the sequence of the token being chosen. Error sampler.not_finite when a logit is NaN or all are -infinity.
Result<std::int32_t> choose_token(const SamplerSpec& sampler, std::span<const float> logits, std::int64_t position);
Result<TokenMargin> token_margin(const SamplerSpec& sampler, std::span<const float> logits, std::int64_t position, std::int32_t emitted);

}  // namespace concord
