#include "bench/op_bench.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "bench/blocks.hpp"
#include "bench/stopwatch.hpp"
#include "conformance/numerics/expectation.hpp"

namespace concord::bench {
namespace {

using conformance::Expectation;
using conformance::MathMode;
using conformance::Problem;

constexpr std::size_t kMostCalls = 1'000'000;           // in a warm sample
constexpr std::size_t kMostCopies = 4096;               // of a case's operands, for cold samples
constexpr std::uint64_t kMostCopyBytes = 256ull << 20;  // of all copies together, where more than one is made

struct OpenDevice {
  std::unique_ptr<Device> device;
  std::unique_ptr<CacheSweep> sweep;  // made when it is first needed; must go before the device
  MathMode mode;
};

struct Work {
  const OpBenchOptions& options;
  const OpProgress& progress;
  const std::atomic<bool>& stop;
  std::vector<OpenDevice> devices;
  OpBenchReport report;
};

// A case as it is on this machine: the operands and, for each arithmetic, what its outputs must be.
struct Prepared {
  std::size_t index = 0;
  Problem problem;
  // Those that are timed, and others of the same kind for the call that shows that they are computed.
  struct Data {
    std::vector<std::byte> inputs;
    std::map<MathMode, Expectation> expectations;

    Wanted wanted(const MathMode& mode) const { return {inputs, &expectations.at(mode)}; }
    Status expect(const Problem& problem, const MathMode& mode) {
      if (expectations.contains(mode)) return {};
      CONCORD_TRY(Expectation expected, conformance::expect(problem, inputs, mode));
      expectations.emplace(mode, std::move(expected));
      return {};
    }
  };
  Data timed, fresh;
};

DType activations_of(const conformance::CaseSpec& spec) {
  const auto x = spec.options.find("x");
  const std::string word = x == spec.options.end() ? "" : x->second;
  return word == "f16" ? DType::kF16 : word == "bf16" ? DType::kBF16 : word == "f64" ? DType::kF64 : DType::kF32;
}

std::string witness_of(const OpBenchOptions& options, const std::string& device) {
  for (const auto& [id, pattern] : options.witness)
    if (id == device) return pattern;
  return {};
}

Result<CacheSweep*> sweep_of(Work& work, std::size_t d) {
  OpenDevice& open = work.devices[d];
  if (!open.sweep) {
    const std::uint64_t asked = work.options.sweep_bytes;
    CONCORD_TRY(CacheSweep sweep,
                CacheSweep::create(*open.device, asked ? asked : sweep_bytes_for(open.device->facts())));
    open.sweep = std::make_unique<CacheSweep>(std::move(sweep));
  }
  return open.sweep.get();
}

// Rounds of samples until the interval is narrow enough or the time is over. The first call of the first sample and the
// last call of each round's last sample are verified ones: whichever round is the last, its last call can be judged.
Status take_samples(Work& work, const std::string& name, OpSampler& sampler, OpMeasurement& m, TimedOutputs& kept) {
  const Stopwatch watch;
  unsigned repetition = 0;
  for (std::size_t n; (n = next_round(m.samples, watch.seconds(), work.options.limits)) > 0;) {
    const bool opening = m.samples.empty();
    const auto once = [&](int i) -> Result<Sample> {
      const bool last = static_cast<std::size_t>(i) + 1 == n;
      const Verify verify = last ? Verify::kLast : opening && i == 0 ? Verify::kFirst : Verify::kNone;
      CONCORD_TRY(const double seconds, sampler.sample(verify, repetition));
      if (verify != Verify::kNone) {
        CONCORD_TRY((last ? kept.last : kept.first), sampler.verified_outputs());
        ++repetition;
      }
      return Sample{.seconds = seconds / static_cast<double>(sampler.calls()), .extra = {}};
    };
    CONCORD_TRY(const std::vector<Sample> round, run_block(name, static_cast<int>(n), work.stop, once));
    for (const Sample& s : round) m.samples.push_back(s.seconds);
  }
  m.seconds = watch.seconds();
  return {};
}

std::size_t most_calls(const Problem& problem, Cache cache) {
  if (cache == Cache::kWarm) return kMostCalls;
  const std::uint64_t each = std::max<std::uint64_t>(1, OpOperands::device_bytes(problem));
  return std::clamp<std::size_t>(kMostCopyBytes / each, 1, kMostCopies);
}

Status time_case(Work& work, const Prepared& p, OpMeasurement& m) {
  const OpBenchOptions& o = work.options;
  OpenDevice& open = work.devices[m.device_index];
  const std::string& device = open.device->facts().id;
  CacheSweep* sweep = nullptr;
  if (m.cache == Cache::kCold) {
    CONCORD_TRY(sweep, sweep_of(work, m.device_index));
  }
  CONCORD_TRY(OpSampler sampler, OpSampler::create(*open.device, p.problem, p.timed.inputs, sweep));
  CONCORD_CHECK(sampler.calibrate(std::max(o.sample_seconds, 100 * work.report.timer), most_calls(p.problem, m.cache)));
  m.calls = sampler.calls(), m.copies = sampler.copies(), m.bytes_between = sampler.bytes_between();
  m.epoch = work.report.peaks.epoch();
  TimedOutputs kept;
  const std::string name = fmt::format("{} {} {}", o.cases[p.index].id, device, cache_name(m.cache));
  CONCORD_CHECK(take_samples(work, name, sampler, m, kept));
  CONCORD_TRY(kept.unverified, sampler.other_outputs());
  CONCORD_TRY(const std::string changed, sampler.changed_input());
  CONCORD_TRY(kept.fresh, sampler.outputs_of(p.fresh.inputs, 1));
  m.verification = verify(p.problem, p.timed.wanted(open.mode), p.fresh.wanted(open.mode), kept, sampler.witnessed(),
                          changed, witness_of(o, device));
  m.interval = median_interval(m.samples);
  m.sufficient = is_sufficient(m.interval, o.limits);
  return {};
}

OpMeasurement blank(const Work& work, const Prepared& p, std::size_t device, Cache cache) {
  OpMeasurement m;
  m.case_index = p.index, m.device_index = device, m.cache = cache;
  const Device& d = *work.devices[device].device;
  m.peak = {arithmetic_of(d.facts().id, activations_of(p.problem.spec)), d.threads()};
  m.has_peak = runs_on_this_processor(d.facts());
  return m;
}

// Without the samples of a time that is not to be printed: nobody can read a number that is not there.
void withhold(OpMeasurement& m) {
  m.samples.clear();
  m.interval = {}, m.sufficient = false;
}

Status measure(Work& work, Prepared& p, std::size_t device, Cache cache) {
  OpMeasurement m = blank(work, p, device, cache);
  OpenDevice& open = work.devices[device];
  CONCORD_CHECK(p.timed.expect(p.problem, open.mode));
  CONCORD_CHECK(p.fresh.expect(p.problem, open.mode));
  if (const Status timed = time_case(work, p, m); !timed) {
    if (timed.error().kind == ErrorKind::kInterrupted) return timed;
    m.verification = refused(p.problem, timed.error());
  }
  if (!m.verification.passed()) withhold(m);
  work.report.measurements.push_back(std::move(m));
  return {};
}

// Why a case is not measured at all; empty: it is.
std::string why_skipped(const Problem& problem) {
  if (problem.expect_refusal) return "an extent is 0: there is nothing to time";
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  // Inputs and outputs on this side and on the device's, the weight in two forms; the oracle's values and bounds, three
  // float64 numbers for an output of two bytes.
  const double needed = 4 * static_cast<double>(problem.input_bytes) + 34 * static_cast<double>(problem.output_bytes);
  if (needed <= 0.75 * memory) return {};
  return fmt::format("it needs about {:.1f} GiB of memory, more than three quarters of this machine's",
                     needed / (1u << 30));
}

void skip(Work& work, const Prepared& p, const std::string& why) {
  for (std::size_t d = 0; d < work.devices.size(); ++d)
    for (const Cache cache : work.options.caches) {
      OpMeasurement m = blank(work, p, d, cache);
      m.verification.decision = {CaseStatus::kSkipped, "none", why};
      work.report.measurements.push_back(std::move(m));
    }
}

Status run_case(Work& work, std::size_t index) {
  const OpBenchOptions& o = work.options;
  Prepared p;
  p.index = index;
  CONCORD_TRY(p.problem, conformance::make_problem(o.cases[index].spec));
  if (const std::string why = why_skipped(p.problem); !why.empty()) return skip(work, p, why), Status{};
  for (const auto& [data, seed] : {std::pair{&p.timed, o.seed}, std::pair{&p.fresh, ~o.seed}}) {
    data->inputs.resize(p.problem.input_bytes);
    conformance::fill_inputs(p.problem, seed, data->inputs);
  }
  for (std::size_t d = 0; d < work.devices.size(); ++d)
    for (const Cache cache : o.caches) {
      if (work.stop)
        return fail(ErrorKind::kInterrupted, "bench.interrupted", "interrupted before " + o.cases[index].id);
      if (work.progress)
        work.progress(o.cases[index].id, work.devices[d].device->facts().id, cache, work.report.measurements.size(),
                      o.cases.size() * o.devices.size() * o.caches.size());
      CONCORD_CHECK(measure(work, p, d, cache));
    }
  return {};
}

Status open_devices(Work& work, const Backends& backends) {
  for (const std::string& id : work.options.devices) {
    CONCORD_TRY(Device device, backends.open(id, work.options.threads));
    OpenDevice open{std::make_unique<Device>(std::move(device)), nullptr, {}};
    open.mode = MathMode::from_features(open.device->facts().features);
    work.report.devices.push_back({open.device->facts(), open.device->threads(), open.mode.name()});
    work.devices.push_back(std::move(open));
  }
  return {};
}

// Which peaks the measurements will be held against.
std::vector<PeakKey> peak_keys(const Work& work) {
  std::vector<PeakKey> keys;
  for (const OpenDevice& d : work.devices) {
    if (!runs_on_this_processor(d.device->facts())) continue;
    for (const auto& planned : work.options.cases) {
      const PeakKey key{arithmetic_of(d.device->facts().id, activations_of(planned.spec)), d.device->threads()};
      if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
    }
  }
  return keys;
}

}  // namespace

std::optional<Peaks> OpBenchReport::peaks_of(const OpMeasurement& m) const {
  return m.has_peak ? peaks.around(m.epoch, m.peak) : std::nullopt;
}

OpRates OpBenchReport::rates(const OpMeasurement& m) const {
  return rates_of(case_of(m).flops, case_of(m).bytes, m.interval.median, peaks_of(m));
}

OpBenchReport::Counts OpBenchReport::counts() const {
  Counts c;
  for (const OpMeasurement& m : measurements) switch (m.verification.decision.status) {
      case CaseStatus::kPass:
        ++c.measured, c.insufficient += !m.sufficient;
        break;
      case CaseStatus::kUnsupported:
        ++c.unsupported;
        break;
      case CaseStatus::kSkipped:
        ++c.skipped;
        break;
      default:
        ++c.failed;
    }
  return c;
}

Result<OpBenchReport> bench_ops(const OpBenchOptions& options, const Backends& backends, const OpProgress& progress,
                                const std::atomic<bool>& stop) {
  Work work{options, progress, stop, {}, {}};
  work.report.options = options;
  work.report.timer = timer_resolution();
  CONCORD_CHECK(open_devices(work, backends));
  work.report.peaks = PeakBook(peak_keys(work));
  for (std::size_t i = 0; i < options.cases.size(); ++i) CONCORD_CHECK(run_case(work, i));
  work.report.peaks.close();
  return std::move(work.report);
}

}  // namespace concord::bench
