// Timed calls of one case on one device: warm or cold, with the outputs of chosen calls kept for judging.
#pragma once
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bench/cache_sweep.hpp"
#include "bench/op_operands.hpp"

namespace concord::bench {

enum class Cache { kWarm, kCold };
const char* cache_name(Cache c);  // "warm"

// Which call of a sample writes into an arena that was poisoned for it and is downloaded afterwards.
enum class Verify { kNone, kFirst, kLast };

// What the witnesses of the timed calls said.
struct Witnessed {
  std::uint64_t calls = 0;
  std::string kernel;            // of the first timed call
  std::set<std::string> others;  // different ones
  std::uint64_t fallbacks = 0;   // moved during timed calls
  std::uint32_t declared = 0;    // the weakest declared determinism
};

// Warm: every call works on the same operands, after one that is not timed; a verified call writes to a second output
// arena. Cold: every call of a sample works on operands of its own, and the device's caches are swept before the
// sample. In place the operands are put back before each call, and warm calls are timed one by one for that.
class OpSampler {
 public:
  // sweep: null for warm. The caller keeps device, problem, inputs and sweep alive.
  static Result<OpSampler> create(Device& device, const conformance::Problem& problem,
                                  std::span<const std::byte> inputs, CacheSweep* sweep);
  // Chooses the number of calls in a sample from calls that do not count: as many as last `seconds`, at most `most`;
  // makes the copies that cold calls need.
  Status calibrate(double seconds, std::size_t most);
  // One sample: seconds that all its calls took together.
  Result<double> sample(Verify verify, unsigned repetition);
  // The output arena of the verified call of the latest sample that had one.
  Result<std::vector<std::byte>> verified_outputs();
  // Another arena that timed calls wrote to, not poisoned for them; empty where there is none.
  Result<std::vector<std::byte>> other_outputs();
  Result<std::string> changed_input();  // over all copies
  // One more call, not timed but witnessed: on other inputs, in the buffers of the timed calls. A device that gives
  // back what it computed before is fast, and right until here. Nothing can be sampled afterwards.
  Result<std::vector<std::byte>> outputs_of(std::span<const std::byte> inputs, unsigned repetition);

  std::size_t calls() const { return calls_; }
  std::size_t copies() const { return copies_.size(); }
  Cache cache() const { return sweep_ ? Cache::kCold : Cache::kWarm; }
  // Bytes read between two uses of one copy in timed calls; 0 when warm.
  std::uint64_t bytes_between() const;
  const Witnessed& witnessed() const { return witnessed_; }

 private:
  OpSampler() = default;
  struct Place {
    std::size_t copy = 0, arena = 0;
  };
  std::size_t arenas() const { return sweep_ ? 1 : 2; }
  Place place_of(std::size_t call, Verify verify) const;
  Place verified_place(Verify verify) const;
  Status ready(Verify verify, unsigned repetition);
  Result<double> timed(std::size_t first, std::size_t end, Verify verify);
  Result<double> timed_in_place(Verify verify, unsigned repetition);
  Result<double> run(Verify verify, unsigned repetition);
  Status calibrate_warm(double seconds, std::size_t most);
  Status make_copies(std::size_t count);
  Status calibrate_cold(double seconds, std::size_t most);
  Status call(const Place& place);
  Device* device_ = nullptr;
  const conformance::Problem* problem_ = nullptr;
  std::span<const std::byte> inputs_;
  CacheSweep* sweep_ = nullptr;
  std::vector<OpOperands> copies_;
  std::size_t calls_ = 1;
  Place verified_;
  Witnessed witnessed_;
  bool counting_ = false;  // calls before the first sample are not witnessed
};

double timer_resolution();  // smallest step of the clock that is seen [s]

}  // namespace concord::bench
