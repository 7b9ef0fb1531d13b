#include "bench/op_verify.hpp"

#include <fmt/format.h>

#include "digest/digest.hpp"

namespace concord::bench {
namespace {

using conformance::Decision;
using conformance::Evidence;
using conformance::Outcome;
using conformance::Problem;

std::string digest_of(const Problem& problem, std::span<const std::byte> arena) {
  Hasher hash;
  for (const conformance::Operand& o : problem.outputs) hash.update(arena.subspan(o.offset, o.bytes));
  return hex(hash.finish());
}

// Of the first and the last call: what is wrong by itself before what is only different.
Decision worse_of(const Decision& first, Decision last) {
  const auto alone = [](const Decision& d) { return d.status != CaseStatus::kPass && d.check != "determinism"; };
  if (alone(first)) return first;
  if (last.status != CaseStatus::kPass) last.reason = fmt::format("last timed call: {}", last.reason);
  return alone(last) || first.status == CaseStatus::kPass ? last : first;
}

Outcome outcome_of(const Error& error) {
  struct Row {
    const char* code;
    Outcome outcome;
  };
  constexpr Row kRows[] = {{"device.unsupported", Outcome::kUnsupported},
                           {"bench.no_sweep", Outcome::kUnsupported},
                           {"device.out_of_memory", Outcome::kOom},
                           {"device.invalid_call", Outcome::kRefused}};
  for (const Row& row : kRows)
    if (error.code == row.code) return row.outcome;
  return Outcome::kError;
}

}  // namespace

Verification verify(const Problem& problem, const conformance::Expectation& expectation,
                    std::span<const std::byte> inputs, const TimedOutputs& outputs, const Witnessed& witnessed,
                    const std::string& changed_input, const std::string& witness) {
  Evidence common;
  common.outcome = Outcome::kCompleted;
  common.kernel = witnessed.kernel, common.fallbacks = witnessed.fallbacks, common.declared = witnessed.declared;
  common.other_kernels.assign(witnessed.others.begin(), witnessed.others.end());
  common.changed_input = changed_input;
  common.math_mode = expectation.mode.name();
  const std::string first = digest_of(problem, outputs.first);
  const auto repeat = [&](const std::vector<std::byte>& arena) {
    if (arena.empty()) return;
    ++common.again.repeats;
    common.again.repeats_equal += digest_of(problem, arena) == first;
  };
  repeat(outputs.last);
  repeat(outputs.unverified);
  Verification v{common, common, {}};
  v.first.output_digest = first, v.last.output_digest = digest_of(problem, outputs.last);
  v.first.outputs = judge_outputs(problem, expectation, inputs, outputs.first);
  v.last.outputs = judge_outputs(problem, expectation, inputs, outputs.last);
  v.decision = worse_of(decide(problem.spec, v.first, witness), decide(problem.spec, v.last, witness));
  return v;
}

Verification refused(const Problem& problem, const Error& error) {
  Evidence e;
  e.outcome = outcome_of(error), e.message = error.to_string();
  return {e, e, decide(problem.spec, e)};
}

}  // namespace concord::bench
