#include "bench/model_bench.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/rng.hpp"
#include "bench/model_session.hpp"
#include "bench/statistics.hpp"
#include "checkpoint/checkpoint.hpp"

namespace concord::bench {
namespace {

// The longest prefill step that any block asks for, and the positions the decoder must hold.
std::int64_t longest_step(const ModelBenchOptions& o) {
  const std::int64_t most = std::max({o.prefill, o.context, o.growth ? kGrowthTokens : 0, std::int64_t{1}});
  return o.chunk > 0 ? std::min(o.chunk, most) : most;
}
std::int64_t capacity(const ModelBenchOptions& o) {
  return std::max({o.prefill, o.context + o.decode, o.growth ? kGrowthTokens : 0, std::int64_t{1}});
}

Status check_length(const ModelBenchOptions& o, const ModelSpec& spec) {
  const std::int64_t needed = std::max(capacity(o), o.verify_new > 0 ? o.verify_prompt + o.verify_new : 0);
  if (needed <= spec.max_positions) return {};
  return fail(
      ErrorKind::kUsage, "bench.too_long",
      fmt::format(
          "{} positions are needed, this model has {}; ask for fewer with --prefill, --prompt, --decode or --verify",
          needed, spec.max_positions));
}

// From the file to the first hidden state behind a layer, with nothing kept from an earlier load.
Result<Sample> load_once(Session& s) {
  const ModelBenchOptions& o = *s.options;
  s.decoder.reset();
  s.model.reset();
  Sample sample;
  const Stopwatch watch;
  std::unique_ptr<Checkpoint> file;
  ModelSpec spec;
  if (o.shaped) {
    spec = o.shaped->spec();
  } else {
    CONCORD_TRY(file, Checkpoint::open(o.model));
    CONCORD_TRY(spec, spec_from_path(o.model, *file));
  }
  CONCORD_CHECK(check_length(o, spec));
  const Checkpoint& checkpoint = o.shaped ? o.shaped->checkpoint() : *file;
  CONCORD_TRY(LoadedModel model, LoadedModel::load(*s.device, checkpoint, spec, s.precision));
  s.model = std::make_unique<LoadedModel>(std::move(model));
  sample.seconds = watch.seconds();
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, capacity(o), longest_step(o)));
  s.decoder = std::make_unique<Decoder>(std::move(decoder));
  double first_state = 0;
  const HiddenSink sink{.wants = [](std::int64_t layer) { return layer == 1; },
                        .open = [&](std::int64_t, std::int64_t, std::int64_t) -> Result<HiddenBlock> {
                          first_state = watch.seconds();
                          return HiddenBlock{};
                        },
                        .submit = [](std::int64_t, const HiddenBlock&) -> Status { return {}; }};
  CONCORD_CHECK(s.decoder->forward(random_tokens(o.seed, longest_step(o), spec.vocab), 0, &sink));
  sample.extra["first_state"] = first_state;
  return sample;
}

Status warm_up(Session& s) {
  FinalStates ignored;
  if (s.options->prefill > 0) {
    CONCORD_CHECK(prefill_once(s, s.options->prefill, ignored));
  }
  if (s.options->decode > 0) {
    CONCORD_CHECK(decode_once(s, ignored));
  }
  return {};
}

Status run_blocks(Session& s, ModelBenchReport& report) {
  const ModelBenchOptions& o = *s.options;
  const std::pair<bool, Result<Block> (*)(Session&)> plan[] = {{o.prefill > 0, prefill_block},
                                                               {o.decode > 0, decode_block},
                                                               {o.batch > 1 && o.prefill > 0, batch_prefill_block},
                                                               {o.batch > 1 && o.decode > 0, batch_decode_block},
                                                               {o.capture != "none" && o.prefill > 0, copy_out_block},
                                                               {o.capture != "none" && o.prefill > 0, capture_block}};
  for (const auto& [wanted, run] : plan) {
    if (!wanted) continue;
    CONCORD_TRY(report.blocks.emplace_back(), run(s));
  }
  if (o.verify_new > 0) {
    CONCORD_TRY(Verified verified, verify_block(s));
    report.blocks.push_back(std::move(verified.block));
    report.verification = std::move(verified.text);
  }
  if (o.growth) {
    CONCORD_TRY(report.growth, prefill_growth(s));
    std::vector<double> sizes, work;
    for (const GrowthPoint& p : report.growth->points) {
      sizes.push_back(static_cast<double>(p.size));
      work.push_back(s.cost.matmul_flops(sizes.back(), 1));
    }
    report.growth_matmul_slope = log_log_slope(sizes, work);
  }
  return {};
}

}  // namespace

std::vector<std::int32_t> random_tokens(std::uint64_t seed, std::int64_t count, std::int64_t vocab) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(
        static_cast<std::int32_t>(uniform_open(seed, 0, static_cast<std::uint64_t>(i)) * static_cast<double>(vocab)));
  return out;
}

Result<ModelBenchReport> bench_model(const ModelBenchOptions& options, const std::atomic<bool>& stop) {
  ModelBenchReport report{.options = options};
  Session s{.options = &options, .stop = &stop};
  CONCORD_TRY(s.precision, RunPrecision::parse(options.precision));
  const Stopwatch open;
  CONCORD_TRY(Device device, Backends::discover().open(options.device, options.threads));
  s.device = std::make_unique<Device>(std::move(device));
  report.open_seconds = open.seconds();
  s.arithmetic = arithmetic_of(s.device->facts().id, s.precision.activations);
  CONCORD_TRY(report.loads, run_block("load", options.loads, stop, [&](int) { return load_once(s); }));
  s.cost = ModelCost::of(s.spec(), s.precision);
  CONCORD_CHECK(warm_up(s));
  report.memory = read_memory();  // before the first peak measurement, whose buffer would count
  report.device_memory = s.device->memory();
  report.device_weights = s.model->device_check();
  report.precision = s.precision.name();
  report.device = s.device->facts();
  report.threads = s.device->threads();
  report.parameters = static_cast<double>(s.spec().parameters());
  report.vocab = s.spec().vocab;
  report.cost = s.cost;
  report.weights_digest = s.model->weights_digest();
  report.weight_bytes = s.model->weight_bytes();
  report.buffer_bytes = s.decoder->buffer_bytes();
  CONCORD_CHECK(run_blocks(s, report));
  report.final_state = std::move(s.final_state);
  return report;
}

}  // namespace concord::bench
