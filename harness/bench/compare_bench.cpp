#include "bench/compare_bench.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "bench/load.hpp"
#include "bench/peaks.hpp"
#include "bench/stopwatch.hpp"
#include "compare/compare.hpp"

namespace concord::bench {
namespace {

using Ranges = std::vector<std::span<const std::byte>>;

Ranges states_of(const Capture& capture) {
  Ranges out;
  for (const std::int64_t layer : capture.header().layers) out.push_back(capture.states(layer));
  return out;
}

// What must not change from one repetition to the next.
std::string outcome_of(const std::vector<Comparison>& results) {
  std::string out;
  for (const Comparison& c : results)
    out += to_json(c).dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  return out;
}

std::vector<std::string> verdicts_of(const std::vector<Comparison>& results) {
  std::vector<std::string> out;
  for (const Comparison& c : results)
    out.push_back(fmt::format("{} {} {}/{} {}s", c.profile, verdict_name(c.verdict), c.accepted, c.cells, c.unit));
  return out;
}

class Pair {
 public:
  Pair(const Capture& subject, const Capture& reference, std::span<const Profile> profiles, unsigned threads)
      : subject_(subject),
        reference_(reference),
        profiles_(profiles),
        threads_(threads),
        a_(states_of(subject)),
        b_(states_of(reference)) {
    context_.threads = static_cast<int>(threads);
  }

  std::uint64_t bytes() const {
    std::uint64_t n = 0;
    for (const Ranges* ranges : {&a_, &b_})
      for (const auto& range : *ranges) n += range.size();
    return n;
  }

  Sample read() const {
    Ranges all = a_;
    all.insert(all.end(), b_.begin(), b_.end());
    Sample out;
    out.extra["read_in_turn"] = read_in_turn(all, threads_);
    double together = 0;
    for (std::size_t i = 0; i < a_.size(); ++i) together += read_side_by_side(a_[i], b_[i], threads_);
    out.extra["read_side_by_side"] = together;
    out.extra["read"] = std::min(out.extra["read_in_turn"], together);
    return out;
  }

  Result<Sample> once(int repetition) {
    Sample sample;
    if (repetition % 2 == 0) sample = read();  // neither side always follows the other
    const Stopwatch watch;
    auto results = compare(subject_, reference_, profiles_, context_);
    sample.seconds = watch.seconds();
    if (!results) return std::unexpected(std::move(results).error());
    if (repetition % 2 == 1) sample.extra = read().extra;
    const std::string outcome = outcome_of(*results);
    if (outcome_.empty()) outcome_ = outcome, verdicts_ = verdicts_of(*results);
    if (outcome != outcome_)
      return fail(
          ErrorKind::kConformance, "bench.unstable_output",
          fmt::format(
              "repetition {} of the comparison gave other verdicts or counts than the first one; no time is reported",
              repetition + 1));
    return sample;
  }

  const std::vector<std::string>& verdicts() const { return verdicts_; }

 private:
  const Capture& subject_;
  const Capture& reference_;
  std::span<const Profile> profiles_;
  unsigned threads_;
  Ranges a_, b_;
  CompareContext context_;
  std::string outcome_;
  std::vector<std::string> verdicts_;
};

Result<CompareMeasurement> measure(const std::string& subject_path, const std::string& reference_path,
                                   std::span<const Profile> profiles, const CompareBenchOptions& o,
                                   const std::atomic<bool>& stop) {
  CONCORD_TRY(const Capture subject, Capture::open(subject_path));
  CONCORD_TRY(const Capture reference, Capture::open(reference_path));
  Pair pair(subject, reference, profiles, o.threads);
  pair.read();  // brings the pages into memory
  CompareMeasurement m{.elements = 0, .bytes = pair.bytes(), .dtype = std::string(dtype_name(subject.header().dtype))};
  for (const std::int64_t layer : subject.header().layers)
    m.elements += subject.states(layer).size() * 8 / dtype_bits(subject.header().dtype);
  m.peak_reset = reset_peak_memory();
  CONCORD_TRY([[maybe_unused]] const Sample warm_up, pair.once(0));
  const auto once = [&](int repetition) { return pair.once(repetition); };
  const OtherLoad load;
  CONCORD_TRY(m.samples, run_block("compare", o.repetitions, stop, once));
  m.others = load.share();
  const Memory memory = read_memory();
  m.peak_anonymous = memory.peak - std::min(memory.peak, memory.file_backed);
  m.anonymous = memory.anonymous, m.file_backed = memory.file_backed;
  m.verdicts = pair.verdicts();
  return m;
}

Result<CompareMeasurement> measure_synthetic(const SyntheticSpec& spec, std::span<const Profile> profiles,
                                             const CompareBenchOptions& o, const std::atomic<bool>& stop) {
  CONCORD_TRY(const TemporaryFolder folder, TemporaryFolder::create());
  CONCORD_CHECK(write_synthetic(spec, folder.path()));
  return measure((folder.path() / "subject").string(), (folder.path() / "reference").string(), profiles, o, stop);
}

Result<Growth> measure_growth(const SyntheticSpec& largest, std::span<const Profile> profiles,
                              const CompareBenchOptions& o, const std::atomic<bool>& stop) {
  Growth growth;
  for (const std::int64_t size : growth_sizes(largest.positions() * largest.unit(), largest.unit())) {
    SyntheticSpec spec = largest;
    spec.elements = size;
    CONCORD_TRY(const CompareMeasurement m, measure_synthetic(spec, profiles, o, stop));
    growth.points.push_back({.size = size,
                             .seconds = seconds_of(m.samples),
                             .expected = static_cast<double>(m.bytes),
                             .memory = m.peak_anonymous});
  }
  return growth;
}

}  // namespace

Result<CompareBenchReport> bench_compare(const CompareBenchOptions& options, const std::atomic<bool>& stop) {
  std::vector<Profile> profiles;
  for (const std::string& name : options.profiles) {
    CONCORD_TRY(Profile profile, Profile::load(name));
    profiles.push_back(std::move(profile));
  }
  CompareBenchReport report{.options = options, .main = {}, .growth = {}};
  if (!options.synthetic) {
    CONCORD_TRY(report.main, measure(options.subject, options.reference, profiles, options, stop));
    return report;
  }
  if (options.keep.empty()) {
    CONCORD_TRY(report.main, measure_synthetic(*options.synthetic, profiles, options, stop));
  } else {
    const std::filesystem::path folder = options.keep;
    CONCORD_CHECK(write_synthetic(*options.synthetic, folder));
    CONCORD_TRY(report.main,
                measure((folder / "subject").string(), (folder / "reference").string(), profiles, options, stop));
  }
  if (options.growth) {
    CONCORD_TRY(report.growth, measure_growth(*options.synthetic, profiles, options, stop));
  }
  return report;
}

}  // namespace concord::bench
