// Several sequences side by side: what one step costs when its weights serve them all.
#include <fmt/format.h>

#include "bench/model_session.hpp"
#include "experiment/lanes.hpp"

namespace concord::bench {
namespace {

std::vector<std::vector<std::int32_t>> prompts_of(const Session& s, std::int64_t tokens) {
  std::vector<std::vector<std::int32_t>> out;
  for (std::int64_t i = 0; i < s.options->batch; ++i)
    out.push_back(random_tokens(s.options->seed + static_cast<std::uint64_t>(i), tokens, s.spec().vocab));
  return out;
}

}  // namespace

Result<Block> batch_prefill_block(Session& s) {
  const std::int64_t batch = s.options->batch, n = std::max<std::int64_t>(1, s.options->prefill / batch), step = s.step_of(n);
  const auto sequences = static_cast<double>(batch), all = static_cast<double>(batch * n);
  Block b{.name = "batch_prefill",
          .title = fmt::format("prefill {} x {}", batch, n),
          .tokens = all,
          .matmul_flops = s.cost.matmul_flops(all, sequences),
          .attention_flops = sequences * s.cost.attention_flops(0, n),
          .bytes = 0,
          .samples = {},
          .before = {},
          .after = {}};
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, n, batch * step, batch));
  CONCORD_CHECK(run_checked(s, b, [&](FinalStates& states) -> Result<double> {
    states = {};
    const HiddenSink sink = states.sink(s);
    Lanes lanes(decoder, s.spec().vocab, prompts_of(s, n));
    const Stopwatch watch;
    CONCORD_CHECK(lanes.prefill(step, &sink, *s.stop));
    return watch.seconds();
  }));
  return b;
}

Result<Block> batch_decode_block(Session& s) {
  const std::int64_t batch = s.options->batch, n = s.options->decode;
  const auto sequences = static_cast<double>(batch), all = static_cast<double>(batch * n);
  const double weights = static_cast<double>(s.cost.block_bytes + s.cost.head_bytes) * static_cast<double>(n);
  Block b{.name = "batch_decode",
          .title = fmt::format("decode {} x {}", batch, n),
          .tokens = all,
          .matmul_flops = s.cost.matmul_flops(all, all),
          .attention_flops = sequences * s.cost.attention_flops(1, n),
          .bytes = weights + sequences * (s.cost.decode_bytes(1, n) - weights),
          .samples = {},
          .before = {},
          .after = {}};
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, n + 1, batch, batch));
  CONCORD_CHECK(run_checked(s, b, [&](FinalStates& states) -> Result<double> {
    states = {};
    const HiddenSink sink = states.sink(s);
    Lanes lanes(decoder, s.spec().vocab, prompts_of(s, 1));
    CONCORD_CHECK(lanes.prefill(1, nullptr, *s.stop));
    const Stopwatch watch;
    for (std::int64_t i = 0; i < n; ++i) {
      float logit = 0;
      CONCORD_TRY(const std::int32_t token, lanes.choose({}, logit));
      states.tokens.push_back(token);
      CONCORD_CHECK(lanes.step(&sink));
    }
    return watch.seconds();
  }));
  return b;
}

}  // namespace concord::bench
