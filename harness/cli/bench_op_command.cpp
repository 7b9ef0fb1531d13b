// concord bench op: how fast operator cases run whose outputs are verified, on the devices named.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "base/file.hpp"
#include "bench/op_bench.hpp"
#include "cli/case_arguments.hpp"
#include "cli/command.hpp"
#include "conformance/suite/required.hpp"

namespace concord::cli {
namespace {

struct OpArguments {
  CaseArguments cases;
  bench::OpBenchOptions options;
  std::string cache = "both", json, markdown;
  double percent = 2;
  bool strict = false;
};

// What a device's required list says of its kernels' names.
Status add_witnesses(OpArguments& a, conformance::Tier tier) {
  CONCORD_TRY(const auto lists, conformance::load_required());
  for (const std::string& device : a.options.devices) {
    CONCORD_TRY(const auto list, conformance::required_for(lists, device, tier));
    if (list) a.options.witness.emplace_back(device, list->witness_for(device));
  }
  return {};
}

void show_progress(const std::string& id, const std::string& device, bench::Cache cache, std::size_t done,
                   std::size_t total) {
  fmt::print(stderr, "\r\x1b[K[{}/{}] {} {} {}", done + 1, total, device, bench::cache_name(cache), id);
}

int exit_of(const bench::OpBenchReport& report, bool strict) {
  const bench::OpBenchReport::Counts c = report.counts();
  if (c.failed > 0) return exit_codes::kConformance;
  if (c.measured == 0) return exit_codes::kNothingRun;
  return strict && c.insufficient > 0 ? exit_codes::kInconclusive : exit_codes::kOk;
}

Status publish(const bench::OpBenchReport& report, const OpArguments& a) {
  fmt::print("{}", bench::render(report));
  if (!a.markdown.empty()) CONCORD_CHECK(write_atomically(a.markdown, bench::render_markdown(report)));
  if (a.json.empty()) return {};
  return write_atomically(a.json,
                          bench::to_json(report).dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

Result<int> run_op(OpArguments a) {
  using bench::Cache;
  CONCORD_TRY(const SelectedCases selected, open_cases(a.cases));
  const Backends backends = Backends::discover();
  CONCORD_TRY(a.options.devices, choose_case_devices(backends, a.cases));
  CONCORD_CHECK(add_witnesses(a, selected.selection.tier));
  a.options.cases = selected.cases;
  a.options.limits.precision = a.percent / 100;
  if (a.cache != "both") a.options.caches = {a.cache == "warm" ? Cache::kWarm : Cache::kCold};
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto report =
      bench::bench_ops(a.options, backends, terminal ? show_progress : bench::OpProgress{}, Context::stop());
  if (terminal) fmt::print(stderr, "\r\x1b[K");
  if (!report) return std::unexpected(report.error());
  CONCORD_CHECK(publish(*report, a));
  return exit_of(*report, a.strict);
}

void add_options(CLI::App& c, OpArguments& a) {
  add_case_options(c, a.cases);
  add_device_option(c, a.cases);
  bench::OpBenchOptions& o = a.options;
  c.add_option("--threads", o.threads, "Threads of each device (0: all)")->check(CLI::Range(0, 4096));
  c.add_option("--cache", a.cache, "warm: the same operands again and again; cold: caches swept before; both")
      ->check(CLI::IsMember({"warm", "cold", "both"}))
      ->capture_default_str();
  c.add_option("--precision", a.percent,
               "Samples are taken until the 95 % interval of the median is within so many per cent of it")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  c.add_option("--max-seconds", o.limits.max_seconds,
               "Or until so many seconds were spent on a measurement, which is then marked INSUFFICIENT")
      ->check(CLI::Range(0.0, 1e5))
      ->capture_default_str();
  c.add_option("--min-samples", o.limits.min_samples, "Samples of each measurement, at least")
      ->check(CLI::Range(bench::kLeastForInterval, std::size_t{100'000}))
      ->capture_default_str();
  c.add_option("--cold-bytes", o.sweep_bytes,
               "What is read to sweep the caches, for example 1Gi (default: twice the last-level cache; 512Mi on "
               "devices that are not this processor)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{1} << 10, std::uint64_t{1} << 36));
  c.add_option("--seed", o.seed, "Seed of the inputs, as in concord conform")->capture_default_str();
  c.add_flag("--strict", a.strict, "End with 6 where an interval is wider than asked for");
  c.add_option("--json", a.json, "Also write everything, with every sample, to this file");
  c.add_option("--markdown", a.markdown, "Also write the table to this file");
}

}  // namespace

void add_bench_op(CLI::App& parent, Context& context) {
  auto a = std::make_shared<OpArguments>();
  CLI::App* c = parent.add_subcommand("op", "Operator cases whose outputs are verified, with a cold and a warm cache");
  add_options(*c, *a);
  c->footer(
      "Exit status: 0 measured, 1 a case was not verified (it has no number), 2 bad input, 3 no such device, 5 nothing "
      "measured,\n"
      "6 an interval was not reached (with --strict). Timed in this process: a device that crashes ends the command.");
  c->callback([a, &context] {
    const Result<int> exit = run_op(*a);
    if (!exit) return context.fail(exit.error());
    context.exit = *exit;
  });
}

}  // namespace concord::cli
