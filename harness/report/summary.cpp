#include "report/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace concord {
namespace {

double number(const OrderedJson& j, const char* key, double fallback = NAN) {
  const auto it = j.find(key);
  return it != j.end() && it->is_number() ? it->get<double>() : fallback;
}
std::string text(const OrderedJson& j, const char* key) {
  const auto it = j.find(key);
  return it != j.end() && it->is_string() ? it->get<std::string>() : "";
}
std::uint64_t count_of(const OrderedJson& j, const char* key) {
  const double v = number(j, key, 0);
  return v > 0 ? static_cast<std::uint64_t>(v) : 0;
}
const OrderedJson& child(const OrderedJson& j, const char* key) {
  static const OrderedJson empty = OrderedJson::object();
  const auto it = j.find(key);
  return it != j.end() ? *it : empty;
}

bool judged(CaseStatus s) { return s == CaseStatus::kPass || s == CaseStatus::kFail || s == CaseStatus::kInconclusive; }

void add_metrics(Metrics& m, const OrderedJson& total) {
  const std::pair<Mean*, const char*> table[] = {{&m.pe, "pe"},
                                                 {&m.pm, "pm"},
                                                 {&m.pw, "pw"},
                                                 {&m.mean_signed, "mean_error_signed"},
                                                 {&m.mean_abs, "mean_error_abs"},
                                                 {&m.rel_l2, "rel_l2"},
                                                 {&m.bit_equal, "bit_equal"}};
  for (const auto& [mean, key] : table) mean->add(number(total, key));
}

void add_profiles(GroupSummary& g, const OrderedJson& profiles, const std::string& decide) {
  for (const auto& [name, p] : profiles.items()) {
    ProfileSummary& s = g.profiles[name];
    s.rate.add({count_of(p, "accepted"), count_of(p, "cells")});
    const std::string verdict = text(p, "verdict");
    ++(verdict == "ACCEPT" ? s.accept : verdict == "REJECT" ? s.reject : s.inconclusive);
    for (const OrderedJson& layer : child(p, "layers")) {
      const auto index = static_cast<std::int64_t>(number(layer, "layer", -1));
      g.layers[index][name].add({count_of(layer, "accepted"), count_of(layer, "cells")});
    }
    if (name == decide) add_metrics(g.metrics, child(p, "total"));
  }
}

void add_cost(Cost& c, const OrderedJson& cost) {
  if (cost.empty()) return;
  ++c.comparisons;
  c.generate += number(cost, "generate_prefill_seconds", 0) + number(cost, "generate_decode_seconds", 0);
  c.verify += number(cost, "verify_prefill_seconds", 0);
  c.token_check += number(cost, "verify_logits_seconds", 0);
  c.prompt_tokens = count_of(cost, "prompt_tokens");
  c.new_tokens = count_of(cost, "new_tokens");
}

void add_record(GroupSummary& g, const Record& r) {
  ++g.statuses[r.status];
  if (r.status != CaseStatus::kPass) g.reasons.push_back(fmt::format("{}: {}: {}", r.id, status_name(r.status), r.reason));
  add_profiles(g, child(r.body, "profiles"), text(r.body, "decide"));
  for (const OrderedJson& layer : child(r.body, "layers"))
    g.layer_rel_l2[static_cast<std::int64_t>(number(layer, "layer", -1))].add(number(child(layer, "stats"), "rel_l2"));
  const OrderedJson& tokens = child(r.body, "tokens");
  g.tokens += static_cast<std::int64_t>(count_of(tokens, "tokens"));
  g.tokens_equal += static_cast<std::int64_t>(count_of(tokens, "equal"));
  g.tokens_within += static_cast<std::int64_t>(count_of(tokens, "within"));
  add_cost(g.cost, child(r.body, "cost"));
}

// The members of a pool are one side: which of them ran a case says nothing about the model.
std::string side(const OrderedJson& j) { return fmt::format("{} {}", text(j, j.contains("pool") ? "pool" : "device"), text(j, "precision")); }

ExperimentSummary& experiment_of(std::vector<ExperimentSummary>& all, const Record& r) {
  const auto it = std::ranges::find(all, r.experiment, &ExperimentSummary::id);
  if (it != all.end()) return *it;
  ExperimentSummary e;
  e.id = r.experiment;
  e.title = text(r.body, "title");
  e.class_name = text(r.body, "class");
  e.expect = text(r.body, "expect");
  e.decide = text(r.body, "decide");
  e.seed_accept_rate_min = number(r.body, "seed_accept_rate_min", 0);
  return all.emplace_back(std::move(e));
}

GroupSummary& pair_of(ExperimentSummary& e, const Record& r) {
  const std::string prover = side(child(r.body, "prover")), verifier = side(child(r.body, "verifier"));
  for (GroupSummary& g : e.pairs)
    if (g.prover == prover && g.verifier == verifier) return g;
  GroupSummary g;
  g.prover = prover;
  g.verifier = verifier;
  return e.pairs.emplace_back(std::move(g));
}

}  // namespace

void Mean::add(double v) {
  if (!std::isfinite(v)) return;
  sum += v;
  max = n == 0 ? std::fabs(v) : std::max(max, std::fabs(v));
  ++n;
}

std::uint64_t GroupSummary::cases() const {
  std::uint64_t n = 0;
  for (const auto& [status, c] : statuses) n += c;
  return n;
}

std::uint64_t GroupSummary::count(CaseStatus s) const {
  const auto it = statuses.find(s);
  return it == statuses.end() ? 0 : it->second;
}

bool ExperimentSummary::met() const { return total.cases() > 0 && total.count(CaseStatus::kPass) == total.cases(); }

RunSummary summarize(const std::vector<Record>& records, std::uint64_t required, const std::vector<std::string>& empty_experiments) {
  RunSummary run;
  run.required = required;
  run.empty_experiments = empty_experiments;
  for (const Record& r : records) {
    ExperimentSummary& e = experiment_of(run.experiments, r);
    add_record(e.total, r);
    add_cost(e.costs[text(r.body, "prompt")], child(r.body, "cost"));
    add_record(pair_of(e, r), r);
    for (const auto& [name, unused] : child(r.body, "profiles").items())
      if (std::ranges::find(e.profile_names, name) == e.profile_names.end()) e.profile_names.push_back(name);
    run.executed += judged(r.status);
    run.passed += r.status == CaseStatus::kPass;
  }
  return run;
}

int RunSummary::exit_code() const {
  std::uint64_t failed = 0, inconclusive = 0;
  for (const ExperimentSummary& e : experiments) {
    failed += e.total.count(CaseStatus::kFail);
    inconclusive += e.total.count(CaseStatus::kInconclusive);
    for (const CaseStatus s : {CaseStatus::kError, CaseStatus::kCrash, CaseStatus::kTimeout, CaseStatus::kOom}) failed += e.total.count(s);
  }
  if (failed > 0) return exit_codes::kConformance;
  if (executed == 0 || executed < required || !empty_experiments.empty()) return exit_codes::kNothingRun;
  return inconclusive > 0 ? exit_codes::kInconclusive : exit_codes::kOk;
}

std::string RunSummary::verdict_line(const std::string& devices) const {
  const bool green = exit_code() == exit_codes::kOk;
  std::string line = fmt::format("{}: {} executed of {} required, {} as expected, on {}", green ? "GREEN" : "RED", executed, required, passed, devices);
  for (const std::string& e : empty_experiments) line += fmt::format("; {} could not run: no pair of devices fits", e);
  return line;
}

}  // namespace concord
