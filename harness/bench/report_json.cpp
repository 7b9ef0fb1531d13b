// Reports as JSON, with every sample.
#include "bench/compare_bench.hpp"
#include "bench/model_bench.hpp"
#include "bench/statistics.hpp"
#include "device/provenance.hpp"
#include "experiment/runner.hpp"

namespace concord::bench {
namespace {

OrderedJson spread_json(const std::vector<double>& values) {
  const Spread s = spread(values);
  return {{"median", s.median}, {"least", s.low}, {"most", s.high}, {"samples", values}};
}

OrderedJson samples_json(const std::vector<Sample>& samples) {
  OrderedJson j{{"seconds", spread_json(seconds_of(samples))}};
  if (samples.empty()) return j;
  for (const auto& [name, value] : samples.front().extra) j[name + "_seconds"] = spread_json(extra_of(samples, name));
  return j;
}

OrderedJson to_json(const Peaks& p) {
  OrderedJson j{{"threads", p.threads},
                {"read_bytes_per_second", p.read},
                {"read_one_thread_bytes_per_second", p.read_one},
                {"buffer_bytes", p.read_bytes},
                {"huge_page_bytes", p.huge_bytes}};
  if (!p.device.empty())
    return {{"device", p.device},
            {"matmul", p.matmul},
            {"matmul_flops_per_second", p.flops},
            {"copy", p.copy},
            {"copy_bytes_per_second", p.read}};
  if (p.arithmetic) j["arithmetic"] = arithmetic_name(*p.arithmetic), j["flops_per_second"] = p.flops;
  return j;
}

OrderedJson to_json(const Memory& m) {
  return {{"peak_bytes", m.peak},
          {"resident_bytes", m.resident},
          {"anonymous_bytes", m.anonymous},
          {"file_bytes", m.file_backed}};
}

void add_rate(OrderedJson& j, const char* rate, const char* share, double work, double seconds, double peak) {
  if (work <= 0) return;
  j[rate] = work / seconds;
  if (peak > 0) j[share] = work / seconds / peak;
}

OrderedJson to_json(const Block& b) {
  OrderedJson j{{"name", b.name}, {"title", b.title}, {"tokens", b.tokens}};
  j.update(samples_json(b.samples));
  const double seconds = median(seconds_of(b.samples));
  const Peaks peaks = b.peaks();
  j["tokens_per_second"] = b.tokens / seconds;
  const bool own = !peaks.device.empty();
  add_rate(j, "bytes_per_second", own ? "share_of_copy_rate" : "share_of_read_peak", b.bytes, seconds, peaks.read);
  add_rate(j, "flops_per_second", own ? "share_of_matmul_rate" : "share_of_flops_peak", b.matmul_flops, seconds,
           peaks.flops);
  j["work"] = {{"bytes", b.bytes}, {"matmul_flops", b.matmul_flops}, {"attention_flops", b.attention_flops}};
  if (b.name == "capture" || b.name == "copy_out")
    j["time_with_over_without"] = spread_json(ratios(seconds_of(b.samples), extra_of(b.samples, "plain")));
  if (b.name == "verify")
    j["times_as_fast_as_generating"] = spread_json(ratios(extra_of(b.samples, "generate"), seconds_of(b.samples)));
  j["others_share"] = b.others;
  j["peaks"] = {{"before", to_json(b.before)}, {"after", to_json(b.after)}};
  return j;
}

OrderedJson to_json(const Growth& g) {
  OrderedJson points = OrderedJson::array();
  for (const GrowthPoint& p : g.points) {
    points.push_back({{"size", p.size}, {"seconds", spread_json(p.seconds)}, {"expected_work", p.expected}});
    if (p.memory > 0) points.back()["peak_anonymous_bytes"] = p.memory;
  }
  return {{"points", points}, {"slope", g.slope()}, {"expected_slope", g.expected_slope()}};
}

}  // namespace

OrderedJson to_json(const ModelBenchReport& r) {
  const ModelBenchOptions& o = r.options;
  OrderedJson j{
      {"schema", "concord.bench.model/1"},
      {"provenance", provenance()},
      {"device", device_json(r.device)},
      {"threads", r.threads},
      {"model",
       {{"path", o.model}, {"name", o.model_name}, {"parameters", r.parameters}, {"weights_digest", r.weights_digest}}},
      {"precision", r.precision},
      {"seed", o.seed},
      {"repetitions", o.repetitions},
      {"chunk", o.chunk},
      {"batch", o.batch}};
  j["open_device_seconds"] = r.open_seconds;
  j["load"] = samples_json(r.loads);
  const auto needed = static_cast<double>(r.weight_bytes + r.buffer_bytes);
  j["memory"] = to_json(r.memory);
  j["memory"].update({{"weight_bytes", r.weight_bytes},
                      {"buffer_bytes", r.buffer_bytes},
                      {"peak_over_needed", static_cast<double>(r.memory.peak) / needed}});
  if (r.device_memory) j["memory"].update({{"device_bytes", r.device_memory->now}, {"device_peak_bytes", r.device_memory->peak}});
  j["device_weights"] = to_json(r.device_weights);
  j["cost"] = {{"block_parameters", r.cost.block_parameters},
               {"head_parameters", r.cost.head_parameters},
               {"block_bytes", r.cost.block_bytes},
               {"head_bytes", r.cost.head_bytes},
               {"attention_flops_per_pair", r.cost.attention_per_pair},
               {"kv_bytes_per_position", r.cost.kv_bytes_per_position}};
  j["blocks"] = OrderedJson::array();
  for (const Block& b : r.blocks) j["blocks"].push_back(to_json(b));
  if (!r.verification.empty()) j["verification"] = r.verification;
  if (r.growth) {
    j["growth"] = to_json(*r.growth);
    j["growth"]["expected_slope_without_attention"] = r.growth_matmul_slope;
  }
  return j;
}

OrderedJson states_json(const ModelBenchReport& r) {
  return {{"schema", "concord.bench.states/1"},
          {"model", r.options.model_name},
          {"weights_digest", r.weights_digest},
          {"device", r.device.id},
          {"precision", r.precision},
          {"tokens", random_tokens(r.options.seed, r.options.prefill, r.vocab)},
          {"final_state", r.final_state}};
}

OrderedJson to_json(const CompareBenchReport& r) {
  const CompareMeasurement& m = r.main;
  OrderedJson j{{"schema", "concord.bench.compare/1"},
                {"provenance", provenance()},
                {"profiles", r.options.profiles},
                {"threads", r.options.threads},
                {"repetitions", r.options.repetitions},
                {"elements", m.elements},
                {"dtype", m.dtype},
                {"mapped_bytes", m.bytes}};
  if (r.options.synthetic)
    j["synthetic"] = {{"hidden", r.options.synthetic->hidden}, {"noise", r.options.synthetic->noise}, {"seed", r.options.synthetic->seed}};
  else
    j["captures"] = {r.options.subject, r.options.reference};
  j.update(samples_json(m.samples));
  const std::vector<double> seconds = seconds_of(m.samples), reading = extra_of(m.samples, "read");
  j["bytes_per_second"] = static_cast<double>(m.bytes) / median(seconds);
  j["read_bytes_per_second"] = static_cast<double>(m.bytes) / median(reading);
  j["elements_per_second"] = static_cast<double>(m.elements) / median(seconds);
  j["share_of_reading"] = spread_json(ratios(reading, seconds));
  j["memory"] = {{"peak_above_files_bytes", m.peak_anonymous},
                 {"peak_was_reset", m.peak_reset},
                 {"anonymous_bytes", m.anonymous},
                 {"file_bytes", m.file_backed}};
  j["others_share"] = m.others;
  j["verdicts"] = m.verdicts;
  if (r.growth) j["growth"] = to_json(*r.growth);
  return j;
}

}  // namespace concord::bench
