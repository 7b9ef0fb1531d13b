// `concord judge`: every verdict of a bundle derived again, on any machine and without the device (docs/bundles.md says
// what that can show and what it cannot).
#pragma once
#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "conformance/bundle/bundle_contents.hpp"
#include "conformance/run/verdict.hpp"

namespace concord::conformance {

struct JudgeSettings {
  std::string lists;    // folder with further required lists to trust; empty: only this program's own
  std::string waivers;  // folder with further waivers to trust
  Recompute recompute = Recompute::kWorst;
  double cost_limit = Ground{}.cost_limit;
  std::string today;  // "2026-11-21"
  std::function<void(const std::string& what, std::uint64_t done, std::uint64_t total)> progress;
};

struct JudgedBundle {
  Bundle bundle;
  BundleContents contents;          // records as they were claimed
  std::vector<CaseRecord> records;  // as they were derived again
  std::uint64_t from_outputs = 0, from_oracle = 0, from_numbers = 0;
  std::vector<std::string>
      contradictions;  // "cpu:avx2 add/...: the record claims PASS, its numbers say FAIL"; each is a FAIL
  std::vector<std::string>
      doubts;  // what keeps the verdict from being GREEN: lists and waivers of others, another seed
  std::vector<std::string> notes;
  Verdict verdict;
};

// Errors: bundle.* and what read_contents() says (exit 2: malformed or changed), session.interrupted.
Result<JudgedBundle> judge_bundle(const std::string& folder, const JudgeSettings& settings,
                                  const std::atomic<bool>& stop);

// One verdict over several bundles: the devices of all, the worst exit code. Green only when each is.
Verdict join_verdicts(const std::vector<JudgedBundle>& bundles);

// What of a bundle is not this program's: definitions that say something else (an error, with the field), lists and
// waivers.
Result<std::set<std::string>> same_definitions(const Bundle& bundle);  // the operators that are defined
struct Trust {
  std::vector<RequiredList>
      lists;  // to judge by: the bundle's, and this program's for devices for which the bundle has none
  std::vector<std::string> doubts, notes;
  std::vector<std::string> foreign_waivers;  // ids
};
Result<Trust> trust_in(const Bundle& bundle, const BundleContents& contents, const JudgeSettings& settings);

}  // namespace concord::conformance
