// A battery of calls of every operator, small and chosen so that each planted fault has one that shows it, and
// everything that can be seen of a call: status, kernel, fallbacks, and the bytes of all operands with their
// surroundings.
#pragma once
#include "abi/testing/bench.hpp"

namespace concord::testing {

struct Observation {
  std::string op, what;
  std::string status;  // of supports, run and synchronize, with the witness
  std::vector<std::byte> bits;
  bool operator==(const Observation&) const = default;
};

// The whole battery in its order, each operator on a device that is newly opened. The battery is the same for every
// device.
std::vector<Observation> observe_all(const Backends& from, const std::string& id, unsigned threads = 0);

}  // namespace concord::testing
