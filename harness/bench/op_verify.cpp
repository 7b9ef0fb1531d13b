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

// Of several calls: what is wrong by itself before what is only different.
Decision worst_of(const std::vector<std::pair<const char*, Decision>>& calls) {
  for (const bool alone : {true, false})
    for (auto [name, d] : calls) {
      if (d.status == CaseStatus::kPass || (alone && d.check == "determinism")) continue;
      d.reason = fmt::format("{}: {}", name, d.reason);
      return d;
    }
  return calls.front().second;
}

}  // namespace

Verification verify(const Problem& problem, const Wanted& timed, const Wanted& fresh, const TimedOutputs& outputs,
                    const Witnessed& witnessed, const std::string& changed_input, const std::string& witness) {
  Evidence common;
  common.outcome = Outcome::kCompleted;
  common.kernel = witnessed.kernel, common.fallbacks = witnessed.fallbacks, common.declared = witnessed.declared;
  common.other_kernels.assign(witnessed.others.begin(), witnessed.others.end());
  common.changed_input = changed_input;
  common.math_mode = timed.expectation->mode.name();
  const std::string first = digest_of(problem, outputs.first);
  const auto repeat = [&](const std::vector<std::byte>& arena) {
    if (arena.empty()) return;
    ++common.again.repeats;
    common.again.repeats_equal += digest_of(problem, arena) == first;
  };
  repeat(outputs.last);
  repeat(outputs.unverified);
  const auto judged = [&](const Wanted& wanted, const std::vector<std::byte>& arena) {
    Evidence e = common;
    e.output_digest = digest_of(problem, arena);
    e.outputs = judge_outputs(problem, *wanted.expectation, wanted.inputs, arena);
    return e;
  };
  Verification v{judged(timed, outputs.first), judged(timed, outputs.last), judged(fresh, outputs.fresh), {}};
  v.decision = worst_of({{"first timed call", decide(problem.spec, v.first, witness)},
                         {"last timed call", decide(problem.spec, v.last, witness)},
                         {"call on other inputs", decide(problem.spec, v.fresh, witness)}});
  return v;
}

Verification refused(const Problem& problem, const Error& error) {
  Evidence e;
  e.outcome = error.code == "bench.no_sweep" ? Outcome::kUnsupported : conformance::outcome_of(error);
  e.message = error.to_string();
  return {e, e, e, decide(problem.spec, e)};
}

}  // namespace concord::bench
