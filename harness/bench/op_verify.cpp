#include "bench/op_verify.hpp"

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
  v.decision = decide(problem.spec, v.first, witness);
  if (!v.passed()) return v;
  v.decision = decide(problem.spec, v.last, witness);
  if (!v.passed()) v.decision.reason = "last timed call: " + v.decision.reason;
  return v;
}

Verification refused(const Problem& problem, const Error& error) {
  Evidence e;
  e.outcome = outcome_of(error), e.message = error.to_string();
  return {e, e, decide(problem.spec, e)};
}

}  // namespace concord::bench
