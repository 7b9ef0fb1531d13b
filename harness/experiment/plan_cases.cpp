// Which comparisons a run makes, and on which devices.
#include <fmt/format.h>

#include <algorithm>

#include "experiment/experiment.hpp"

namespace concord {
namespace {

// The devices of one plug-in and variant differ; "heterogeneous" on one machine means different variants.
std::vector<std::pair<std::string, std::string>> pairs_of(const ExperimentSpec& e,
                                                          const std::vector<std::string>& devices) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& a : devices)
    for (const std::string& b : devices)
      if ((a == b) != e.cross) out.emplace_back(a, b);
  return out;
}

bool wanted(const ExperimentSpec& e, const Workload& w) {
  return e.prompts.empty() || std::ranges::find(e.prompts, w.id) != e.prompts.end();
}

// Unit k of a pair (a prompt and a trial, counted over all prompts of the run) belongs to member k mod n. Its verifier
// is the next member, so that different devices judge each other. A prover's run depends on prompt and trial alone: it
// has one place, whichever experiments ask for it.
void place(PlannedCase& c, const std::vector<std::string>& pool, std::size_t unit) {
  c.prover_on = c.prover, c.verifier_on = c.verifier;
  if (pool.empty()) return;
  const bool proves = c.prover == pool.front(), verifies = c.verifier == pool.front();
  const std::size_t member = unit % pool.size();
  if (proves) c.prover_on = pool[member];
  if (verifies) c.verifier_on = pool[proves ? (member + 1) % pool.size() : member];
  c.track = proves || verifies ? member : pool.size();
}

}  // namespace

std::vector<PlannedCase> plan_cases(const std::vector<ExperimentSpec>& experiments, const RunSettings& s) {
  std::vector<PlannedCase> out;
  for (const ExperimentSpec& e : experiments)
    for (const auto& [prover, verifier] : pairs_of(e, s.devices))
      for (std::size_t prompt = 0; prompt < s.workloads.size(); ++prompt) {
        const Workload& w = s.workloads[prompt];
        if (!wanted(e, w)) continue;
        for (std::int64_t trial = 0; trial < s.trials; ++trial)
          for (std::size_t v = 0; v < e.verifiers.size(); ++v) {
            PlannedCase& c = out.emplace_back();
            c.experiment = &e, c.prover = prover, c.verifier = verifier, c.workload = &w, c.trial = trial,
            c.verifier_index = v;
            c.id = fmt::format("{}/{}>{}/{}/t{}/v{}", e.id, prover, verifier, w.id, trial, v);
            place(c, s.pool, prompt * static_cast<std::size_t>(s.trials) + static_cast<std::size_t>(trial));
          }
      }
  return out;
}

}  // namespace concord
