#include "conformance/bundle/judge_bundle.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/text.hpp"
#include "device/provenance.hpp"

namespace concord::conformance {
namespace {

Ground ground_of(const JudgedBundle& b, const Trust& trust, const JudgeSettings& settings) {
  Ground g{.waivers = b.contents.waivers,
           .modes = b.contents.modes,
           .witness = {},
           .seed = b.bundle.manifest.seed,
           .days = {},
           .today = settings.today};
  g.recompute = settings.recompute, g.cost_limit = settings.cost_limit;
  g.memory_limit = machine().memory_bytes / 8;  // the oracle holds an output four times in float64
  for (const std::string& device : b.bundle.manifest.devices)
    for (const RequiredList& list : trust.lists)
      if (list.tier == b.bundle.manifest.tier && list.covers(device)) g.witness[device] = list.witness_for(device);
  std::set<std::string> days;
  for (const CaseRecord& r : b.contents.records) days.insert(day_of(r));
  g.days.assign(days.begin(), days.end());
  return g;
}

void take(Rederived one, const std::vector<std::string>& foreign, JudgedBundle& b) {
  CaseRecord& r = one.record;
  ++(one.basis == Basis::kOutputs ? b.from_outputs : one.basis == Basis::kOracle ? b.from_oracle : b.from_numbers);
  for (const std::string& c : one.contradictions) b.contradictions.push_back(fmt::format("{}: {}", r.key(), c));
  std::ranges::move(one.notes, std::back_inserter(b.notes));
  if (r.status == CaseStatus::kWaived && std::ranges::find(foreign, r.waiver) != foreign.end())
    b.doubts.push_back(fmt::format(
        "{}: excused by the waiver {}, which is not one of this program's; --waivers FOLDER names waivers to trust",
        r.key(), r.waiver));
  r.reason = printable(r.reason, 2000), r.evidence.kernel = printable(r.evidence.kernel, 200);  // they are shown
  b.records.push_back(std::move(r));
}

// Case by case, so that inputs and oracle are made once for all devices and no more than one case is in memory.
Status rederive_all(JudgedBundle& b, const Trust& trust, const JudgeSettings& settings, const std::atomic<bool>& stop) {
  const Ground ground = ground_of(b, trust, settings);
  std::map<std::string_view, std::vector<Claim>> claims;
  for (const CaseRecord& r : b.contents.records) {
    const auto saved = b.contents.outputs.find(r.key());
    claims[r.id].push_back({&r, saved == b.contents.outputs.end() ? std::string() : saved->second});
  }
  std::uint64_t done = 0;
  for (const PlannedCase& planned : b.contents.plan) {
    if (stop)
      return fail(ErrorKind::kInterrupted, "session.interrupted",
                  fmt::format("interrupted after {} of {} cases", done, b.contents.plan.size()));
    if (settings.progress) settings.progress(planned.id, done, b.contents.plan.size());
    ++done;
    const auto some = claims.find(planned.id);
    if (some == claims.end()) continue;
    CONCORD_TRY(std::vector<Rederived> judged, rederive_case(planned, some->second, ground));
    for (Rederived& one : judged) take(std::move(one), trust.foreign_waivers, b);
  }
  return {};
}

std::string with_colour(const char* colour, const std::string& line) {
  const std::size_t colon = line.find(": ");
  return colour + (colon == std::string::npos ? ": " + line : line.substr(colon));
}

// A contradiction is red whether or not its case is required; a doubt never is green. Only GREEN is exit code 0: what
// is PARTIAL executed less than a list that this program knows requires.
void temper(JudgedBundle& b) {
  Verdict& v = b.verdict;
  if (!b.contradictions.empty()) v.exit = exit_codes::kConformance;
  if (!b.contradictions.empty() || !b.doubts.empty()) v.green = false;
  if (!v.green && v.exit == exit_codes::kOk) {
    v.exit = exit_codes::kNothingRun;
    v.line = with_colour("PARTIAL", v.line);
    return;
  }
  v.line = with_colour(v.green ? "GREEN" : "RED", v.line);
}

}  // namespace

Result<JudgedBundle> judge_bundle(const std::string& folder, const JudgeSettings& settings,
                                  const std::atomic<bool>& stop) {
  JudgedBundle b;
  const auto hashing = [&](std::uint64_t done, std::uint64_t total) {
    if (settings.progress) settings.progress("digests", done, total);
  };
  CONCORD_TRY(b.bundle, open_bundle(folder, hashing));
  CONCORD_TRY(const std::set<std::string> operators, same_definitions(b.bundle));
  CONCORD_TRY(const OperatorSuite suite, OperatorSuite::load());
  CONCORD_TRY(b.contents, read_contents(b.bundle, suite));
  for (const PlannedCase& p : b.contents.plan)
    if (!operators.contains(p.spec.op))
      return bad_input("bundle.definitions", fmt::format("it has no definition of {}, which was planned", p.spec.op),
                       folder);
  CONCORD_TRY(Trust trust, trust_in(b.bundle, b.contents, settings));
  b.doubts = trust.doubts, b.notes = trust.notes;
  const BundleManifest& m = b.bundle.manifest;
  const Json mine = provenance();
  if (b.contents.environment["program"].value("commit", Json()) != mine["program"]["commit"])
    b.notes.push_back(
        "the run was made by another build than this one; where inputs, oracle or bounds have changed since, its "
        "records seem to contradict themselves");
  if (m.seed != 0)
    b.doubts.push_back(fmt::format(
        "the run used seed {}; required lists mean seed 0, because a seed can be chosen until a device passes",
        m.seed));
  CONCORD_CHECK(rederive_all(b, trust, settings, stop));
  b.verdict = judge_records(m.devices, b.contents.plan, b.records, trust.lists, m.tier);
  temper(b);
  return b;
}

Verdict join_verdicts(const std::vector<JudgedBundle>& bundles) {
  Verdict all{.devices = {},
              .green = !bundles.empty(),
              .exit = bundles.empty() ? exit_codes::kNothingRun : exit_codes::kOk,
              .line = {}};
  std::vector<std::string> lines;
  for (const JudgedBundle& b : bundles) {
    std::ranges::copy(b.verdict.devices, std::back_inserter(all.devices));
    all.green = all.green && b.verdict.green;
    if (b.verdict.exit == exit_codes::kConformance || all.exit == exit_codes::kOk) all.exit = b.verdict.exit;
    for (const DeviceVerdict& d : b.verdict.devices) lines.push_back(d.line());
  }
  const bool red =
      std::ranges::any_of(bundles, [](const JudgedBundle& b) { return b.verdict.line.starts_with("RED"); });
  all.line = fmt::format("{}: {}",
                         all.green                ? "GREEN"
                         : red || bundles.empty() ? "RED"
                                                  : "PARTIAL",
                         fmt::join(lines, "; "));
  return all;
}

}  // namespace concord::conformance
