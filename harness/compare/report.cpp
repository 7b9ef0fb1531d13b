// What leaves this floor: names, intervals, JSON.
#include <cmath>

#include "compare/compare.hpp"

namespace concord {
namespace {

OrderedJson number(double v) {  // JSON has no infinity and no NaN
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  return v;
}
OrderedJson number(const std::optional<double>& v) { return v ? number(*v) : OrderedJson(nullptr); }

OrderedJson to_json(const CellVerdict& v) {
  return {{"layer", v.layer},         {"position", v.position},           {"metric", v.metric},
          {"value", number(v.value)}, {"threshold", number(v.threshold)}, {"rule", v.rule}};
}

OrderedJson to_json(const LayerResult& l) {
  return {{"layer", l.layer}, {"cells", l.cells}, {"accepted", l.accepted}, {"stats", to_json(l.stats)}};
}

OrderedJson partition_json(const ElementStats& s) {
  return {{"exact", s.partition[0]},          {"match_small", s.partition[1]},    {"match_large", s.partition[2]},
          {"mismatch_small", s.partition[3]}, {"mismatch_large", s.partition[4]}, {"special", s.special}};
}

}  // namespace

const char* verdict_name(Verdict v) {
  switch (v) {
    case Verdict::kAccept:
      return "ACCEPT";
    case Verdict::kReject:
      return "REJECT";
    case Verdict::kInconclusive:
      break;
  }
  return "INCONCLUSIVE";
}

Interval wilson95(std::uint64_t successes, std::uint64_t n) {
  if (n == 0) return {};
  constexpr double z = 1.959963984540054;  // the 97.5 % quantile of the normal distribution
  const double count = static_cast<double>(n), p = static_cast<double>(successes) / count, zz = z * z;
  const double centre = (p + zz / (2 * count)) / (1 + zz / count);
  const double half = z / (1 + zz / count) * std::sqrt(p * (1 - p) / count + zz / (4 * count * count));
  // At the ends the formula is exactly 0 or 1; rounding must not push it inside or outside.
  return {successes == 0 ? 0 : centre - half, successes == n ? 1 : centre + half};
}

OrderedJson to_json(const ElementStats& s) {
  return {{"elements", s.count},
          {"special", s.special},
          {"both_nonfinite", s.both_nonfinite},
          {"exponent_mismatches", s.exponent_mismatch},
          {"pe", number(s.pe())},
          {"pm", number(s.pm())},
          {"pw", number(s.pw())},
          {"mean_error_signed", number(s.mean_error_signed())},
          {"mean_error_abs", number(s.mean_error_abs())},
          {"e_rel", number(s.relative_error())},
          {"rel_l2", number(s.rel_l2())},
          {"nmse", number(s.nmse())},
          {"cosine", number(s.cosine())},
          {"max_abs", number(s.max_abs_delta)},
          {"bit_equal", number(s.share_bit_equal())},
          {"sign_flips", number(s.share_sign_flips())},
          {"ulp_p50", s.ulp_quantile(0.5)},
          {"ulp_p99", s.ulp_quantile(0.99)},
          {"ulp_max", s.ulp_max},
          {"ulp_sample", s.ulp_sample()},
          {"partition", partition_json(s)}};
}

OrderedJson to_json(const Comparison& c) {
  const Interval interval = wilson95(c.accepted, c.cells);
  OrderedJson out{
      {"profile", c.profile},     {"verdict", verdict_name(c.verdict)}, {"rule", c.rule}, {"metric", c.metric},
      {"value", number(c.value)}, {"threshold", number(c.threshold)},   {"unit", c.unit}, {"cells", c.cells},
      {"accepted", c.accepted}};
  out["accept_rate"] =
      c.cells ? OrderedJson(static_cast<double>(c.accepted) / static_cast<double>(c.cells)) : OrderedJson(nullptr);
  out["wilson95"] = {interval.low, interval.high};
  out["pm_skipped"] = c.pm_skipped;
  out["first_failure"] = c.first_failure ? to_json(*c.first_failure) : OrderedJson(nullptr);
  out["dtype_note"] = c.dtype_note;
  out["notes"] = c.notes;
  out["layers"] = OrderedJson::array();
  for (const auto& l : c.layers) out["layers"].push_back(to_json(l));
  out["total"] = to_json(c.total);
  return out;
}

}  // namespace concord
