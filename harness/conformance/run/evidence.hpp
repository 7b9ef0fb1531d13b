// Everything that is known about one execution of one case on one device, and the pure function that makes a status of it. A record is this structure as
// JSON, so that any machine can decide again without the device.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/case_status.hpp"
#include "base/json.hpp"
#include "conformance/numerics/expectation.hpp"

namespace concord::conformance {

enum class Outcome { kCompleted, kUnsupported, kRefused, kError, kCrash, kTimeout, kOom, kNotRun };  // kRefused: CONCORD_INVALID
const char* outcome_name(Outcome o);  // "completed"
Result<Outcome> outcome_from_name(const std::string& name);
Outcome outcome_of(const Error& error);  // of a call to a device that gave this error

// The same case again, in the same and in other configurations; only what was asked for is there.
struct Repetitions {
  std::uint32_t repeats = 0, repeats_equal = 0;            // further runs in the same configuration, and how many had the same bits
  std::vector<std::uint32_t> threads, threads_equal;       // other thread counts, and those with the same bits
  std::uint32_t rows = 0, rows_equal = 0;                  // rows computed alone (batch 1), and how many had the bits they have in the whole
};

struct Evidence {
  Outcome outcome = Outcome::kNotRun;
  std::string message;                    // the device's or the system's own words where it did not complete
  std::string kernel;                     // the witness
  std::vector<std::string> other_kernels; // kernels of the repetitions that differ from it
  std::uint64_t fallbacks = 0;            // how far the fallback counter moved
  std::uint32_t declared = 0;             // concord_determinism
  Repetitions again;
  std::string changed_input;              // name of an input that the call changed; empty: none
  std::vector<OutputFindings> outputs;
  std::string output_digest;              // SHA-256 over the outputs' bytes, in order
  std::string math_mode;                  // of the bound
  double seconds = 0;                     // of the first call
  bool expect_refusal = false;

  concord_determinism measured() const;   // the weakest class that the repetitions are consistent with
};

// The check that decided, in the order in which they are asked. "none" for PASS.
struct Decision {
  CaseStatus status = CaseStatus::kNotRun;
  std::string check;   // outcome, refusal, witness, fallback, guard, input, unwritten, nonfinite, exact, bound, probable, degenerate, determinism, none
  std::string reason;  // one sentence
};
// The kernel's name must begin with the operator's and a colon, and match witness_pattern (required.hpp) where there is one.
// Globs over the whole name of a kernel, separated by " | ": any of them will do.
bool witness_matches(std::string_view pattern, std::string_view kernel);
Decision decide(const CaseSpec& spec, const Evidence& evidence, const std::string& witness_pattern = {});

OrderedJson to_json(const Evidence& evidence);
Result<Evidence> evidence_from_json(const JsonFields& fields);

}  // namespace concord::conformance
