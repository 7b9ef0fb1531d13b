// `concord capture`: one prover or verifier run, its hidden states into a capture file.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/text.hpp"
#include "cli/command.hpp"
#include "cli/model_arguments.hpp"
#include "experiment/runner.hpp"
#include "experiment/worker.hpp"

namespace concord::cli {
namespace {

struct Options {
  std::string model, workload, device = "cpu", precision = "f32", out, replay, nonce, layers = "default", positions = "generated";
  unsigned threads = 0;
  std::int64_t chunk = 0, batch = 1;
  bool json = false;
};

Status replay_from(const std::string& file, RunRequest& request) {
  CONCORD_TRY(const Capture capture, Capture::open(file));
  CONCORD_CHECK(capture.verify());
  const CaptureHeader& h = capture.header();
  if (h.workload_digest != request.workload.digest())
    return bad_input("capture.different_workload",
                     fmt::format("it is of workload \"{}\" ({}), not of \"{}\" ({}); name the same --workload", h.workload_id,
                                 h.workload_digest, request.workload.id, request.workload.digest()), file);
  if (h.prompt_tokens != static_cast<std::int64_t>(request.workload.tokens.size()) ||
      !std::equal(request.workload.tokens.begin(), request.workload.tokens.end(), h.tokens.begin()))
    return bad_input("capture.different_prompt", "its first tokens are not the workload's prompt", file);
  request.generated.assign(h.tokens.begin() + h.prompt_tokens, h.tokens.end());
  request.nonce = h.nonce;
  return {};
}

// The workload file of FILE or FILE:ID: companions come from all of its prompts.
std::string file_of(const std::string& argument) {
  const std::size_t colon = argument.rfind(".json:");
  return colon == std::string::npos ? argument : argument.substr(0, colon + 5);
}

Result<RunRequest> make_request(const Options& o, const OpenedModel& model) {
  CONCORD_TRY(const std::vector<Workload> workloads, open_workloads(o.workload, model));
  RunRequest r{.workload = workloads.front(), .generated = {}, .plan = {o.layers, o.positions}, .chunk = o.chunk, .nonce = o.nonce,
               .out = o.out, .model_name = model.name, .source_digest = {}};
  if (r.nonce.empty()) r.nonce = sha256_hex("concord.nonce/1|0");  // a fixed nonce: two captures made by hand can be compared
  else if (!from_hex(r.nonce)) return fail(ErrorKind::kUsage, "capture.bad_nonce", "--nonce must be hexadecimal");
  if (!o.replay.empty()) {
    CONCORD_CHECK(replay_from(o.replay, r));
  }
  if (o.batch > 1 && !o.replay.empty())
    return fail(ErrorKind::kUsage, "capture.bad_batch", "--batch is of a prover; a verifier runs its one sequence, so leave out --replay or --batch");
  CONCORD_TRY(const std::vector<Workload> others, o.batch > 1 ? open_workloads(file_of(o.workload), model) : Result<std::vector<Workload>>{});
  for (std::int64_t i = 1; i < o.batch; ++i) r.companions.push_back(others[static_cast<std::size_t>(i) % others.size()].tokens);
  return r;
}

void print(const Options& o, const RunRequest& r, const RunOutcome& out, const OpenedModel& model, const Worker& worker) {
  const auto generated = std::span<const std::int32_t>(out.tokens).subspan(r.workload.tokens.size());
  if (o.json) {
    Json j = to_json(out);
    j["device"] = worker.ready().device;
    j["weights_digest"] = worker.ready().weights_digest;
    j["load_seconds"] = worker.ready().load_seconds;
    j["device_weights"] = worker.ready().device_weights;
    fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  fmt::print("capture   {}\nrole      {}\nmodel     {} ({} in {})\ndevice    {}\nworkload  {} ({} prompt tokens, {} new)\ntokens    {}\ntext      {}\n",
             o.out, o.replay.empty() ? "prover" : "verifier", model.name, worker.ready().weights_digest.substr(0, 16), o.precision,
             worker.key().device, r.workload.id, r.workload.tokens.size(), generated.size(), fmt::join(generated, ","),
             printable(model.tokens.text(generated), 2000));
  const Json& weights = worker.ready().device_weights;
  fmt::print("weights   {} of {} matrices have their digest in device memory ({}), {} vectors read back\n", weights.value("digests_checked", 0),
             weights.value("matrices", 0), weights.value("digests", ""), weights.value("vectors_read_back", 0));
  if (out.device_memory_peak) fmt::print("memory    {} bytes of device memory at most\n", *out.device_memory_peak);
  fmt::print("root      {}\nseconds   load {:.2f}, prefill {:.3f}, decode {:.3f}, token check {:.3f}\n", out.root, worker.ready().load_seconds,
             out.prefill_seconds, out.decode_seconds, out.logits_seconds);
  if (o.replay.empty()) return;
  const auto equal = std::count_if(out.margins.begin(), out.margins.end(), [](const TokenMargin& m) { return m.margin == 0; });
  fmt::print("check     {} of {} tokens are the verifier's own choice\n", equal, out.margins.size());
}

Status run(const Options& o, Context& context) {
  CONCORD_TRY(const OpenedModel model, open_model(o.model));
  CONCORD_TRY(const RunPrecision precision, RunPrecision::parse(o.precision));
  CONCORD_TRY(RunRequest request, make_request(o, model));
  CONCORD_TRY(const std::string device, Backends::discover().resolve(o.device));
  CONCORD_TRY(const auto worker, Worker::start(context.program, {device, o.threads, model.path, precision.name()}, Context::stop(),
                                               loading_line(model.name)));
  request.source_digest = worker->ready().source_digest;
  CONCORD_TRY(const RunOutcome outcome, o.replay.empty() ? worker->prove(request) : worker->verify(request));
  print(o, request, outcome, model, *worker);
  return {};
}

}  // namespace

void add_capture_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<Options>();
  CLI::App* c = root.add_subcommand("capture", "Run one workload on one device and write its hidden states to a capture file");
  c->add_option("--model", o->model, "Hugging Face folder or GGUF file (default: the embedded model)");
  c->add_option("--workload", o->workload, "Workload FILE or FILE:ID (default: the one that fits the model; its first prompt)");
  c->add_option("--backend", o->device, "Device id, for example cpu:avx2 (see concord doctor)")->capture_default_str();
  c->add_option("--precision", o->precision, "WEIGHTS[/ACTIVATIONS[/KV]], for example int4-g128-sym/bf16")->capture_default_str();
  c->add_option("--replay", o->replay, "Verify this prover's capture: one teacher-forced prefill over its tokens");
  c->add_option("--layers", o->layers, "default, all, every:K or a list")->capture_default_str();
  c->add_option("--positions", o->positions, "generated, all, every:K, last:K or a list")->capture_default_str();
  c->add_option("--chunk", o->chunk, "Most tokens in one prefill step (0: all at once)")->check(CLI::Range(0, 1 << 20));
  c->add_option("--batch", o->batch, "Sequences in every step: this prompt and, beside it, others of its workload file (1: alone)")
      ->check(CLI::Range(1, 1024));
  c->add_option("--threads", o->threads, "Threads (0: all)");
  c->add_option("--nonce", o->nonce, "Hexadecimal nonce that binds the states to one request");
  c->add_option("--out", o->out, "Capture file to write")->required();
  c->add_flag("--json", o->json, "Print the outcome as JSON");
  c->callback([o, &context] {
    if (const Status s = run(*o, context); !s) context.fail(s.error());
  });
}

}  // namespace concord::cli
