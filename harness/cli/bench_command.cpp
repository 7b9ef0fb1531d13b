// concord bench model / compare / op: how fast, against what this processor can do in the same process.
#include <fmt/format.h>

#include <memory>

#include "base/file.hpp"
#include "bench/compare_bench.hpp"
#include "bench/model_bench.hpp"
#include "cli/command.hpp"
#include "cli/model_arguments.hpp"

namespace concord::cli {
namespace {

using bench::CompareBenchOptions;
using bench::ModelBenchOptions;

constexpr int kMostTokens = 1 << 24;

template <class Report>
Status publish(const Report& report, const std::string& json_file) {
  fmt::print("{}", bench::render(report));
  if (json_file.empty()) return {};
  return write_atomically(json_file,
                          bench::to_json(report).dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

// --- model -------------------------------------------------------------------------------------------------------

struct ModelArguments {
  ModelBenchOptions options;
  std::string shape, write, json, states;
};

Status check_model_arguments(const ModelArguments& a) {
  const ModelBenchOptions& o = a.options;
  const bool nothing = o.prefill == 0 && o.decode == 0 && o.verify_new == 0;
  if (nothing && a.write.empty())
    return fail(ErrorKind::kUsage, "bench.nothing_asked",
                "--prefill, --decode and --verify are all 0: there is nothing to measure");
  if (o.capture != "none" && o.prefill == 0)
    return fail(ErrorKind::kUsage, "bench.nothing_asked", "--capture measures the prefill, and --prefill is 0");
  if (!a.states.empty() && o.prefill == 0)
    return fail(ErrorKind::kUsage, "bench.nothing_asked", "--states are those of the prefill, and --prefill is 0");
  if (!a.shape.empty() && !o.model.empty())
    return fail(ErrorKind::kUsage, "bench.model_or_shape", "--model and --shape exclude each other");
  if (a.shape.empty() && !a.write.empty())
    return fail(ErrorKind::kUsage, "bench.write_needs_shape", "--write is for the model that --shape makes");
  return {};
}

// Makes the model of --shape and writes it where it is asked for.
Status make_shape(ModelArguments& a) {
  CONCORD_TRY(bench::ShapedModel made, bench::ShapedModel::make(a.shape, a.options.seed));
  a.options.shaped = std::make_shared<const bench::ShapedModel>(std::move(made));
  a.options.model_name = a.options.shaped->name();
  if (a.write.empty()) return {};
  CONCORD_CHECK(a.options.shaped->write(a.write));
  fmt::print("written   {}: {}\n", a.write, a.options.model_name);
  return {};
}

Status run_model(ModelArguments arguments) {
  ModelBenchOptions& o = arguments.options;
  CONCORD_CHECK(check_model_arguments(arguments));
  if (!arguments.shape.empty()) {
    CONCORD_CHECK(make_shape(arguments));
    if (o.prefill == 0 && o.decode == 0 && o.verify_new == 0) return {};
  } else {
    CONCORD_TRY(const OpenedModel model, open_model(o.model));  // for its name, and for the errors of a bad path
    o.model = model.path, o.model_name = model.name;
  }
  CONCORD_TRY(const bench::ModelBenchReport report, bench::bench_model(o, Context::stop()));
  if (!arguments.states.empty())
    CONCORD_CHECK(write_atomically(arguments.states, bench::states_json(report).dump() + "\n"));
  return publish(report, arguments.json);
}

void add_model(CLI::App& parent, Context& context) {
  auto a = std::make_shared<ModelArguments>();
  ModelBenchOptions& o = a->options;
  CLI::App* c =
      parent.add_subcommand("model", "Loading, prefill, decode, capturing and verifying of one model on one device");
  c->add_option("--model", o.model, "Hugging Face folder or GGUF file (default: the embedded model)");
  c->add_option("--shape", a->shape,
                "Instead of a model: random bf16 weights in the shape of one, for example qwen2.5-7b (suites/ops/models)");
  c->add_option("--write", a->write,
                "Also write the model of --shape to this folder, for another program (config.json, model.safetensors)");
  c->add_option("--device,--backend", o.device, "Device id, for example cpu:avx2 (see concord doctor)")
      ->capture_default_str();
  c->add_option("--precision", o.precision, "WEIGHTS[/ACTIVATIONS[/KV]], for example int4-g128-sym/bf16")
      ->capture_default_str();
  c->add_option("--threads", o.threads, "Threads (0: all)")->check(CLI::Range(0, 4096));
  c->add_option("--prefill", o.prefill, "Tokens of the prefill (0: not measured)")
      ->check(CLI::Range(0, kMostTokens))
      ->capture_default_str();
  c->add_option("--decode", o.decode, "Tokens decoded one by one (0: not measured)")
      ->check(CLI::Range(0, kMostTokens))
      ->capture_default_str();
  c->add_option("--prompt", o.context, "Tokens in the cache before the first decoded one")
      ->check(CLI::Range(0, kMostTokens))
      ->capture_default_str();
  c->add_option("--chunk", o.chunk, "Most tokens in one prefill step (0: all at once)")
      ->check(CLI::Range(0, kMostTokens));
  c->add_option("--batch", o.batch, "Also so many sequences side by side: prefill of --prefill tokens in all, decode of --decode each")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  c->add_option("--capture", o.capture, "Also the prefill with its hidden states captured: none, every8, every")
      ->check(CLI::IsMember({"none", "every8", "every"}))
      ->capture_default_str();
  c->add_option("--verify", o.verify_new, "Also verifying so many generated tokens against generating them")
      ->check(CLI::Range(0, kMostTokens));
  c->add_option("--verify-prompt", o.verify_prompt, "Tokens of the prompt of --verify")
      ->check(CLI::Range(1, kMostTokens))
      ->capture_default_str();
  c->add_flag("--growth", o.growth, "Also prefills of 64 to 640 tokens and the slope of their time");
  c->add_option("--repetitions", o.repetitions, "Repetitions of each measurement")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  c->add_option("--loads", o.loads, "How often the model is loaded")->check(CLI::Range(1, 1000))->capture_default_str();
  c->add_option("--seed", o.seed, "Seed of the random token ids, and of the weights of --shape")->capture_default_str();
  c->add_option("--states", a->states, "Also write the prefill's token ids and its last final state to this file");
  c->add_option("--json", a->json, "Also write everything, with every sample, to this file");
  c->callback([a, &context] {
    if (const Status s = run_model(*a); !s) context.fail(s.error());
  });
}

// --- compare -----------------------------------------------------------------------------------------------------

struct CompareArguments {
  CompareBenchOptions options;
  std::uint64_t elements = 0;
  std::int64_t hidden = 4096;
  std::uint64_t seed = 1;
  double noise = 1e-3;
  std::string dtype = "f32", json;
};

Status run_compare(CompareArguments a) {
  CompareBenchOptions& o = a.options;
  const bool named = !o.subject.empty() || !o.reference.empty();
  if (named == (a.elements > 0) || o.subject.empty() != o.reference.empty())
    return fail(ErrorKind::kUsage, "bench.captures_or_elements",
                "expected two captures A B, or --elements for two synthetic ones");
  if (named && o.growth)
    return fail(ErrorKind::kUsage, "bench.growth_needs_elements",
                "--growth makes captures of several sizes itself; use it with --elements");
  if (named && !o.keep.empty())
    return fail(ErrorKind::kUsage, "bench.keep_needs_elements", "--keep is for the captures that --elements makes");
  if (a.hidden % 4 != 0)
    return fail(ErrorKind::kUsage, "bench.bad_hidden",
                fmt::format("--hidden must be a multiple of 4, found {}", a.hidden));
  if (a.elements > 0) {
    const DType dtype = a.dtype == "f32" ? DType::kF32 : a.dtype == "f16" ? DType::kF16 : DType::kBF16;
    o.synthetic = bench::SyntheticSpec{
        .elements = static_cast<std::int64_t>(a.elements), .hidden = a.hidden, .dtype = dtype, .seed = a.seed, .noise = a.noise};
  }
  CONCORD_TRY(const bench::CompareBenchReport report, bench::bench_compare(o, Context::stop()));
  return publish(report, a.json);
}

void add_compare(CLI::App& parent, Context& context) {
  auto a = std::make_shared<CompareArguments>();
  CompareBenchOptions& o = a->options;
  CLI::App* c =
      parent.add_subcommand("compare", "The comparison of two captures against a plain reading of the same bytes");
  c->add_option("SUBJECT", o.subject, "capture of the prover");
  c->add_option("REFERENCE", o.reference, "capture of the verifier");
  c->add_option("--elements", a->elements,
                "Make two captures of so many elements instead, for example 64Mi (removed afterwards)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 34));
  c->add_option("--dtype", a->dtype, "Of the synthetic captures: f32, f16, bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  c->add_option("--noise", a->noise, "Relative difference of the synthetic captures: 0 for equal ones, 1 for the worst case")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  c->add_option("--hidden", a->hidden, "Hidden size of the synthetic captures")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  c->add_option("--seed", a->seed, "Seed of the synthetic captures")->capture_default_str();
  c->add_option("--threads", o.threads, "Threads of both sides")->check(CLI::Range(1, 4096))->capture_default_str();
  c->add_option("--profiles", o.profiles, "Names or files of profiles, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  c->add_option("--keep", o.keep, "Write the synthetic captures to this folder, and leave them there")
      ->check(CLI::ExistingDirectory);
  c->add_flag("--growth", o.growth, "Also sizes over one decade up to --elements and the slope of their time");
  c->add_option("--repetitions", o.repetitions, "Repetitions of each measurement")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  c->add_option("--json", a->json, "Also write everything, with every sample, to this file");
  c->callback([a, &context] {
    if (const Status s = run_compare(*a); !s) context.fail(s.error());
  });
}

}  // namespace

void add_bench_command(CLI::App& root, Context& context) {
  CLI::App* c = root.add_subcommand("bench", "Measure speed and memory, against what this processor can do");
  c->require_subcommand(1);
  c->footer(
      "Exit status: 0 measured, 1 the timed work gave unstable or not finite results (no number is printed), 2 bad "
      "input, 3 no such device.");
  add_model(*c, context);
  add_compare(*c, context);
  add_bench_op(*c, context);
}

}  // namespace concord::cli
