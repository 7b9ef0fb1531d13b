// The records of one case judged again without the device: do the numbers agree with themselves, with the oracle and
// with the saved outputs, and which status follows from them. Pure but for the time that it takes.
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "conformance/run/session.hpp"

namespace concord::conformance {

// How much of the oracle is computed again where no outputs are saved: nothing; the worst and first element of cases up
// to a cost; of all cases.
enum class Recompute { kNone, kWorst, kAll };

// What a status was derived from, in growing strength.
enum class Basis { kNumbers, kOracle, kOutputs };

// What all records of a bundle are judged by.
struct Ground {
  std::vector<Waiver> waivers;
  std::map<std::string, MathMode> modes;       // device -> what it declares of its arithmetic
  std::map<std::string, std::string> witness;  // device -> pattern of its required list
  std::uint64_t seed = 0;
  std::vector<std::string> days;  // on which the run has records: a session judges waivers by the day that it began
  std::string today;
  Recompute recompute = Recompute::kWorst;
  double cost_limit = 4e9;  // kWorst: flops + bytes of one call; a thousand times that where outputs are saved
  std::uint64_t memory_limit = std::uint64_t{4} << 30;  // of the operands of one case [bytes]
};

struct Claim {
  const CaseRecord* record = nullptr;
  std::string outputs_file;  // its saved outputs; empty: there are none
};

struct Rederived {
  CaseRecord record;  // with the status that follows today; FAIL with check "evidence" where anything contradicts it
  Basis basis = Basis::kNumbers;
  std::vector<std::string> contradictions;
  std::vector<std::string> notes;
};

// All claims are about `planned`, with spec and id parsed. The inputs are made once, the oracle once for each math
// mode. Errors: outputs.* for saved outputs of the wrong size (bad input), file.*, oracle.*.
Result<std::vector<Rederived>> rederive_case(const PlannedCase& planned, std::span<const Claim> claims,
                                             const Ground& ground);

std::string day_of(const CaseRecord& record);  // "2026-11-21"; empty where the record has no date

}  // namespace concord::conformance
