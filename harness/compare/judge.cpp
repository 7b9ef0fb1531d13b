// Decision rules: per cell, then over all cells. Thresholds are strict exactly where the source has them so.
#include "compare/judge.hpp"

#include <fmt/format.h>

#include <cmath>

namespace concord::detail {
namespace {

Judgement decide(bool accepted, std::string_view metric, double value, const char* relation, double threshold) {
  Judgement j;
  j.accepted = accepted;
  j.metric = metric;
  j.value = value;
  j.relation = relation;
  j.threshold = threshold;
  return j;
}
Judgement with(Judgement j, Judgement::Rest rest, double first = 0, double second = 0) {
  j.rest = rest;
  j.more[0] = first;
  j.more[1] = second;
  return j;
}

std::string rest_of(const Judgement& j) {
  switch (j.rest) {
    case Judgement::Rest::kPaper:
      return fmt::format(", Pm {}, Pw {}, mean in range", j.pm_skipped ? "not applicable" : "above",
                         j.pw_skipped ? "not applicable" : "above");
    case Judgement::Rest::kSeed:
      return fmt::format(" and Pe {:.6g} < {:g}", j.more[0], j.more[1]);
    case Judgement::Rest::kToploc:
      return fmt::format(", mantissa error mean {:.4g}, median {:.4g}", j.more[0], j.more[1]);
    case Judgement::Rest::kNone:
    case Judgement::Rest::kSpecial:
      break;
  }
  return {};
}

// "not below" is what a NaN is, too; say which of the two it was.
const char* not_below(double value) { return std::isnan(value) ? "is not <" : ">="; }
const char* not_above(double value) { return std::isnan(value) ? "is not >" : "<="; }

}  // namespace

CellVerdict describe(const Judgement& j, std::int64_t layer, std::int32_t position) {
  CellVerdict v{layer, position, j.accepted, j.pm_skipped, std::string(j.metric), j.value, j.threshold, {}};
  if (j.rest == Judgement::Rest::kSpecial)
    v.rule = fmt::format("special: the class (finite, infinite, NaN) of {} element{} differs", j.value,
                         j.value == 1 ? "" : "s");
  else
    v.rule = fmt::format("{} {:.6g} {} {:g}{}", j.metric, j.value, j.relation, j.threshold, rest_of(j));
  return v;
}

Judgement special_verdict(std::uint64_t special) {
  return with(decide(false, "special", static_cast<double>(special), ">", 0), Judgement::Rest::kSpecial);
}

Judgement judge_paper(const Profile& p, const ElementStats& s) {
  if (s.special > 0) return special_verdict(s.special);
  const double pe = s.pe(), mean = s.mean_error_signed();
  const auto pm = s.pm(p.pm_min_count), pw = s.pw();
  Judgement v;
  if (!(pe < p.pe_max))
    v = decide(false, "Pe", pe, not_below(pe), p.pe_max);
  else if (pm && !(*pm > p.pm_min))
    v = decide(false, "Pm", *pm, not_above(*pm), p.pm_min);
  else if (pw && !(*pw > p.pw_min))
    v = decide(false, "Pw", *pw, not_above(*pw), p.pw_min);
  else if (!(mean >= -p.mean_max && mean <= p.mean_max))
    v = decide(false, "mean_error", mean, "is outside +-", p.mean_max);
  else
    v = with(decide(true, "Pe", pe, "<", p.pe_max), Judgement::Rest::kPaper);
  v.pm_skipped = !pm;
  v.pw_skipped = !pw;
  return v;
}

// Three branches, as in the original. The third is unreachable: Pm and Pw are shares of disjoint events, so they cannot
// be above 0.75 and 0.50 at once (and whatever passes it passes the second). It stays, so that a reader can lay the
// rule beside the original.
Judgement judge_seed(const Profile& p, const SeedStats& s, std::uint64_t special) {
  if (special > 0) return special_verdict(special);
  const double mean = std::fabs(s.mean_error);
  if (mean < p.mean_exact) return decide(true, "mean_error", mean, "<", p.mean_exact);
  if (mean < p.mean_max && s.pe < p.pe_max)
    return with(decide(true, "mean_error", mean, "<", p.mean_max), Judgement::Rest::kSeed, s.pe, p.pe_max);
  if (s.pe < p.pe_max && s.pm > p.pm_min && s.pw > p.pw_min && mean < p.mean_max)
    return decide(true, "Pe", s.pe, "<", p.pe_max);
  if (!(mean < p.mean_max)) return decide(false, "mean_error", mean, not_below(mean), p.mean_max);
  return decide(false, "Pe", s.pe, not_below(s.pe), p.pe_max);
}

Judgement judge_toploc(const Profile& p, const ToplocStats& s, std::uint64_t special) {
  if (special > 0) return special_verdict(special);
  const double mismatches = static_cast<double>(s.exponent_mismatches);
  if (mismatches > p.exponent_mismatches_max)
    return decide(false, "exponent_mismatches", mismatches, ">", p.exponent_mismatches_max);
  if (!(s.mantissa_mean <= p.mantissa_mean_max))
    return decide(false, "mantissa_mean", s.mantissa_mean, ">", p.mantissa_mean_max);
  if (!(s.mantissa_median <= p.mantissa_median_max))
    return decide(false, "mantissa_median", s.mantissa_median, ">", p.mantissa_median_max);
  return with(decide(true, "exponent_mismatches", mismatches, "<=", p.exponent_mismatches_max),
              Judgement::Rest::kToploc, s.mantissa_mean, s.mantissa_median);
}

Judgement judge_calibrated(const CalibratedLimit& limit, const ElementStats& s) {
  if (s.special > 0) return special_verdict(s.special);
  const double rel_l2 = s.rel_l2(), ulp = static_cast<double>(s.ulp_quantile(0.99));
  if (std::isfinite(limit.rel_l2_max) && !(rel_l2 <= limit.rel_l2_max))
    return decide(false, "rel_l2", rel_l2, std::isnan(rel_l2) ? "is not <=" : ">", limit.rel_l2_max);
  if (std::isfinite(limit.ulp_p99_max) && !(ulp <= limit.ulp_p99_max))
    return decide(false, "ulp_p99", ulp, ">", limit.ulp_p99_max);
  if (std::isfinite(limit.rel_l2_max)) return decide(true, "rel_l2", rel_l2, "<=", limit.rel_l2_max);
  return decide(true, "ulp_p99", ulp, "<=", limit.ulp_p99_max);
}

namespace {

void take(const CellVerdict& v, Comparison& c) {
  c.metric = v.metric;
  c.value = v.value;
  c.threshold = v.threshold;
}
std::string located(const CellVerdict& v) {
  return fmt::format("layer {} position {}: {}", v.layer, v.position, v.rule);
}

void refuse_whole(const CellVerdict& special, Comparison& c) {
  c.verdict = Verdict::kReject;
  c.rule = located(special);
  take(special, c);
  if (!c.first_failure) c.first_failure = special;
}

void conclude_rate(const Profile& p, Comparison& c) {
  const double rate = static_cast<double>(c.accepted) / static_cast<double>(c.cells);
  const bool enough = p.accept_rate_strict ? rate > p.accept_rate_min : rate >= p.accept_rate_min;
  const char* relation = p.accept_rate_strict ? (enough ? ">" : "<=") : (enough ? ">=" : "<");
  c.rule = fmt::format("{} of {} {}s accepted: rate {:.6g} {} {:g}", c.accepted, c.cells, c.unit, rate, relation,
                       p.accept_rate_min);
  c.verdict = enough ? Verdict::kAccept : Verdict::kReject;
  c.metric = "accept_rate";
  c.value = rate;
  c.threshold = p.accept_rate_min;
  if (enough || !c.first_failure) return;  // no failure: a strict rate of 1 that nothing can exceed
  c.rule += "; first at " + located(*c.first_failure);
  take(*c.first_failure, c);
}

}  // namespace

void conclude(const Profile& p, const CellVerdict* special, Comparison& c) {
  if (special) return refuse_whole(*special, c);
  if (c.cells == 0) {
    c.verdict = Verdict::kInconclusive;
    if (c.rule.empty()) c.rule = "nothing was judged: too few samples";
    return;
  }
  conclude_rate(p, c);
  if (c.verdict == Verdict::kReject || c.total.both_nonfinite == 0) return;
  c.verdict = Verdict::kInconclusive;
  c.rule = fmt::format("{} elements are infinite or NaN on both sides: they agree, but prove nothing ({})",
                       c.total.both_nonfinite, c.rule);
  c.metric = "both_nonfinite";
  c.value = static_cast<double>(c.total.both_nonfinite);
  c.threshold = 0;
}

}  // namespace concord::detail
