#include "conformance/bundle/recheck.hpp"

#include <fmt/format.h>

#include "base/text.hpp"
#include "conformance/bundle/bundle_contents.hpp"
#include "conformance/bundle/record_numbers.hpp"
#include "device/provenance.hpp"

namespace concord::conformance {
namespace {

Json field(const CaseRecord& r, const char* key) { return r.body.contains(key) ? Json(r.body[key]) : Json(); }

// A rebuilt program may have other cases, inputs and bounds; another machine is another device.
Status check_origin(const CaseRecord& r, const Json& mine, const RecheckRules& rules, const std::string& file) {
  const auto wrong = [&](const char* what, const Json& found, const Json& expected) {
    return bad_input(
        "recheck.origin",
        fmt::format("the record of {} on {} is of another {}: {} instead of {}; start a new run", printable(r.id, 200),
                    printable(r.device), what, printable(found.dump(), 500), printable(expected.dump(), 500)),
        file);
  };
  if (const Json program = field(r, "program"); program != mine["program"])
    return wrong("program", program, mine["program"]);
  if (const Json machine = field(r, "machine"); machine != mine["machine"])
    return wrong("machine", machine, mine["machine"]);
  if (const Json seed = field(r, "seed"); seed != Json(rules.seed)) return wrong("seed", seed, Json(rules.seed));
  return {};
}

Status check_status(const CaseRecord& r, const RecheckRules& rules, const std::string& file) {
  CONCORD_TRY(const CaseSpec spec, CaseSpec::parse(r.id));
  const auto wrong = [&](const std::string& what) {
    return bad_input(
        "recheck.contradiction",
        fmt::format("the record of {} on {}: {}; start a new run", printable(r.id, 200), printable(r.device), what),
        file);
  };
  if (const auto problem = make_problem(spec); problem)
    if (const auto contradictions = own_contradictions(*problem, r.evidence); !contradictions.empty())
      return wrong(contradictions.front());
  const auto pattern = rules.witness.find(r.device);
  const std::string witness = pattern == rules.witness.end() ? std::string() : pattern->second;
  const Waived w =
      apply_waivers(rules.waivers, r.id, r.device, r.evidence, decide(spec, r.evidence, witness), rules.today);
  if (w.decision.status == r.status && w.decision.check == r.check && w.waiver == r.waiver &&
      w.expired == r.waiver_expired)
    return {};
  return wrong(fmt::format("it claims {} ({}), under today's rules its numbers say {} ({}): {}", status_name(r.status),
                           printable(r.check, 50), status_name(w.decision.status), w.decision.check,
                           printable(w.decision.reason, 500)));
}

}  // namespace

Status recheck(const std::vector<CaseRecord>& records, const RecheckRules& rules, const std::string& file) {
  CONCORD_CHECK(check_unique(records, file));
  const Json mine = provenance();
  for (const CaseRecord& r : records) {
    CONCORD_CHECK(check_origin(r, mine, rules, file));
    CONCORD_CHECK(check_status(r, rules, file));
  }
  return {};
}

}  // namespace concord::conformance
