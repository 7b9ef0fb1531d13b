// What a set of records says: one summary for each experiment and each pair of devices. Everything a report shows is a loop over these.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compare/compare.hpp"
#include "experiment/record.hpp"

namespace concord {

struct Rate {
  std::uint64_t accepted = 0, cells = 0;
  double value() const { return cells ? static_cast<double>(accepted) / static_cast<double>(cells) : 0; }
  Interval interval() const { return wilson95(accepted, cells); }
  void add(const Rate& o) { accepted += o.accepted, cells += o.cells; }
};

// A mean over comparisons where the quantity is defined, and the extreme that matters.
struct Mean {
  double sum = 0, max = 0;
  std::uint64_t n = 0;
  void add(double v);
  double value() const { return n ? sum / static_cast<double>(n) : 0; }
};

struct ProfileSummary {
  Rate rate;
  std::uint64_t accept = 0, reject = 0, inconclusive = 0;  // verdicts over comparisons
};

struct Cost {  // sums over comparisons [seconds]
  double generate = 0, verify = 0, token_check = 0;
  std::uint64_t comparisons = 0, prompt_tokens = 0, new_tokens = 0;  // tokens of one comparison
};

// Quantities over all judged cells of the comparisons.
struct Metrics {
  Mean pe, pm, pw, mean_signed, mean_abs, rel_l2, bit_equal;
};

struct GroupSummary {
  std::string prover, verifier;                 // device ids with precision; empty in the total
  std::map<CaseStatus, std::uint64_t> statuses;
  std::map<std::string, ProfileSummary> profiles;
  std::map<std::int64_t, std::map<std::string, Rate>> layers;   // layer -> profile -> rate
  std::map<std::int64_t, Mean> layer_rel_l2;
  Metrics metrics;
  std::int64_t tokens = 0, tokens_equal = 0, tokens_within = 0;
  Cost cost;
  std::vector<std::string> reasons;             // of the cases that are not PASS: "id: STATUS: reason"
  std::uint64_t cases() const;
  std::uint64_t count(CaseStatus s) const;
};

struct ExperimentSummary {
  std::string id, title, class_name, expect, decide;
  double seed_accept_rate_min = 0;
  std::vector<std::string> profile_names;
  GroupSummary total;
  std::vector<GroupSummary> pairs;
  std::map<std::string, Cost> costs;   // by prompt: the ratio depends on the lengths
  bool met() const;  // every case PASS, and at least one
};

struct RunSummary {
  std::vector<ExperimentSummary> experiments;
  std::uint64_t required = 0, executed = 0, passed = 0;  // executed: judged, whatever the outcome
  std::vector<std::string> empty_experiments;            // planned, but no pair of devices fits
  // 0 green; 5 nothing or less than required executed; 1 a judged case contradicts its expectation; 6 some are inconclusive.
  int exit_code() const;
  std::string verdict_line(const std::string& devices) const;  // "GREEN: 60 executed of 60 required, all as expected, on cpu:avx2, ..."
};

// `required`: the number of cases that the plan demanded. Records are taken in their order.
RunSummary summarize(const std::vector<Record>& records, std::uint64_t required, const std::vector<std::string>& empty_experiments);

}  // namespace concord
