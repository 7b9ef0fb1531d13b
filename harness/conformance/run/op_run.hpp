// One case's call on one device: operands in device memory, the call, and what came back, guards included. The
// worker's; judges nothing.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "conformance/numerics/problem.hpp"
#include "device/device.hpp"

namespace concord::conformance {

// What a call did. `status` is the first thing that failed: the device's answer to supports, to the call, or to a
// transfer.
struct CallResult {
  Status status;
  bool ran = false;    // run was called and came back
  std::string kernel;  // the witness; empty where there is none
  std::uint32_t declared = 0;
  double seconds = 0;  // call and synchronisation
};

class OpRun {
 public:
  // `weight` may come from another run of the same case on the same device; NULL: it is created where the case has one.
  OpRun(Device& device, const Problem& problem, std::span<const std::byte> inputs, std::shared_ptr<Weight> weight = {});

  // Weight and inputs onto the device. Errors: the device's.
  Status prepare();
  // Fills the output buffers with the poison of a repetition, calls, and brings everything back. outputs.size() ==
  // problem.output_bytes; it is overwritten even where the call was refused, so that what a refused call wrote is seen.
  // The memory is zero before anything is brought back.
  CallResult call(unsigned repetition, std::span<std::byte> outputs);
  // The name of the first input that is no longer what it was; empty: none. Errors: the device's.
  Result<std::string> changed_input();
  const std::shared_ptr<Weight>& weight() const { return weight_; }

 private:
  Status fill(unsigned repetition);
  Status bring_back(std::span<std::byte> outputs);
  Status execute(CallResult& result);

  Device& device_;
  const Problem& problem_;
  std::span<const std::byte> inputs_;
  concord_call call_;
  std::shared_ptr<Weight> weight_;
  std::vector<Buffer> input_buffers_, output_buffers_;  // an input that is in place has an empty buffer
};

// The same call for one row alone; nothing where rows are not independent or there is only one. What is not by row
// (tables, caches, weights) stays whole.
std::optional<Problem> row_problem(const Problem& problem, std::int64_t row);
std::int64_t row_count(const Problem& problem);  // 0: not by row

// Whether two runs of one problem have the same outputs, and no guard of the second was touched.
bool same_outputs(const Problem& problem, std::span<const std::byte> first, std::span<const std::byte> second,
                  std::span<const std::byte> inputs);
// Whether a row that was computed alone has the bits it has in the whole.
bool same_row(const Problem& whole, std::span<const std::byte> outputs, const Problem& alone,
              std::span<const std::byte> row_outputs, std::int64_t row);

}  // namespace concord::conformance
