// concord compare SUBJECT REFERENCE: the metrics of two captures, the verdict of each profile, and where the first
// failure is.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>

#include "cli/command.hpp"
#include "compare/compare.hpp"

namespace concord::cli {
namespace {

struct Options {
  std::string subject, reference;
  std::vector<std::string> profiles{"paper", "seed", "toploc", "rel-l2"};
  CompareContext context;
  std::optional<double> tau_m, tau_w;
  bool json = false, no_verify = false, allow_inconclusive = false;
};

// --- what is shown -----------------------------------------------------------------------------------------------

// One block per decade of relative L2 error on a fixed scale, so that strips of different runs can be laid side by
// side.
struct HeatStep {
  double below;
  const char* block;
};
constexpr std::array<HeatStep, 8> kHeat{{{1e-7, "▁"},
                                         {1e-6, "▂"},
                                         {1e-5, "▃"},
                                         {1e-4, "▄"},
                                         {1e-3, "▅"},
                                         {1e-2, "▆"},
                                         {1e-1, "▇"},
                                         {std::numeric_limits<double>::infinity(), "█"}}};
constexpr const char* kHeatLegend =
    "· equal  ▁ <1e-7  ▂ <1e-6  ▃ <1e-5  ▄ <1e-4  ▅ <1e-3  ▆ <1e-2  ▇ <0.1  █ more  ! special or not finite";

const char* heat(const ElementStats& s) {
  const double error = s.rel_l2();
  if (s.special > 0 || s.both_nonfinite > 0 || std::isnan(error)) return "!";
  if (s.max_abs_delta == 0) return "·";
  for (const auto& step : kHeat)
    if (error < step.below) return step.block;
  return kHeat.back().block;
}

std::string optional_share(const std::optional<double>& v) { return v ? fmt::format("{:.4f}", *v) : "n/a"; }

void print_row(const std::string& name, const ElementStats& s, std::uint64_t pm_min_count) {
  fmt::print(
      "{:>9} {:>10} {:>9.3g} {:>7} {:>7} {:>10.2e} {:>10.2e} {:>9.2e} {:>8.5f} {:>9.4f} {:>8} {:>10} {:>10} {:>7}\n",
      name, s.count, s.pe(), optional_share(s.pm(pm_min_count)), optional_share(s.pw()), s.mean_error_signed(),
      s.mean_error_abs(), s.rel_l2(), s.cosine(), s.share_bit_equal(), s.ulp_quantile(0.5), s.ulp_quantile(0.99),
      s.ulp_max, s.special);
}

void print_partition(const ElementStats& s) {
  const auto share = [&](std::uint64_t n) {
    return fmt::format("{} ({:.3g} %)", n, 100.0 * static_cast<double>(n) / static_cast<double>(s.count));
  };
  fmt::print(
      "\nof {} elements: exact {}, exponent match |d|<=0.2 {}, >0.2 {}, exponent mismatch |d|<=5 {}, >5 {}, special "
      "{}\n",
      s.count, share(s.partition[0]), share(s.partition[1]), share(s.partition[2]), share(s.partition[3]),
      share(s.partition[4]), share(s.special));
  fmt::print("sign flips {}, e_rel {:.3e}, NMSE {:.3e}, largest |d| {:.4g}\n", share(s.sign_flips), s.relative_error(),
             s.nmse(), s.max_abs_delta);
}

// Every captured layer; the total leaves the embedding output out, because it only repeats a table lookup.
void print_metrics(const Comparison& c, std::uint64_t pm_min_count) {
  fmt::print("{:>9} {:>10} {:>9} {:>7} {:>7} {:>10} {:>10} {:>9} {:>8} {:>9} {:>8} {:>10} {:>10} {:>7}\n", "layer",
             "elements", "Pe", "Pm", "Pw", "mean", "mean|d|", "rel_L2", "cosine", "bit-equal", "ulp p50", "ulp p99",
             "ulp max", "special");
  ElementStats total;
  std::string strip;
  for (const auto& layer : c.layers) {
    print_row(std::to_string(layer.layer), layer.stats, pm_min_count);
    strip += heat(layer.stats);
    if (layer.layer != 0) total.merge(layer.stats);
  }
  if (total.count > 0) {
    print_row("1 and up", total, pm_min_count);
    print_partition(total);
  }
  fmt::print("\nrel_L2 by layer, {} to {}:  {}\n    {}\n", c.layers.front().layer, c.layers.back().layer, strip,
             kHeatLegend);
}

// Accepted share of each judged layer, in eighths.
std::string rate_strip(const Comparison& c) {
  static constexpr std::array<const char*, 9> kEighths{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string out;
  for (const auto& l : c.layers) out += l.cells == 0 ? "·" : kEighths[l.accepted * 8 / l.cells];
  return out;
}

const char* colour(Verdict v, bool on) {
  if (!on) return "";
  return v == Verdict::kAccept ? "\033[32m" : v == Verdict::kReject ? "\033[31m" : "\033[33m";
}

void print_verdict(const Comparison& c) {
  const bool on = ::isatty(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr;
  fmt::print("\n{:<8} {}{}{}  {}\n", c.profile, colour(c.verdict, on), verdict_name(c.verdict), on ? "\033[0m" : "",
             c.rule);
  if (c.cells > 0) {
    const Interval i = wilson95(c.accepted, c.cells);
    fmt::print("         accept rate {}/{} {}s, 95 % interval {:.4f} to {:.4f}; by layer |{}|\n", c.accepted, c.cells,
               c.unit, i.low, i.high, rate_strip(c));
  }
  if (c.first_failure)
    fmt::print("         first failure: layer {}, position {}: {}\n", c.first_failure->layer, c.first_failure->position,
               c.first_failure->rule);
  for (const auto& note : c.notes) fmt::print("         note: {}\n", note);
}

void print_text(const Capture& a, const Capture& b, const std::vector<Comparison>& results,
                const std::vector<Profile>& profiles) {
  const auto& h = a.header();
  fmt::print("subject    {}\nreference  {}\n", a.path(), b.path());
  fmt::print("workload   {}: {} layers, {} positions, {} elements each\n",
             h.workload_id.empty() ? h.workload_digest.substr(0, 16) : h.workload_id, h.layers.size(),
             h.positions.size(), h.hidden);
  if (!results.front().dtype_note.empty()) fmt::print("dtype      {}\n", results.front().dtype_note);
  fmt::print("\n");
  print_metrics(results.front(), profiles.front().pm_min_count);
  for (const auto& c : results) print_verdict(c);
}

void print_json(const Capture& a, const Capture& b, const std::vector<Comparison>& results, bool verified) {
  OrderedJson out{
      {"schema", "concord.comparison/1"}, {"subject", a.path()}, {"reference", b.path()}, {"roots_verified", verified}};
  out["comparisons"] = OrderedJson::array();
  for (const auto& c : results) out["comparisons"].push_back(to_json(c));
  std::cout << out.dump(2) << "\n";
}

// --- what is done ------------------------------------------------------------------------------------------------

Result<std::vector<Profile>> load_profiles(const Options& o) {
  std::vector<Profile> out;
  for (const auto& name : o.profiles) {
    CONCORD_TRY(Profile p, Profile::load(name));
    if (o.tau_m) p.parameters.tau_m = *o.tau_m;
    if (o.tau_w) p.parameters.tau_w = *o.tau_w;
    out.push_back(std::move(p));
  }
  return out;
}

Result<Capture> open_capture(const std::string& path, bool verify) {
  CONCORD_TRY(Capture c, Capture::open(path));
  if (verify) CONCORD_CHECK(c.verify());
  return c;
}

// An undecided comparison must not look green: 6, unless the caller allowed it.
int exit_of(const std::vector<Comparison>& results, bool allow_inconclusive) {
  const auto any = [&](Verdict v) {
    return std::ranges::any_of(results, [v](const Comparison& c) { return c.verdict == v; });
  };
  if (any(Verdict::kReject)) return exit_codes::kConformance;
  const bool accepted = any(Verdict::kAccept);
  if (any(Verdict::kInconclusive) && !(allow_inconclusive && accepted)) return exit_codes::kInconclusive;
  return exit_codes::kOk;
}

Result<int> run(const Options& o) {
  CONCORD_TRY(const std::vector<Profile> profiles, load_profiles(o));
  CONCORD_TRY(const Capture subject, open_capture(o.subject, !o.no_verify));
  CONCORD_TRY(const Capture reference, open_capture(o.reference, !o.no_verify));
  if (o.no_verify)
    std::cerr << "concord: WARNING: --no-verify: the Merkle roots were NOT recomputed; the captures may not be what "
                 "was committed to\n";
  CONCORD_TRY(const std::vector<Comparison> results, compare(subject, reference, profiles, o.context));
  if (o.json)
    print_json(subject, reference, results, !o.no_verify);
  else
    print_text(subject, reference, results, profiles);
  return exit_of(results, o.allow_inconclusive);
}

void add_options(CLI::App& command, Options& o) {
  command.add_option("SUBJECT", o.subject, "capture of the prover")->required();
  command.add_option("REFERENCE", o.reference, "capture of the verifier")->required();
  command.add_option("--profile", o.profiles, "names or files of profiles, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command.add_option("--activations", o.context.activations,
                     "key of a calibrated profile's limits (default: the dtype that is judged)");
  command.add_option("--class", o.context.class_name,
                     "experiment class, key of a calibrated profile's limits (default: entries for any class only)");
  command.add_option("--tau-m", o.tau_m, "large mantissa gap, overrides every profile")->check(CLI::Range(0.0, 1.0));
  command.add_option("--tau-w", o.tau_w, "small mantissa gap, overrides every profile")->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--threads", o.context.threads,
                  "at most so many threads; the result does not depend on it (default: all)")
      ->check(CLI::Range(1, 4096));
  command.add_flag("--ignore-nonce", o.context.ignore_nonce, "compare captures of independent runs");
  command.add_flag("--no-verify", o.no_verify, "do not recompute the Merkle roots first");
  command.add_flag("--allow-inconclusive", o.allow_inconclusive,
                   "exit 0 when some profiles accept and the others are inconclusive");
  command.add_flag("--json", o.json, "print JSON");
}

}  // namespace

void add_compare_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("compare", "Compare two captures and judge them by profiles");
  add_options(*command, *options);
  command->footer(
      "Exit status: 0 accepted by every profile, 1 rejected by any, 2 bad input, 6 undecided (see "
      "--allow-inconclusive).");
  command->callback([options, &context] {
    const auto result = run(*options);
    if (!result) return context.fail(result.error());
    context.exit = *result;
  });
}

}  // namespace concord::cli
