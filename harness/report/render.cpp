#include "report/render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "report/table.hpp"

namespace concord {
namespace {

std::string rate_text(const Rate& r) {
  if (r.cells == 0) return "-";
  const Interval i = r.interval();
  return fmt::format("{:.4f} [{:.4f}, {:.4f}]", r.value(), i.low, i.high);
}
std::string mean_text(const Mean& m) { return m.n ? fmt::format("{:.3g}", m.value()) : "n/a"; }
const ProfileSummary& profile_of(const GroupSummary& g, const std::string& name) {
  static const ProfileSummary none;
  const auto it = g.profiles.find(name);
  return it == g.profiles.end() ? none : it->second;
}
std::string outcome(const ExperimentSummary& e) {
  if (e.met()) return "as expected";
  std::string out;
  for (const auto& [status, n] : e.total.statuses)
    if (status != CaseStatus::kPass) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", n, status_name(status));
  return out.empty() ? "NOT_RUN" : out;
}
std::string cost_text(const Cost& c) {
  if (c.generate <= 0) return "-";
  return fmt::format("{:.1f} % (+{:.1f} % token check)", 100 * c.verify / c.generate, 100 * c.token_check / c.generate);
}

// The columns of the experiment and pair tables: one line each.
struct Column {
  const char* title;
  std::function<std::string(const ExperimentSummary&, const GroupSummary&)> cell;
};
const std::vector<Column>& columns() {
  using E = const ExperimentSummary&;
  using G = const GroupSummary&;
  static const std::vector<Column> table = {
      {"expect", [](E e, G) { return e.expect; }},
      {"cases", [](E, G g) { return fmt::format("{}/{}", g.count(CaseStatus::kPass), g.cases()); }},
      {"accept rate [Wilson 95 %]", [](E e, G g) { return rate_text(profile_of(g, e.decide).rate); }},
      {"Pe", [](E, G g) { return mean_text(g.metrics.pe); }},
      {"Pm", [](E, G g) { return mean_text(g.metrics.pm); }},
      {"Pw", [](E, G g) { return mean_text(g.metrics.pw); }},
      {"mean error", [](E, G g) { return mean_text(g.metrics.mean_signed); }},
      {"mean abs error", [](E, G g) { return mean_text(g.metrics.mean_abs); }},
      {"rel L2", [](E, G g) { return mean_text(g.metrics.rel_l2); }},
      {"bit-equal", [](E, G g) { return mean_text(g.metrics.bit_equal); }},
      {"tokens equal", [](E, G g) { return fmt::format("{}/{}", g.tokens_equal, g.tokens); }},
      {"verify / generate", [](E, G g) { return cost_text(g.cost); }},
  };
  return table;
}

Table experiment_table(const RunSummary& run) {
  Table t{{"experiment"}};
  for (const Column& c : columns()) t[0].push_back(c.title);
  t[0].push_back("outcome");
  for (const ExperimentSummary& e : run.experiments) {
    auto& row = t.emplace_back(std::vector<std::string>{e.id});
    for (const Column& c : columns()) row.push_back(c.cell(e, e.total));
    row.push_back(outcome(e));
  }
  return t;
}

Table pair_table(const ExperimentSummary& e) {
  Table t{{"prover", "verifier"}};
  for (const Column& c : columns()) t[0].push_back(c.title);
  for (const GroupSummary& g : e.pairs) {
    auto& row = t.emplace_back(std::vector<std::string>{g.prover, g.verifier});
    for (const Column& c : columns()) row.push_back(c.cell(e, g));
  }
  return t;
}

// What each published rule would have said, and whether that separates honest from dishonest.
Table profile_table(const RunSummary& run) {
  Table t{{"experiment", "expect", "profile", "decides", "accept rate [Wilson 95 %]", "ACCEPT / REJECT / INCONCLUSIVE", "agrees with the expectation"}};
  for (const ExperimentSummary& e : run.experiments)
    for (const std::string& name : e.profile_names) {
      const ProfileSummary& p = profile_of(e.total, name);
      const std::uint64_t all = p.accept + p.reject + p.inconclusive, right = e.expect == "accept" ? p.accept : p.reject;
      std::string agrees = all == 0 ? "-" : right == all ? "yes" : right == 0 ? "NO" : fmt::format("in {} of {}", right, all);
      t.push_back({e.id, e.expect, name, name == e.decide ? "yes" : "", rate_text(p.rate), fmt::format("{} / {} / {}", p.accept, p.reject, p.inconclusive), agrees});
    }
  return t;
}

Table seed_table(const RunSummary& run) {
  Table t{{"experiment", "seed accept rate", "seed PASS line", "seed says", "expectation here"}};
  for (const ExperimentSummary& e : run.experiments) {
    const Rate& r = profile_of(e.total, "seed").rate;
    if (r.cells == 0 || e.seed_accept_rate_min <= 0) continue;
    t.push_back({e.id, rate_text(r), fmt::format("> {:.2f}", e.seed_accept_rate_min), r.value() > e.seed_accept_rate_min ? "PASS" : "FAIL", e.expect});
  }
  return t;
}

Table layer_table(const ExperimentSummary& e) {
  Table t{{"hidden state"}};
  for (const std::string& name : e.profile_names) t[0].push_back("accept rate, " + name);
  t[0].push_back("rel L2 mean");
  t[0].push_back("rel L2 max");
  for (const auto& [layer, rates] : e.total.layers) {
    auto& row = t.emplace_back(std::vector<std::string>{std::to_string(layer)});
    for (const std::string& name : e.profile_names) {
      const auto it = rates.find(name);
      row.push_back(it == rates.end() || it->second.cells == 0 ? "not judged" : rate_text(it->second));
    }
    const auto l2 = e.total.layer_rel_l2.find(layer);
    row.push_back(l2 == e.total.layer_rel_l2.end() ? "-" : mean_text(l2->second));
    row.push_back(l2 == e.total.layer_rel_l2.end() ? "-" : fmt::format("{:.3g}", l2->second.max));
  }
  return t;
}

// Verification against generation, by prompt, because the ratio depends on the lengths.
Table cost_table(const ExperimentSummary& e) {
  Table t{{"prompt", "prompt tokens", "new tokens", "comparisons", "generate, mean s", "verify, mean s", "token check, mean s", "verify / generate"}};
  for (const auto& [prompt, c] : e.costs) {
    if (c.comparisons == 0) continue;
    const auto mean = [&](double sum) { return fmt::format("{:.3f}", sum / static_cast<double>(c.comparisons)); };
    t.push_back({prompt, std::to_string(c.prompt_tokens), std::to_string(c.new_tokens), std::to_string(c.comparisons), mean(c.generate), mean(c.verify),
                 mean(c.token_check), fmt::format("{:.1f} %", c.generate > 0 ? 100 * c.verify / c.generate : 0)});
  }
  return t;
}

std::string failures(const RunSummary& run, std::size_t limit) {
  std::string out;
  std::size_t n = 0;
  for (const ExperimentSummary& e : run.experiments)
    for (const std::string& reason : e.total.reasons) {
      if (n++ < limit) out += "- " + reason + "\n";
    }
  if (n > limit) out += fmt::format("- and {} more, in records.jsonl\n", n - limit);
  return out;
}

}  // namespace

std::string terminal_report(const RunSummary& run, const ReportContext& context) {
  std::string out = fmt::format("model     {}\nworkload  {}\ndevices   {}\n\n", context.model, context.workload, context.devices);
  out += aligned(experiment_table(run)) + "\n";
  if (const Table seed = seed_table(run); seed.size() > 1) out += aligned(seed) + "\n";
  if (const std::string bad = failures(run, 10); !bad.empty()) out += "not as expected:\n" + bad + "\n";
  for (const std::string& note : context.notes) out += "note: " + note + "\n";
  return out + "\n" + run.verdict_line(context.devices) + "\n";
}

std::string markdown_report(const RunSummary& run, const ReportContext& context) {
  std::string out = fmt::format("# Verification report: {}\n\n**{}**\n\n", context.model, run.verdict_line(context.devices));
  out += fmt::format("Workload `{}`. {}.\n\n", context.workload, machine_text(context.provenance));
  out += fmt::format("```\n{}\n```\n\n", context.command);
  for (const std::string& note : context.notes) out += note + "\n\n";
  out += "## Experiments\n\n" + markdown(experiment_table(run));
  out += "\nPe, Pm, Pw, errors and relative L2 are means over the comparisons of their value over all judged cells; `accept rate` counts cells under the deciding "
         "profile. `verify / generate` is wall-clock time of one teacher-forced prefill over prompt and answer, against prefill and decode with a KV cache.\n";
  out += "\n![accept rate by hidden state](accept-rate.svg)\n";
  out += "\n## Profiles\n\n" + markdown(profile_table(run));
  if (const Table seed = seed_table(run); seed.size() > 1)
    out += "\n## The seed's own PASS lines\n\nverillm-experiments calls an experiment passed when its accept rate, embedding output included, is above a line, "
           "whether or not the prover was honest. Shown for comparison; the expectation column says what an honest judge should conclude.\n\n" + markdown(seed);
  for (const ExperimentSummary& e : run.experiments) {
    out += fmt::format("\n## {}: {}\n\nClass {}, expected: {}, decided by `{}`.\n\n", e.id, e.title, e.class_name, e.expect, e.decide);
    out += markdown(pair_table(e)) + "\n" + markdown(layer_table(e)) + "\n" + markdown(cost_table(e));
  }
  if (!context.outputs.empty()) out += "\n## Generated text\n\n";
  for (const std::string& line : context.outputs) out += "- " + line + "\n";
  if (const std::string bad = failures(run, 50); !bad.empty()) out += "\n## Not as expected\n\n" + bad;
  return out;
}

}  // namespace concord
