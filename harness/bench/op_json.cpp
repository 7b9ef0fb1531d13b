// `concord bench op` as JSON: every sample of every verified measurement, and the evidence of those that were not.
#include "bench/op_bench.hpp"
#include "device/provenance.hpp"

namespace concord::bench {
namespace {

OrderedJson device_json_of(const BenchedDevice& d) {
  OrderedJson j = device_json(d.facts);
  j["threads"] = d.threads, j["math_mode"] = d.math_mode;
  return j;
}

OrderedJson times_json(const OpMeasurement& m) {
  OrderedJson j{{"median_seconds", m.interval.median},
                {"low_seconds", m.interval.low},
                {"high_seconds", m.interval.high},
                {"coverage", m.interval.coverage}};
  j["sufficient"] = m.sufficient;
  j["seconds_per_call"] = m.samples;
  j["spent_seconds"] = m.seconds;
  return j;
}

void add(OrderedJson& j, const char* name, double value) {
  if (value > 0) j[name] = value;
}

OrderedJson rates_json(const OpRates& r) {
  OrderedJson j = OrderedJson::object();
  add(j, "flops_per_second", r.flops), add(j, "share_of_flops_peak", r.of_flops);
  add(j, "bytes_per_second", r.bytes), add(j, "share_of_read_peak", r.of_bytes);
  add(j, "roofline_seconds", r.roofline_seconds), add(j, "share_of_roofline", r.of_roofline);
  return j;
}

OrderedJson measurement_json(const OpBenchReport& r, const OpMeasurement& m) {
  const conformance::PlannedCase& planned = r.case_of(m);
  const Verification& v = m.verification;
  OrderedJson j{{"case", planned.id},           {"device", r.devices[m.device_index].facts.id},
                {"cache", cache_name(m.cache)}, {"status", status_name(v.decision.status)},
                {"check", v.decision.check},    {"reason", v.decision.reason}};
  if (v.decision.status == CaseStatus::kSkipped) return j;
  j["work"] = {{"flops", planned.flops}, {"bytes", planned.bytes}};
  if (v.passed()) {
    j["calls_per_sample"] = m.calls, j["copies"] = m.copies, j["bytes_between_uses"] = m.bytes_between;
    j["time"] = times_json(m);
    j["rates"] = rates_json(r.rates(m));
    j["peaks"] = m.epoch;
    if (m.peak.first) j["arithmetic"] = arithmetic_name(*m.peak.first);
  }
  j["first_call"] = to_json(v.first), j["last_call"] = to_json(v.last), j["call_on_other_inputs"] = to_json(v.fresh);
  return j;
}

OrderedJson peaks_json(const std::map<PeakKey, Peaks>& marks) {
  OrderedJson list = OrderedJson::array();
  for (const auto& [key, p] : marks) {
    OrderedJson j{{"threads", p.threads},
                  {"read_bytes_per_second", p.read},
                  {"read_one_thread_bytes_per_second", p.read_one},
                  {"buffer_bytes", p.read_bytes}};
    if (key.first) j["arithmetic"] = arithmetic_name(*key.first), j["flops_per_second"] = p.flops;
    list.push_back(std::move(j));
  }
  return list;
}

}  // namespace

OrderedJson to_json(const OpBenchReport& r) {
  const OpBenchOptions& o = r.options;
  OrderedJson j{{"schema", "concord.bench.op/1"}, {"provenance", provenance()}, {"seed", o.seed}};
  j["limits"] = {{"precision", o.limits.precision},
                 {"max_seconds", o.limits.max_seconds},
                 {"min_samples", o.limits.min_samples},
                 {"confidence", kConfidence}};
  j["timer_resolution_seconds"] = r.timer, j["last_level_cache_bytes"] = last_level_cache();
  j["isolation"] = "none: timed in the process of the command";
  for (const BenchedDevice& d : r.devices) j["devices"].push_back(device_json_of(d));
  j["peaks"] = OrderedJson::array();
  for (std::size_t e = 0; e < r.peaks.epochs(); ++e)
    j["peaks"].push_back({{"before", peaks_json(r.peaks.begin_of(e))},
                          {"after", peaks_json(r.peaks.end_of(e))},
                          {"others_share", r.peaks.others(e)}});
  const OpBenchReport::Counts c = r.counts();
  j["counts"] = {{"measured", c.measured},
                 {"insufficient", c.insufficient},
                 {"not_verified", c.failed},
                 {"unsupported", c.unsupported},
                 {"skipped", c.skipped}};
  j["measurements"] = OrderedJson::array();
  for (const OpMeasurement& m : r.measurements) j["measurements"].push_back(measurement_json(r, m));
  return j;
}

}  // namespace concord::bench
