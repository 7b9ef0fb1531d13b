// Outputs of a device on disk, for whoever looks into a wrong result: the bytes of each output one after the other.
// Inputs are not kept, because the case's id and the seed make them again.
#pragma once
#include <span>
#include <string>

#include "base/json.hpp"
#include "conformance/numerics/problem.hpp"

namespace concord::conformance {

class OutputSaver {
 public:
  explicit OutputSaver(std::string folder) : folder_(std::move(folder)) {}
  // Writes <folder>/outputs/<digest of key>.bin and says what is in it; says why not where the limits of one file or of
  // the run are reached.
  Result<OrderedJson> save(const std::string& key, const Problem& problem, std::span<const std::byte> outputs);

 private:
  std::string folder_;
  std::uint64_t written_ = 0;  // [bytes]
};

}  // namespace concord::conformance
