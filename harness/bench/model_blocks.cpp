#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "bench/device_peaks.hpp"
#include "bench/load.hpp"
#include "bench/model_session.hpp"
#include "bench/synthetic.hpp"
#include "digest/digest.hpp"
#include "experiment/runner.hpp"

namespace concord::bench {
namespace {

std::size_t row_bytes(const Session& s) {
  return static_cast<std::size_t>(s.spec().hidden) * dtype_bits(s.precision.activations) / 8;
}

std::vector<float> last_row(const Session& s, const FinalStates& states) {
  const std::size_t row = row_bytes(s);
  std::vector<float> out(static_cast<std::size_t>(s.spec().hidden));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] =
        static_cast<float>(load_as_f64(s.precision.activations, states.bytes.data() + states.bytes.size() - row, i));
  return out;
}

}  // namespace

HiddenSink FinalStates::sink(const Session& session) {
  const std::int64_t last = session.spec().layers;
  const std::size_t row = row_bytes(session);
  return {.wants = [last](std::int64_t layer) { return layer == last; },
          .open = [this, row](std::int64_t, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
            const std::size_t at = bytes.size();
            bytes.resize(at + static_cast<std::size_t>(rows) * row);
            return HiddenBlock{first, rows, std::span(bytes).subspan(at)};
          },
          .submit = [](std::int64_t, const HiddenBlock&) -> Status { return {}; }};
}

namespace {

constexpr SamplerSpec kGreedy{};

// Feeds tokens at positions 0, 1, ... in steps the decoder can take; returns the number of rows of the last step.
Result<std::int64_t> feed(Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t step,
                          const HiddenSink* sink) {
  std::int64_t rows = 0;
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t first = 0; first < count; first += rows) {
    rows = std::min(step, count - first);
    CONCORD_CHECK(
        decoder.forward(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), first, sink));
  }
  return rows;
}

bool all_finite(std::span<const std::byte> bytes, DType dtype) {
  const std::size_t count = bytes.size() * 8 / dtype_bits(dtype);
  for (std::size_t i = 0; i < count; ++i)
    if (!std::isfinite(load_as_f64(dtype, bytes.data(), i))) return false;
  return true;
}

}  // namespace

Status check_states(const std::string& what, DType dtype, const FinalStates& first, const FinalStates& last) {
  if (!all_finite(first.bytes, dtype))
    return fail(ErrorKind::kConformance, "bench.not_finite",
                what + ": a final hidden state is not finite; no time is reported");
  if (first != last)
    return fail(ErrorKind::kConformance, "bench.unstable_output",
                what + ": the final hidden states of the first and the last repetition differ; no time is reported");
  return {};
}

Result<double> prefill_once(Session& s, std::int64_t count, FinalStates& states) {
  const std::vector<std::int32_t> tokens = random_tokens(s.options->seed, count, s.spec().vocab);
  states = {};
  states.bytes.reserve(row_bytes(s) * tokens.size());
  const HiddenSink sink = states.sink(s);
  const Stopwatch watch;
  CONCORD_TRY(const std::int64_t rows, feed(*s.decoder, tokens, s.step_of(count), &sink));
  CONCORD_CHECK(s.decoder->logits(rows - 1, 1));
  CONCORD_CHECK(s.device->synchronize());
  return watch.seconds();
}

Result<double> decode_once(Session& s, FinalStates& states) {
  const ModelBenchOptions& o = *s.options;
  std::vector<std::int32_t> context = random_tokens(o.seed, o.context + 1, s.spec().vocab);
  std::int32_t token = context.back();
  context.pop_back();
  states = {};
  states.bytes.reserve(row_bytes(s) * static_cast<std::size_t>(o.decode));
  const HiddenSink sink = states.sink(s);
  CONCORD_CHECK(feed(*s.decoder, context, s.step_of(std::max<std::int64_t>(1, o.context)), nullptr));
  CONCORD_CHECK(s.device->synchronize());
  const Stopwatch watch;
  std::vector<float> logits(static_cast<std::size_t>(s.spec().vocab));
  for (std::int64_t i = 0; i < o.decode; ++i) {
    CONCORD_CHECK(s.decoder->forward({&token, 1}, o.context + i, &sink));
    CONCORD_CHECK(s.decoder->logits(0, 1, logits));
    CONCORD_TRY(token, choose_token(kGreedy, logits, o.context + i + 1));
    states.tokens.push_back(token);
  }
  CONCORD_CHECK(s.device->synchronize());
  const double seconds = watch.seconds();
  return seconds;
}

namespace {

Result<Peaks> peaks_of(Session& s) {
  if (has_own_memory(s.device->facts())) return measure_device_peaks(*s.device, s.precision.activations);
  return measure_peaks(s.arithmetic, s.device->threads());
}

Status run_between_peaks(Session& s, Block& block, const std::function<Result<Sample>(int)>& once) {
  CONCORD_TRY(block.before, peaks_of(s));
  const OtherLoad load;
  CONCORD_TRY(block.samples, run_block(block.name, s.options->repetitions, *s.stop, once));
  block.others = load.share();
  CONCORD_TRY(block.after, peaks_of(s));
  return {};
}

}  // namespace

Status run_checked(Session& s, Block& block, const std::function<Result<double>(FinalStates&)>& run) {
  FinalStates first, last;
  const auto once = [&](int) -> Result<Sample> {
    CONCORD_TRY(const double seconds, run(last));
    if (first.bytes.empty()) first = last;
    return Sample{.seconds = seconds, .extra = {}};
  };
  CONCORD_CHECK(run_between_peaks(s, block, once));
  const std::string what = fmt::format("{} on {} in {}", block.title, s.device->facts().id, s.precision.name());
  return check_states(what, s.precision.activations, first, last);
}

namespace {

Workload workload_of(const Session& s, std::int64_t prompt, std::int64_t new_tokens) {
  Workload w;
  w.file = "(generated)", w.id = "bench";
  w.tokens = random_tokens(s.options->seed, prompt, s.spec().vocab);
  w.new_tokens = new_tokens;
  return w;
}

RunRequest request_of(const Session& s, Workload workload, CapturePlan plan, const std::filesystem::path& out) {
  return {.workload = std::move(workload),
          .generated = {},
          .plan = std::move(plan),
          .chunk = s.options->chunk,
          .nonce = sha256_hex("concord.bench/1"),
          .out = out,
          .model_name = s.options->model_name,
          .source_digest = sha256_hex("concord.bench/1")};
}

// The same work as a verifier's run, without a capture: a decoder of its own, the prefill, the logits of the last row.
Result<double> plain_run(Session& s, std::span<const std::int32_t> tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const Stopwatch watch;
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, count, s.step_of(count)));
  CONCORD_TRY(const std::int64_t rows, feed(decoder, tokens, s.step_of(count), nullptr));
  CONCORD_CHECK(decoder.logits(rows - 1, 1));
  CONCORD_CHECK(s.device->synchronize());
  return watch.seconds();
}

}  // namespace

Result<Block> prefill_block(Session& s) {
  const std::int64_t n = s.options->prefill;
  Block b{.name = "prefill",
          .title = fmt::format("prefill {}", n),
          .tokens = static_cast<double>(n),
          .matmul_flops = s.cost.matmul_flops(static_cast<double>(n), 1),
          .attention_flops = s.cost.attention_flops(0, n),
          .bytes = s.cost.prefill_bytes(n, s.step_of(n)),
          .samples = {},
          .before = {},
          .after = {}};
  CONCORD_CHECK(run_checked(s, b, [&](FinalStates& states) -> Result<double> {
    CONCORD_TRY(const double seconds, prefill_once(s, n, states));
    s.final_state = last_row(s, states);
    return seconds;
  }));
  return b;
}

Result<Block> decode_block(Session& s) {
  const std::int64_t n = s.options->decode, context = s.options->context;
  Block b{.name = "decode",
          .title = fmt::format("decode {} after {}", n, context),
          .tokens = static_cast<double>(n),
          .matmul_flops = s.cost.matmul_flops(static_cast<double>(n), static_cast<double>(n)),
          .attention_flops = s.cost.attention_flops(context, n),
          .bytes = s.cost.decode_bytes(context, n),
          .samples = {},
          .before = {},
          .after = {}};
  CONCORD_CHECK(run_checked(s, b, [&](FinalStates& states) { return decode_once(s, states); }));
  return b;
}

namespace {

CapturePlan capture_plan(const Session& s) { return {s.options->capture == "every" ? "all" : "every:8", "all"}; }

// Times of the same prefill without and with its states, alternating.
Status run_pairs(Session& s, Block& block, const std::function<Result<double>()>& without,
                 const std::function<Result<double>()>& with) {
  const auto once = [&](int repetition) -> Result<Sample> {
    Result<double> plain = 0.0, other = 0.0;
    if (repetition % 2 == 0)
      plain = without(), other = with();
    else
      other = with(), plain = without();
    CONCORD_TRY(const double with_seconds, other);
    CONCORD_TRY(const double plain_seconds, plain);
    return Sample{.seconds = with_seconds, .extra = {{"plain", plain_seconds}}};
  };
  return run_between_peaks(s, block, once);
}

// One layer's states after the other, in memory that lives as long as this.
struct HostStates {
  std::map<std::int64_t, std::vector<std::byte>> layers;
  HiddenSink sink(std::size_t row) {
    return {.wants = [this](std::int64_t layer) { return layers.contains(layer); },
            .open = [this, row](std::int64_t layer, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
              const auto at = static_cast<std::size_t>(first) * row, size = static_cast<std::size_t>(rows) * row;
              return HiddenBlock{first, rows, std::span(layers.at(layer)).subspan(at, size)};
            },
            .submit = [](std::int64_t, const HiddenBlock&) -> Status { return {}; }};
  }
};

}  // namespace

Result<Block> copy_out_block(Session& s) {
  const std::int64_t n = s.options->prefill;
  const std::vector<std::int32_t> tokens = random_tokens(s.options->seed, n, s.spec().vocab);
  CONCORD_TRY(const std::vector<std::int64_t> layers, capture_plan(s).resolve_layers(s.spec().layers));
  Block b{.name = "copy_out",
          .title = fmt::format("prefill {} to host ({})", n, s.options->capture),
          .tokens = static_cast<double>(n),
          .matmul_flops = s.cost.matmul_flops(static_cast<double>(n), 1),
          .attention_flops = s.cost.attention_flops(0, n),
          .bytes = 0,
          .samples = {},
          .before = {},
          .after = {}};
  HostStates states;
  for (const std::int64_t layer : layers) states.layers[layer].resize(row_bytes(s) * tokens.size());
  std::optional<Sha256> first;
  const HiddenSink sink = states.sink(row_bytes(s));
  const auto prefill = [&](const HiddenSink* to) -> Result<double> {  // the session's own decoder: nothing is allocated
    const Stopwatch watch;
    CONCORD_TRY(const std::int64_t rows, feed(*s.decoder, tokens, s.step_of(n), to));
    CONCORD_CHECK(s.decoder->logits(rows - 1, 1));
    CONCORD_CHECK(s.device->synchronize());
    return watch.seconds();
  };
  CONCORD_CHECK(prefill(&sink));  // the first time, a device may fetch memory to copy into
  CONCORD_CHECK(run_pairs(
      s, b, [&] { return prefill(nullptr); },
      [&]() -> Result<double> {
        CONCORD_TRY(const double seconds, prefill(&sink));
        Hasher hash;
        for (const auto& [layer, bytes] : states.layers) hash.update(bytes);
        const Sha256 now = hash.finish();
        if (first.value_or(now) != now)
          return fail(ErrorKind::kConformance, "bench.unstable_output",
                      "the states of two prefills of the same tokens differ; no time is reported");
        first = now;
        return seconds;
      }));
  return b;
}

Result<Block> capture_block(Session& s) {
  const std::int64_t n = s.options->prefill;
  CONCORD_TRY(const TemporaryFolder folder, TemporaryFolder::create());
  const CapturePlan plan = capture_plan(s);
  RunRequest request = request_of(s, workload_of(s, n, 1), plan, folder.path() / "capture");
  request.generated = {0};  // the last token is never fed back: exactly n tokens run
  Block b{.name = "capture",
          .title = fmt::format("prefill {} captured ({})", n, s.options->capture),
          .tokens = static_cast<double>(n),
          .matmul_flops = s.cost.matmul_flops(static_cast<double>(n), 1),
          .attention_flops = s.cost.attention_flops(0, n),
          .bytes = 0,
          .samples = {},
          .before = {},
          .after = {}};
  std::string root;
  const auto captured = [&]() -> Result<double> {
    const Stopwatch watch;
    CONCORD_TRY(const RunOutcome outcome, run_verifier(*s.device, *s.model, request, *s.stop));
    const double seconds = watch.seconds();
    if (root.empty()) root = outcome.root;
    if (root != outcome.root)
      return fail(ErrorKind::kConformance, "bench.unstable_output",
                  "two captures of the same prefill have different roots; no time is reported");
    return seconds;
  };
  CONCORD_CHECK(run_pairs(s, b, [&] { return plain_run(s, request.workload.tokens); }, captured));
  return b;
}

Result<Verified> verify_block(Session& s) {
  const std::int64_t prompt = s.options->verify_prompt, made = s.options->verify_new, fed = prompt + made - 1;
  CONCORD_TRY(const TemporaryFolder folder, TemporaryFolder::create());
  const RunRequest prove = request_of(s, workload_of(s, prompt, made), {}, folder.path() / "prover");
  Verified out;
  out.block = {.name = "verify",
               .title = fmt::format("verify {} + {}", prompt, made),
               .tokens = static_cast<double>(fed),
               .matmul_flops = s.cost.matmul_flops(static_cast<double>(fed), static_cast<double>(made)),
               .attention_flops = s.cost.attention_flops(0, fed),
               .bytes = 0,
               .samples = {},
               .before = {},
               .after = {}};
  std::string roots;
  const auto once = [&](int) -> Result<Sample> {
    Stopwatch watch;
    CONCORD_TRY(const RunOutcome proven, run_prover(*s.device, *s.model, prove, *s.stop));
    const double generating = watch.seconds();
    RunRequest replay = request_of(s, prove.workload, {}, folder.path() / "verifier");
    replay.generated.assign(proven.tokens.begin() + prompt, proven.tokens.end());
    watch = {};
    CONCORD_TRY(const RunOutcome verified, run_verifier(*s.device, *s.model, replay, *s.stop));
    const double verifying = watch.seconds();
    if (roots.empty()) roots = proven.root + verified.root;
    if (roots != proven.root + verified.root)
      return fail(ErrorKind::kConformance, "bench.unstable_output",
                  "two runs of the same generation have different roots; no time is reported");
    const auto own = std::ranges::count_if(verified.margins, [](const TokenMargin& m) { return m.margin == 0; });
    out.text = fmt::format("{} of {} tokens are the verifier's own choice", own, verified.margins.size());
    return Sample{.seconds = verifying, .extra = {{"generate", generating}}};
  };
  CONCORD_CHECK(run_between_peaks(s, out.block, once));
  return out;
}

Result<Growth> prefill_growth(Session& s) {
  Growth growth;
  for (const std::int64_t size : growth_sizes(kGrowthTokens, 1))
    growth.points.push_back(
        {.size = size,
         .seconds = {},
         .expected = s.cost.matmul_flops(static_cast<double>(size), 1) + s.cost.attention_flops(0, size),
         .memory = 0});
  FinalStates states;
  const auto once = [&](int) -> Result<Sample> {
    Sample sample;
    for (GrowthPoint& p : growth.points) {
      CONCORD_TRY(const double seconds, prefill_once(s, p.size, states));
      sample.seconds += seconds;
      sample.extra[std::to_string(p.size)] = seconds;
    }
    return sample;
  };
  CONCORD_TRY(const std::vector<Sample> samples, run_block("growth", s.options->repetitions, *s.stop, once));
  for (GrowthPoint& p : growth.points) p.seconds = extra_of(samples, std::to_string(p.size));
  return growth;
}

}  // namespace concord::bench
