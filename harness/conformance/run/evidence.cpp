#include "conformance/run/evidence.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/glob.hpp"
#include "base/text.hpp"

namespace concord::conformance {
namespace {

constexpr std::array<const char*, 8> kOutcomes = {"completed", "unsupported", "refused", "error",
                                                  "crash",     "timeout",     "oom",     "not_run"};
constexpr std::array<const char*, 3> kDeterminism = {"always identical", "identical per configuration",
                                                     "run-to-run varying"};

// What one rule has to look at. A rule answers nothing when it does not decide.
struct Question {
  const CaseSpec& spec;
  const Evidence& evidence;
  const std::string& witness;
};
using Answer = std::optional<Decision>;

Decision decision(CaseStatus status, const char* check, std::string reason) {
  return {status, check, std::move(reason)};
}

Answer ask_outcome(const Question& q) {
  struct Row {
    Outcome outcome;
    CaseStatus status;
    const char* words;
  };
  constexpr Row kRows[] = {{Outcome::kUnsupported, CaseStatus::kUnsupported, "the device does not support it"},
                           {Outcome::kError, CaseStatus::kError, "the call failed"},
                           {Outcome::kCrash, CaseStatus::kCrash, "the worker died"},
                           {Outcome::kTimeout, CaseStatus::kTimeout, "no answer in time"},
                           {Outcome::kOom, CaseStatus::kOom, "out of memory"},
                           {Outcome::kNotRun, CaseStatus::kNotRun, "it was not run"}};
  for (const Row& r : kRows)
    if (q.evidence.outcome == r.outcome)
      return decision(r.status, "outcome",
                      q.evidence.message.empty() ? r.words : fmt::format("{}: {}", r.words, q.evidence.message));
  return {};
}

// Elements that are not what they have to be, whatever the reason.
std::uint64_t wrong_elements(const OutputFindings& f) { return f.above_rigorous + f.nonfinite + f.unwritten; }

// A call with an extent 0 must be refused with everything left as it was; that is all that is asked of it.
Answer ask_refusal(const Question& q) {
  const Evidence& e = q.evidence;
  const bool refused = e.outcome == Outcome::kRefused;
  if (!e.expect_refusal) {
    if (!refused) return {};
    return decision(CaseStatus::kError, "refusal",
                    fmt::format("the device calls this well-formed case invalid: {}", e.message));
  }
  if (!refused)
    return decision(CaseStatus::kFail, "refusal", "a case with an extent 0 was executed; CONCORD_INVALID was expected");
  for (const OutputFindings& f : e.outputs)
    if (f.guard_bytes + wrong_elements(f) > 0)
      return decision(CaseStatus::kFail, "refusal",
                      fmt::format("the refused call wrote to {}: {} elements and {} bytes around them changed", f.name,
                                  wrong_elements(f), f.guard_bytes));
  if (!e.changed_input.empty())
    return decision(CaseStatus::kFail, "refusal",
                    fmt::format("the refused call changed its input {}", e.changed_input));
  if (e.outputs.empty())
    return decision(CaseStatus::kMistrusted, "refusal",
                    "nobody looked whether the refused call left its outputs alone");
  return decision(CaseStatus::kPass, "none", "refused, with everything left as it was");
}

bool is_kernel_of(const std::string& kernel, const Question& q) {
  if (!kernel.starts_with(q.spec.op + ":")) return false;  // whatever a required list's pattern says
  return q.witness.empty() || witness_matches(q.witness, kernel);
}

Answer ask_witness(const Question& q) {
  const Evidence& e = q.evidence;
  if (e.kernel.empty()) return decision(CaseStatus::kError, "witness", "the device does not say which kernel ran");
  if (!is_kernel_of(e.kernel, q))
    return decision(
        CaseStatus::kFail, "witness",
        fmt::format("the kernel \"{}\" is not one of those expected: {}", printable(e.kernel, 120),
                    q.witness.empty() ? fmt::format("its name must begin with \"{}:\"", q.spec.op) : q.witness));
  for (const std::string& other : e.other_kernels) {
    if (!is_kernel_of(other, q))
      return decision(CaseStatus::kFail, "witness",
                      fmt::format("a repetition ran the kernel \"{}\"", printable(other, 120)));
    if (e.declared != CONCORD_RUN_TO_RUN_VARYING)
      return decision(CaseStatus::kFail, "witness",
                      fmt::format("a repetition took another kernel: \"{}\" after \"{}\"", printable(other, 120),
                                  printable(e.kernel, 120)));
  }
  return {};
}

Answer ask_fallback(const Question& q) {
  if (q.evidence.fallbacks == 0) return {};
  return decision(
      CaseStatus::kFail, "fallback",
      fmt::format("the fallback counter moved by {}: the device did not do this work itself", q.evidence.fallbacks));
}

Answer ask_guard(const Question& q) {
  for (const OutputFindings& f : q.evidence.outputs)
    if (f.guard_bytes > 0)
      return decision(CaseStatus::kFail, "guard",
                      fmt::format("{} bytes around {} were overwritten, the first {} bytes {}", f.guard_bytes, f.name,
                                  f.guard_first < 0 ? -f.guard_first : f.guard_first,
                                  f.guard_first < 0 ? "before it" : "behind its end"));
  return {};
}

Answer ask_input(const Question& q) {
  if (q.evidence.changed_input.empty()) return {};
  return decision(CaseStatus::kFail, "input", fmt::format("the call changed its input {}", q.evidence.changed_input));
}

std::string place(const Coordinates& c) {
  return fmt::format("[{}] is {} instead of {}", fmt::join(c.at, ","), c.got, c.want);
}

Answer ask_unwritten(const Question& q) {
  for (const OutputFindings& f : q.evidence.outputs)
    if (f.unwritten > 0)
      return decision(CaseStatus::kFail, "unwritten",
                      fmt::format("{} of {} elements of {} were never written", f.unwritten, f.elements, f.name));
  return {};
}

Answer ask_nonfinite(const Question& q) {
  for (const OutputFindings& f : q.evidence.outputs)
    if (f.nonfinite > 0)
      return decision(CaseStatus::kFail, "nonfinite",
                      fmt::format("{} of {} elements of {} are NaN or infinite where they must not be, or the other "
                                  "way round; the first: {}",
                                  f.nonfinite, f.elements, f.name, place(f.first)));
  return {};
}

Answer ask_values(const Question& q) {
  for (const OutputFindings& f : q.evidence.outputs) {
    if (f.above_rigorous == 0 && f.margin <= 1)
      continue;  // both, so that numbers that contradict each other do not pass
    const std::string count = fmt::format("{} of {} elements of {}", f.above_rigorous, f.elements, f.name);
    if (f.judged == "bound")
      return decision(CaseStatus::kFail, "bound",
                      fmt::format("{} are above the rigorous bound (worst: {} times it); the first: {}", count,
                                  f.margin, place(f.first)));
    return decision(CaseStatus::kFail, "exact",
                    fmt::format("{} are not what they must be exactly; the first: {}", count, place(f.first)));
  }
  return {};
}

Answer ask_probable(const Question& q) {
  for (const OutputFindings& f : q.evidence.outputs)
    if (f.above_probable > 0 || !(f.margin_probable <= 1))
      return decision(
          CaseStatus::kMistrusted, "probable",
          fmt::format(
              "{} of {} elements of {} are wider than the declared math mode {} (worst: {} times the probable bound)",
              f.above_probable, f.elements, f.name, q.evidence.math_mode, f.margin_probable));
  return {};
}

Answer ask_degenerate(const Question& q) {
  if (q.evidence.outputs.empty()) return decision(CaseStatus::kMistrusted, "degenerate", "no output was judged");
  for (const OutputFindings& f : q.evidence.outputs) {
    if (f.elements == 0)
      return decision(CaseStatus::kMistrusted, "degenerate", fmt::format("not one element of {} was judged", f.name));
    if (f.degenerate)
      return decision(
          CaseStatus::kMistrusted, "degenerate",
          fmt::format("{} ought to be all the same value, or zeros are within its bounds: it proves nothing", f.name));
  }
  return {};
}

Answer ask_determinism(const Question& q) {
  const Evidence& e = q.evidence;
  if (e.again.repeats == 0)
    return decision(CaseStatus::kMistrusted, "determinism",
                    "it ran only once, so that nothing is known of its repeatability");
  if (e.declared > CONCORD_RUN_TO_RUN_VARYING)
    return decision(CaseStatus::kError, "determinism",
                    fmt::format("the device declares determinism class {}, which does not exist", e.declared));
  const auto measured = e.measured();
  if (static_cast<std::uint32_t>(measured) <= e.declared) return {};
  return decision(CaseStatus::kNondeterministic, "determinism",
                  fmt::format("declared {}, measured {}: {} of {} repetitions, {} of {} thread counts and {} of {} "
                              "rows alone gave the same bits",
                              kDeterminism[std::min<std::size_t>(e.declared, 2)], kDeterminism[measured],
                              e.again.repeats_equal, e.again.repeats, e.again.threads_equal.size(),
                              e.again.threads.size(), e.again.rows_equal, e.again.rows));
}

}  // namespace

bool witness_matches(std::string_view pattern, std::string_view kernel) {
  constexpr std::string_view kOr = " | ";
  for (std::size_t end; !pattern.empty(); pattern.remove_prefix(std::min(end + kOr.size(), pattern.size()))) {
    end = std::min(pattern.find(kOr), pattern.size());
    if (glob_matches(pattern.substr(0, end), kernel)) return true;
  }
  return false;
}

const char* outcome_name(Outcome o) { return kOutcomes[static_cast<std::size_t>(o)]; }

Result<Outcome> outcome_from_name(const std::string& name) {
  for (std::size_t i = 0; i < kOutcomes.size(); ++i)
    if (name == kOutcomes[i]) return static_cast<Outcome>(i);
  return bad_input("record.unknown_outcome", fmt::format("\"{}\" is not an outcome", printable(name)));
}

Outcome outcome_of(const Error& error) {
  struct Row {
    const char* code;
    Outcome outcome;
  };
  constexpr Row kRows[] = {{"device.unsupported", Outcome::kUnsupported},
                           {"device.invalid_call", Outcome::kRefused},
                           {"device.out_of_memory", Outcome::kOom}};
  for (const Row& r : kRows)
    if (error.code == r.code) return r.outcome;
  return Outcome::kError;
}

concord_determinism Evidence::measured() const {
  if (again.repeats_equal < again.repeats) return CONCORD_RUN_TO_RUN_VARYING;
  if (again.threads_equal.size() < again.threads.size() || again.rows_equal < again.rows)
    return CONCORD_IDENTICAL_PER_CONFIGURATION;
  return CONCORD_ALWAYS_IDENTICAL;
}

Decision decide(const CaseSpec& spec, const Evidence& evidence, const std::string& witness_pattern) {
  constexpr Answer (*kRules[])(const Question&) = {ask_outcome, ask_refusal,  ask_witness,    ask_fallback,
                                                   ask_guard,   ask_input,    ask_unwritten,  ask_nonfinite,
                                                   ask_values,  ask_probable, ask_degenerate, ask_determinism};
  const Question question{spec, evidence, witness_pattern};
  for (const auto rule : kRules)
    if (Answer answer = rule(question)) return *answer;
  return {CaseStatus::kPass, "none", "every check passed"};
}

}  // namespace concord::conformance
