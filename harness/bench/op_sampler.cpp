#include "bench/op_sampler.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bench/stopwatch.hpp"

namespace concord::bench {

using conformance::Problem;

const char* cache_name(Cache c) { return c == Cache::kWarm ? "warm" : "cold"; }

double timer_resolution() {
  using Clock = std::chrono::steady_clock;
  double best = 1;
  for (int i = 0; i < 100; ++i) {
    const auto start = Clock::now();
    auto now = start;
    while (now == start) now = Clock::now();
    best = std::min(best, std::chrono::duration<double>(now - start).count());
  }
  return best;
}

Result<OpSampler> OpSampler::create(Device& device, const Problem& problem, std::span<const std::byte> inputs,
                                    CacheSweep* sweep) {
  OpSampler s;
  s.device_ = &device, s.problem_ = &problem, s.inputs_ = inputs, s.sweep_ = sweep;
  CONCORD_TRY(OpOperands first, OpOperands::create(device, problem, inputs, s.arenas()));
  s.copies_.push_back(std::move(first));
  CONCORD_CHECK(device.supports(s.copies_.front().call(0)));
  return s;
}

std::uint64_t OpSampler::bytes_between() const {
  if (!sweep_) return 0;
  return sweep_->bytes() + (copies_.size() - 1) * OpOperands::touched_bytes(*problem_);
}

OpSampler::Place OpSampler::verified_place(Verify verify) const {
  const std::size_t copy = sweep_ && verify == Verify::kLast ? calls_ - 1 : 0;
  return {copy, arenas() - 1};
}

OpSampler::Place OpSampler::place_of(std::size_t call, Verify verify) const {
  if (sweep_) return {call, 0};
  const bool verified = (verify == Verify::kFirst && call == 0) || (verify == Verify::kLast && call + 1 == calls_);
  return {0, verified ? arenas() - 1 : 0};
}

Status OpSampler::call(const Place& place) {
  concord_witness witness{};
  const std::uint64_t before = device_->fallbacks();
  CONCORD_CHECK(device_->run(copies_[place.copy].call(place.arena), witness));
  if (!counting_) return {};
  Witnessed& w = witnessed_;
  w.fallbacks += device_->fallbacks() - before;
  w.declared = std::max(w.declared, witness.determinism);
  if (w.calls++ == 0)
    w.kernel = witness.kernel;
  else if (w.kernel != witness.kernel)
    w.others.insert(witness.kernel);
  return {};
}

// What a sample needs before its clock starts.
Status OpSampler::ready(Verify verify, unsigned repetition) {
  verified_ = verified_place(verify);
  if (verify != Verify::kNone) CONCORD_CHECK(copies_[verified_.copy].prepare(verified_.arena, repetition));
  if (sweep_) {
    if (problem_->in_place)
      for (std::size_t i = 0; i < calls_; ++i) CONCORD_CHECK(copies_[i].prepare(0, repetition));
    return sweep_->run();
  }
  const bool counting = std::exchange(counting_, false);
  const Status warm = call({0, 0});
  counting_ = counting;
  CONCORD_CHECK(warm);
  return device_->synchronize();
}

Result<double> OpSampler::timed(std::size_t first, std::size_t end, Verify verify) {
  const Stopwatch watch;
  for (std::size_t i = first; i < end; ++i) CONCORD_CHECK(call(place_of(i, verify)));
  CONCORD_CHECK(device_->synchronize());
  return watch.seconds();
}

// Warm and in place: each call finds the operands that the first one found.
Result<double> OpSampler::timed_in_place(Verify verify, unsigned repetition) {
  double seconds = 0;
  for (std::size_t i = 0; i < calls_; ++i) {
    CONCORD_CHECK(copies_.front().prepare(place_of(i, verify).arena, repetition));
    CONCORD_TRY(const double one, timed(i, i + 1, verify));
    seconds += one;
  }
  return seconds;
}

Result<double> OpSampler::run(Verify verify, unsigned repetition) {
  CONCORD_CHECK(ready(verify, repetition));
  return !sweep_ && problem_->in_place ? timed_in_place(verify, repetition) : timed(0, calls_, verify);
}

Result<double> OpSampler::sample(Verify verify, unsigned repetition) {
  counting_ = true;
  return run(verify, repetition);
}

namespace {
std::size_t calls_for(double seconds, double each, std::size_t most) {
  return static_cast<std::size_t>(
      std::clamp(std::ceil(seconds / std::max(each, 1e-9)), 1.0, static_cast<double>(most)));
}
}  // namespace

Status OpSampler::calibrate_warm(double seconds, std::size_t most) {
  for (;;) {
    CONCORD_TRY(const double all, run(Verify::kNone, 0));
    const std::size_t wanted = calls_for(seconds, all / static_cast<double>(calls_), most);
    if (calls_ >= wanted) return {};
    calls_ = std::min(wanted, 10 * calls_);
  }
}

Status OpSampler::make_copies(std::size_t count) {
  while (copies_.size() < count) {
    CONCORD_TRY(OpOperands copy, OpOperands::create(*device_, *problem_, inputs_, 1));
    copies_.push_back(std::move(copy));
  }
  calls_ = count;
  return {};
}

// The first call of a sample finds the code swept out as well, so that one call alone says too much of the others. Ends
// at a number that is enough twice, or nearly, since the first call of all may set things up.
Status OpSampler::calibrate_cold(double seconds, std::size_t most) {
  for (int held = 0; held < 2;) {
    CONCORD_TRY(const double all, run(Verify::kNone, 0));
    const std::size_t wanted = calls_for(seconds, all / static_cast<double>(calls_), most);
    const bool more = wanted > calls_ + calls_ / 4;
    held += !more;
    if (more) CONCORD_CHECK(make_copies(wanted));
  }
  return {};
}

Status OpSampler::calibrate(double seconds, std::size_t most) {
  return sweep_ ? calibrate_cold(seconds, most) : calibrate_warm(seconds, most);
}

Result<std::vector<std::byte>> OpSampler::verified_outputs() {
  return copies_[verified_.copy].download(verified_.arena);
}

Result<std::vector<std::byte>> OpSampler::other_outputs() {
  if (calls_ < 2) return std::vector<std::byte>();
  return copies_.front().download(0);  // the verified ones are in the second arena, or in the last copy
}

Result<std::vector<std::byte>> OpSampler::outputs_of(std::span<const std::byte> inputs, unsigned repetition) {
  OpOperands& copy = copies_.front();
  CONCORD_CHECK(copy.refill(inputs));
  CONCORD_CHECK(copy.prepare(0, repetition));
  CONCORD_CHECK(call({0, 0}));
  CONCORD_CHECK(device_->synchronize());
  return copy.download(0);
}

Result<std::string> OpSampler::changed_input() {
  for (OpOperands& copy : copies_) {
    CONCORD_TRY(std::string name, copy.changed_input());
    if (!name.empty()) return name;
  }
  return std::string();
}

}  // namespace concord::bench
