// Whether what was timed computed what it had to: the outputs of the first and of the last timed call, by the oracle
// and the rules of operator conformance.
#pragma once
#include <string>
#include <vector>

#include "bench/op_sampler.hpp"
#include "conformance/run/evidence.hpp"

namespace concord::bench {

// Output arenas as they came back.
struct TimedOutputs {
  std::vector<std::byte> first, last;  // of the first and the last timed call
  std::vector<std::byte> fresh;        // of one more call on other inputs in the same buffers
  std::vector<std::byte> unverified;   // of a timed call whose arena was not poisoned for it; empty where there is none
};

// What the outputs must be, and for which inputs.
struct Wanted {
  std::span<const std::byte> inputs;
  const conformance::Expectation* expectation = nullptr;
};

struct Verification {
  conformance::Evidence first, last, fresh;
  conformance::Decision decision;  // PASS only when all three calls have it
  bool passed() const { return decision.status == CaseStatus::kPass; }
};

// `witness`: a pattern for kernels' names, or empty.
Verification verify(const conformance::Problem& problem, const Wanted& timed, const Wanted& fresh,
                    const TimedOutputs& outputs, const Witnessed& witnessed, const std::string& changed_input,
                    const std::string& witness);
// Of work that did not get as far as outputs.
Verification refused(const conformance::Problem& problem, const Error& error);

}  // namespace concord::bench
