#include "experiment/runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "experiment/capture_sink.hpp"
#include "experiment/lanes.hpp"
#include "device/provenance.hpp"

namespace concord {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Result<CaptureHeader> make_header(const Device& device, const LoadedModel& model, const RunRequest& r, const char* role) {
  CaptureHeader h;
  const ModelSpec& spec = model.spec();
  h.workload_id = r.workload.id;
  h.workload_digest = r.workload.digest();
  h.model = r.model_name;
  h.weights_digest = model.weights_digest();
  h.source_digest = r.source_digest;
  h.nonce = r.nonce;
  h.role = role;
  h.configuration = {{"device", device.facts().id}, {"precision", model.precision().name()},
                     {"threads", device.threads()}, {"chunk", r.chunk}, {"batch", 1 + r.companions.size()}};
  h.hidden = spec.hidden;
  h.dtype = model.precision().capture_dtype();
  h.model_layers = spec.layers;
  h.prompt_tokens = static_cast<std::int64_t>(r.workload.tokens.size());
  CONCORD_TRY(h.layers, r.plan.resolve_layers(spec.layers));
  CONCORD_TRY(h.positions, r.plan.resolve_positions(h.prompt_tokens, r.workload.new_tokens));
  h.tokens = r.workload.tokens;
  h.tokens.resize(h.tokens.size() + static_cast<std::size_t>(r.workload.new_tokens));
  return h;
}

OrderedJson run_provenance(const Device& device, const LoadedModel& model, const RunOutcome& outcome) {
  OrderedJson p = provenance();
  p["device"] = device_json(device.facts());
  p["device_weights"] = to_json(model.device_check());
  if (outcome.device_memory_peak) p["device_memory_peak"] = *outcome.device_memory_peak;
  p["kernels"] = device.kernels();
  p["fallbacks"] = device.fallbacks();
  p["seconds"] = {{"prefill", outcome.prefill_seconds}, {"decode", outcome.decode_seconds}, {"logits", outcome.logits_seconds}};
  return p;
}

// Runs tokens[0 .. count) in steps of `step`; after each step calls visit(first position, rows).
template <class Visit>
Status prefill(Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t step, const HiddenSink* sink,
               const std::atomic<bool>& stop, Visit visit) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t first = 0; first < count; first += step) {
    if (stop) return fail(ErrorKind::kInterrupted, "run.interrupted", "interrupted during the prefill");
    const std::int64_t rows = std::min(step, count - first);
    CONCORD_CHECK(decoder.forward(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), first, sink));
    CONCORD_CHECK(visit(first, rows));
  }
  return {};
}

Status decode(Lanes& lanes, const RunRequest& r, const HiddenSink* sink, const std::atomic<bool>& stop, RunOutcome& out) {
  for (std::int64_t i = 0; i < r.workload.new_tokens; ++i) {
    if (stop) return fail(ErrorKind::kInterrupted, "run.interrupted", fmt::format("interrupted after {} new tokens", i));
    CONCORD_CHECK(lanes.choose(r.workload.sampler, out.logit_top.emplace_back()));
    if (i + 1 == r.workload.new_tokens) break;  // the last token is never fed back
    CONCORD_CHECK(lanes.step(sink));
  }
  out.tokens = lanes.tokens();
  return {};
}

// Teacher-forced margins of the generated tokens whose logits the step [first, first + rows) holds.
Status check_tokens(Decoder& decoder, const RunRequest& r, std::span<const std::int32_t> tokens, std::int64_t vocab,
                    std::int64_t first, std::int64_t rows, RunOutcome& out) {
  const auto prompt = static_cast<std::int64_t>(r.workload.tokens.size());
  constexpr std::int64_t kRows = 64;  // bounds the host copy at 64 * vocab floats
  for (std::int64_t p = std::max(first, prompt - 1); p < first + rows; p += kRows) {
    const std::int64_t n = std::min(kRows, first + rows - p);
    CONCORD_TRY(const std::vector<float> logits, decoder.logits(p - first, n));
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = std::span<const float>(logits).subspan(static_cast<std::size_t>(i * vocab), static_cast<std::size_t>(vocab));
      CONCORD_TRY(const TokenMargin margin,
                  token_margin(r.workload.sampler, row, p + i + 1, tokens[static_cast<std::size_t>(p + i + 1)]));
      out.margins.push_back(margin);
    }
  }
  return {};
}

Status finish(CaptureSink& capture, Device& device, const LoadedModel& model, RunOutcome& out) {
  if (const auto memory = device.memory()) out.device_memory_peak = memory->peak;
  CONCORD_TRY(const Sha256 root, capture.finish(out.tokens, run_provenance(device, model, out)));
  out.root = hex(root);
  return {};
}

}  // namespace

OrderedJson to_json(const DeviceWeightCheck& check) {
  return {{"digests", check.offered ? "computed by this device" : "not offered by this device"},
          {"digests_checked", check.digests},
          {"matrices", check.matrices},
          {"vectors_read_back", check.vectors}};
}

Result<RunOutcome> run_prover(Device& device, const LoadedModel& model, const RunRequest& r, const std::atomic<bool>& stop) {
  CONCORD_TRY(const CaptureHeader header, make_header(device, model, r, "prover"));
  const std::int64_t prompt = header.prompt_tokens, step = r.chunk > 0 ? std::min(r.chunk, prompt) : prompt;
  CONCORD_TRY(CaptureSink capture, CaptureSink::to_file(r.out, header, model.precision().activations, step));
  std::vector<std::vector<std::int32_t>> prompts{r.workload.tokens};
  prompts.insert(prompts.end(), r.companions.begin(), r.companions.end());
  std::int64_t longest = 0;
  for (const auto& p : prompts) longest = std::max(longest, static_cast<std::int64_t>(p.size()));
  CONCORD_TRY(Decoder decoder, Decoder::create(device, model, longest + r.workload.new_tokens, Lanes::widest(prompts, step),
                                               static_cast<std::int64_t>(prompts.size())));
  RunOutcome out{.buffer_bytes = decoder.buffer_bytes()};
  Lanes lanes(decoder, model.spec().vocab, std::move(prompts));
  const Stopwatch prefill_time;
  CONCORD_CHECK(lanes.prefill(step, capture.sink(), stop));
  out.prefill_seconds = prefill_time.seconds();
  const Stopwatch decode_time;
  CONCORD_CHECK(decode(lanes, r, capture.sink(), stop, out));
  out.decode_seconds = decode_time.seconds();
  CONCORD_CHECK(finish(capture, device, model, out));
  return out;
}

Result<RunOutcome> run_verifier(Device& device, const LoadedModel& model, const RunRequest& r, const std::atomic<bool>& stop) {
  if (static_cast<std::int64_t>(r.generated.size()) != r.workload.new_tokens)
    return bad_input("run.wrong_length", fmt::format("the workload asks for {} new tokens, the prover's capture has {}",
                                                     r.workload.new_tokens, r.generated.size()));
  CONCORD_TRY(const CaptureHeader header, make_header(device, model, r, "verifier"));
  RunOutcome out{.tokens = r.workload.tokens};
  out.tokens.insert(out.tokens.end(), r.generated.begin(), r.generated.end());
  const auto fed = std::span<const std::int32_t>(out.tokens).first(out.tokens.size() - 1);
  const auto length = static_cast<std::int64_t>(fed.size()), step = r.chunk > 0 ? std::min(r.chunk, length) : length;
  CONCORD_TRY(CaptureSink capture, CaptureSink::to_file(r.out, header, model.precision().activations, step));
  CONCORD_TRY(Decoder decoder, Decoder::create(device, model, length, step));
  out.buffer_bytes = decoder.buffer_bytes();
  const Stopwatch total;
  CONCORD_CHECK(prefill(decoder, fed, step, capture.sink(), stop, [&](std::int64_t first, std::int64_t rows) -> Status {
    const Stopwatch logits_time;
    CONCORD_CHECK(check_tokens(decoder, r, out.tokens, model.spec().vocab, first, rows, out));
    out.logits_seconds += logits_time.seconds();
    return {};
  }));
  out.prefill_seconds = total.seconds() - out.logits_seconds;
  CONCORD_CHECK(finish(capture, device, model, out));
  return out;
}

}  // namespace concord
