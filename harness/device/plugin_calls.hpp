// Small well-formed calls of every operator, made from the ABI's table of operands: shapes and dtypes, no meaning.
#pragma once
#include "device/plugin_probe.hpp"

namespace concord::plugin_check {

inline constexpr std::uint32_t kActivations[] = {CONCORD_F32, CONCORD_F16, CONCORD_BF16, CONCORD_F64};

// Optional operands are left out; buffers and weight are NULL, as supports() may see them.
concord_call small_call(std::uint32_t op, std::uint32_t activation);
bool needs_weight(std::uint32_t op);
concord_weight_desc weight_of(std::uint32_t dtype, std::int64_t rows, std::int64_t cols, const void* data);

// The same with buffers and weight on a device: inputs hold small numbers and valid indices, outputs a pattern.
class PreparedCall {
 public:
  PreparedCall(Probe& p, const Opened& d, std::uint32_t op, std::uint32_t activation);
  ~PreparedCall();
  PreparedCall(const PreparedCall&) = delete;
  PreparedCall& operator=(const PreparedCall&) = delete;
  bool ready() const { return ready_; }  // false: the weight is not served, or a failure is recorded
  concord_call call{};
  void reset_outputs();
  std::vector<std::vector<std::byte>> outputs();
  bool outputs_untouched();

 private:
  void add(concord_tensor& tensor, bool output);
  bool add_weight();
  Probe& p_;
  const Opened& device_;
  std::vector<Memory> memory_;
  std::vector<std::size_t> outputs_;  // indices into memory_
  concord_weight* weight_ = nullptr;
  bool ready_ = false;
};

}  // namespace concord::plugin_check
