#include "conformance/bundle/rederive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/file.hpp"
#include "conformance/bundle/record_numbers.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

// The inputs and the oracle of one case, made when they are first needed.
class CaseOracle {
 public:
  CaseOracle(const Problem& problem, std::uint64_t seed) : problem_(problem), seed_(seed) {}

  const std::vector<std::byte>& inputs() {
    if (inputs_.empty() && problem_.input_bytes > 0) {
      inputs_.resize(problem_.input_bytes);
      fill_inputs(problem_, seed_, inputs_);
    }
    return inputs_;
  }
  Result<const Expectation*> expectation(const MathMode& mode) {
    const auto it = expectations_.find(mode);
    if (it != expectations_.end()) return &it->second;
    CONCORD_TRY(Expectation made, expect(problem_, inputs(), mode));
    return &expectations_.emplace(mode, std::move(made)).first->second;
  }

 private:
  const Problem& problem_;
  std::uint64_t seed_;
  std::vector<std::byte> inputs_;
  std::map<MathMode, Expectation> expectations_;
};

std::string digest_of_outputs(const Problem& problem, std::span<const std::byte> arena) {
  Hasher hasher;
  for (const Operand& o : problem.outputs) hasher.update(arena.subspan(o.offset, o.bytes));
  return hex(hasher.finish());
}

// Judges the records of one case.
class CaseJudge {
 public:
  CaseJudge(const PlannedCase& planned, const Problem& problem, const Ground& ground)
      : planned_(planned), problem_(problem), ground_(ground), oracle_(problem, ground.seed) {}

  Result<Rederived> judge(const Claim& claim) {
    Rederived out{.record = *claim.record,
                  .basis = Basis::kNumbers,
                  .contradictions = own_contradictions(problem_, claim.record->evidence),
                  .notes = {}};
    check_mode(out);
    CONCORD_CHECK(check_evidence(claim, out));
    judge_status(*claim.record, out);
    return out;
  }

 private:
  bool judged(const Evidence& e) const {
    return problem_.expect_refusal ? e.outcome == Outcome::kRefused : e.outcome == Outcome::kCompleted;
  }
  MathMode mode_of(const CaseRecord& r) const {
    const auto it = ground_.modes.find(r.device);
    return it == ground_.modes.end() ? MathMode{} : it->second;
  }

  void check_mode(Rederived& out) const {
    const Evidence& e = out.record.evidence;
    if (!judged(e) || problem_.expect_refusal) return;
    if (const std::string name = mode_of(out.record).name(); e.math_mode != name)
      out.contradictions.push_back(
          fmt::format("judged by the bounds of {}, but the device declares {}", e.math_mode, name));
  }

  Status check_evidence(const Claim& claim, Rederived& out) {
    const CaseRecord& r = *claim.record;
    if (!judged(r.evidence)) return {};
    const std::uint64_t memory = problem_.input_bytes + problem_.output_bytes;
    const double cost = planned_.flops + planned_.bytes,
                 limit = ground_.cost_limit * (claim.outputs_file.empty() ? 1 : 1000);
    const bool all = ground_.recompute == Recompute::kAll;
    if (memory > ground_.memory_limit || (!all && cost > limit)) {
      if (!claim.outputs_file.empty())
        out.notes.push_back(
            fmt::format("{}: its saved outputs were not judged: {:.3g} flops and bytes, {} bytes of operands", r.key(),
                        cost, memory));
      return {};
    }
    if (!claim.outputs_file.empty()) return check_outputs(claim, out);
    if (ground_.recompute == Recompute::kNone || problem_.expect_refusal) return {};
    CONCORD_TRY(const Expectation* expectation, oracle_.expectation(mode_of(r)));
    std::vector<std::byte> unwritten(problem_.output_bytes);
    fill_outputs(problem_, 0, oracle_.inputs(), unwritten);
    add(oracle_contradictions(r.evidence.outputs, judge_outputs(problem_, *expectation, oracle_.inputs(), unwritten),
                              *expectation),
        out);
    out.basis = Basis::kOracle;
    return {};
  }

  Status check_outputs(const Claim& claim, Rederived& out) {
    CONCORD_TRY(const std::vector<std::byte> arena, restore(claim.outputs_file));
    Evidence& e = out.record.evidence;
    std::vector<OutputFindings> found;
    if (problem_.expect_refusal) {
      found = judge_untouched(problem_, oracle_.inputs(), arena);
    } else {
      CONCORD_TRY(const Expectation* expectation, oracle_.expectation(mode_of(*claim.record)));
      found = judge_outputs(problem_, *expectation, oracle_.inputs(), arena);
      if (const std::string digest = digest_of_outputs(problem_, arena); digest != e.output_digest)
        out.contradictions.push_back(
            fmt::format("output_digest is said to be {}, the saved outputs have {}", e.output_digest, digest));
    }
    for (std::size_t i = 0; i < std::min(found.size(), e.outputs.size()); ++i)  // guards are not saved
      found[i].guard_bytes = e.outputs[i].guard_bytes, found[i].guard_first = e.outputs[i].guard_first;
    add(findings_contradictions(e.outputs, found), out);
    e.outputs = std::move(found);
    out.basis = Basis::kOutputs;
    return {};
  }

  // The output arena as it came back from the device: the saved bytes between whole guards.
  Result<std::vector<std::byte>> restore(const std::string& path) {
    CONCORD_TRY(const MappedFile file, MappedFile::open(path));
    std::uint64_t bytes = 0;
    for (const Operand& o : problem_.outputs) bytes += o.bytes;
    if (file.bytes().size() != bytes)
      return bad_input(
          "outputs.size",
          fmt::format("the outputs of {} are {} bytes, the file has {}", planned_.id, bytes, file.bytes().size()),
          path);
    std::vector<std::byte> arena(problem_.output_bytes);
    fill_outputs(problem_, 0, oracle_.inputs(), arena);
    auto rest = file.bytes();
    for (const Operand& o : problem_.outputs) {
      std::ranges::copy(rest.first(o.bytes), arena.begin() + static_cast<std::ptrdiff_t>(o.offset));
      rest = rest.subspan(o.bytes);
    }
    return arena;
  }

  static void add(std::vector<std::string> more, Rederived& out) {
    std::ranges::move(more, std::back_inserter(out.contradictions));
  }

  Waived status_on(const std::string& day, const CaseRecord& r, const std::string& witness) const {
    return apply_waivers(ground_.waivers, r.id, r.device, r.evidence, decide(planned_.spec, r.evidence, witness), day);
  }

  // The status on the record's day must be the recorded one, or that on the day that its session began; without a
  // pattern for the witness where the run had none (other seeds, other axes). What counts is the status today, under
  // the list's pattern.
  void judge_status(const CaseRecord& claimed, Rederived& out) const {
    const auto agrees = [&](const Waived& w) {
      return w.decision.status == claimed.status && w.decision.check == claimed.check && w.waiver == claimed.waiver &&
             w.expired == claimed.waiver_expired;
    };
    const auto listed = ground_.witness.find(claimed.device);
    const std::string witness = listed == ground_.witness.end() ? std::string() : listed->second;
    const OrderedJson pattern = claimed.body.value("witness_pattern", OrderedJson());
    const bool none = pattern.is_string() && pattern.get_ref<const std::string&>().empty();
    const std::string recorded = none ? std::string() : witness;
    const Waived then = status_on(day_of(claimed), out.record, recorded),
                 now = status_on(ground_.today, out.record, witness);
    const auto earlier = [&](const std::string& day) {
      return day < day_of(claimed) && agrees(status_on(day, out.record, recorded));
    };
    if (!agrees(then) && std::ranges::none_of(ground_.days, earlier))
      out.contradictions.push_back(describe(claimed, then));
    if (day_of(claimed) > ground_.today)
      out.contradictions.push_back(fmt::format("it is dated {}, and today is {}", day_of(claimed), ground_.today));
    if (now.expired && !then.expired)
      out.notes.push_back(fmt::format("{}: the waiver {} has expired since", claimed.key(), now.waiver));
    CaseRecord& r = out.record;
    r.status = now.decision.status, r.check = now.decision.check, r.reason = now.decision.reason, r.waiver = now.waiver,
    r.waiver_expired = now.expired;
    if (out.contradictions.empty()) return;
    r.status = CaseStatus::kFail, r.check = "evidence", r.waiver.clear(), r.waiver_expired = false;
    r.reason = fmt::format("the record contradicts itself: {}", out.contradictions.front());
  }

  static std::string describe(const CaseRecord& claimed, const Waived& then) {
    const auto words = [](CaseStatus status, const std::string& check, const std::string& waiver) {
      return fmt::format("{} ({}{})", status_name(status), check, waiver.empty() ? "" : ", waiver " + waiver);
    };
    return fmt::format("the record claims {}, its numbers say {}: {}",
                       words(claimed.status, claimed.check, claimed.waiver),
                       words(then.decision.status, then.decision.check, then.waiver), then.decision.reason);
  }

  const PlannedCase& planned_;
  const Problem& problem_;
  const Ground& ground_;
  CaseOracle oracle_;
};

}  // namespace

std::string day_of(const CaseRecord& record) {
  if (!record.body.contains("date") || !record.body["date"].is_string()) return {};
  return record.body["date"].get<std::string>().substr(0, 10);
}

Result<std::vector<Rederived>> rederive_case(const PlannedCase& planned, std::span<const Claim> claims,
                                             const Ground& ground) {
  CONCORD_TRY(const Problem problem, make_problem(planned.spec));
  CaseJudge judge(planned, problem, ground);
  std::vector<Rederived> out;
  for (const Claim& claim : claims) {
    CONCORD_TRY(Rederived one, judge.judge(claim));
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace concord::conformance
