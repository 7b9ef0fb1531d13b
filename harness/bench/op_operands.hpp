// One copy of a case's operands on a device, and the calls on them.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "conformance/numerics/problem.hpp"
#include "device/device.hpp"

namespace concord::bench {

// Inputs and weight once, and one or more output arenas: calls into different arenas are the same call but for where
// the outputs go. Must not outlive the device, nor the problem and the input arena, which it refers to.
class OpOperands {
 public:
  // Allocates, uploads the inputs, creates the weight, prepares every arena with poison 0. Errors: those of the device.
  static Result<OpOperands> create(Device& device, const conformance::Problem& problem,
                                   std::span<const std::byte> inputs, std::size_t arenas);

  const concord_call& call(std::size_t arena) const { return outputs_[arena].call; }
  std::size_t arenas() const { return outputs_.size(); }
  // Guards, the poison of that repetition, and initial contents.
  Status prepare(std::size_t arena, unsigned repetition);
  Result<std::vector<std::byte>> download(std::size_t arena);
  // Other inputs and another weight into the same buffers; every arena's call is on them from then on.
  Status refill(std::span<const std::byte> inputs);
  // The first input that no longer holds what was uploaded; empty: none.
  Result<std::string> changed_input();

  // What a call reads and writes at most [bytes]: inputs, weight in the form of the ABI, outputs; without guards.
  static std::uint64_t touched_bytes(const conformance::Problem& problem);
  // What one copy takes on the device, arenas and weight.
  static std::uint64_t device_bytes(const conformance::Problem& problem);

 private:
  struct Output {
    Buffer buffer;
    concord_call call{};
  };
  concord_call bind(const Buffer& outputs) const;
  Device* device_ = nullptr;
  const conformance::Problem* problem_ = nullptr;
  std::span<const std::byte> host_;
  Buffer inputs_;
  Weight weight_;
  std::vector<Output> outputs_;
};

}  // namespace concord::bench
