#include "conformance/run/op_run.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "conformance/numerics/layout.hpp"

namespace concord::conformance {
namespace {

// The input that is the first output itself.
bool is_in_place(const Problem& p, const Operand& input) { return p.in_place && p.outputs[0].initial == input.offset; }

bool equal_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

OpRun::OpRun(Device& device, const Problem& problem, std::span<const std::byte> inputs, std::shared_ptr<Weight> weight)
    : device_(device), problem_(problem), inputs_(inputs), call_(problem.call), weight_(std::move(weight)) {}

Status OpRun::prepare() {
  if (problem_.weight && !weight_) {
    CONCORD_TRY(Weight weight, device_.create_weight(weight_desc(*problem_.weight, inputs_)));
    weight_ = std::make_shared<Weight>(std::move(weight));
  }
  if (weight_) call_.weight = weight_->get();
  for (const Operand& o : problem_.outputs) {
    const Fence fence = fence_of(o);
    CONCORD_TRY(Buffer buffer, device_.allocate(fence.end - fence.begin));
    call_.out[o.slot].buffer = buffer.get();
    call_.out[o.slot].byte_offset = o.offset - fence.begin;
    output_buffers_.push_back(std::move(buffer));
  }
  for (const Operand& o : problem_.inputs) {
    if (is_in_place(problem_, o)) {
      call_.in[o.slot].buffer = call_.out[0].buffer;
      call_.in[o.slot].byte_offset = call_.out[0].byte_offset;
      input_buffers_.emplace_back();
      continue;
    }
    CONCORD_TRY(Buffer buffer, device_.allocate(std::max<std::uint64_t>(o.bytes, 1)));
    if (o.bytes > 0) CONCORD_CHECK(device_.upload(buffer, 0, inputs_.subspan(o.offset, o.bytes)));
    call_.in[o.slot].buffer = buffer.get();
    input_buffers_.push_back(std::move(buffer));
  }
  return {};
}

Status OpRun::fill(unsigned repetition) {
  std::vector<std::byte> filled(problem_.output_bytes);
  fill_outputs(problem_, repetition, inputs_, filled);
  for (std::size_t i = 0; i < problem_.outputs.size(); ++i) {
    const Fence fence = fence_of(problem_.outputs[i]);
    CONCORD_CHECK(
        device_.upload(output_buffers_[i], 0, std::span(filled).subspan(fence.begin, fence.end - fence.begin)));
  }
  return {};
}

Status OpRun::execute(CallResult& result) {
  const Status supported = device_.supports(call_);
  // A case that must be refused is called all the same: that the call itself refuses it, and touches nothing, is what
  // is asked.
  if (!supported && !(problem_.expect_refusal && supported.error().code == "device.invalid_call")) return supported;
  concord_witness witness{};
  const auto start = std::chrono::steady_clock::now();
  CONCORD_CHECK(device_.run(call_, witness));
  CONCORD_CHECK(device_.synchronize());
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.ran = true;
  result.kernel = witness.kernel;
  result.declared = witness.determinism;
  return {};
}

Status OpRun::bring_back(std::span<std::byte> outputs) {
  std::ranges::fill(outputs, std::byte{0});  // a transfer that does nothing must not find what an earlier one left
  for (std::size_t i = 0; i < problem_.outputs.size(); ++i) {
    const Fence fence = fence_of(problem_.outputs[i]);
    CONCORD_CHECK(device_.download(output_buffers_[i], 0, outputs.subspan(fence.begin, fence.end - fence.begin)));
  }
  return {};
}

CallResult OpRun::call(unsigned repetition, std::span<std::byte> outputs) {
  CallResult result;
  if (result.status = fill(repetition); !result.status) return result;
  result.status = execute(result);
  const Status back = bring_back(outputs);
  if (result.status && !back) result.status = back;
  return result;
}

Result<std::string> OpRun::changed_input() {
  std::vector<std::byte> now;
  for (std::size_t i = 0; i < problem_.inputs.size(); ++i) {
    const Operand& o = problem_.inputs[i];
    if (o.bytes == 0 || is_in_place(problem_, o)) continue;
    now.assign(o.bytes, std::byte{0xa5});
    CONCORD_CHECK(device_.download(input_buffers_[i], 0, now));
    if (!equal_bytes(now, inputs_.subspan(o.offset, o.bytes))) return o.name;
  }
  return std::string();
}

std::int64_t row_count(const Problem& problem) {
  std::int64_t rows = 0;
  for (const Operand& o : problem.outputs) {
    if (!o.by_row) return 0;
    rows = o.dims[0];
  }
  return rows;
}

std::optional<Problem> row_problem(const Problem& problem, std::int64_t row) {
  const std::int64_t rows = row_count(problem);
  if (rows < 2 || row < 0 || row >= rows) return {};
  Problem p = problem;
  const auto slice = [&](Operand& o, concord_tensor& tensor) {
    o.bytes /= static_cast<std::uint64_t>(o.dims[0]);
    o.dims[0] = tensor.dims[0] = 1;
    return static_cast<std::uint64_t>(row) * o.bytes;
  };
  for (Operand& o : p.inputs)
    if (o.by_row) o.offset += slice(o, p.call.in[o.slot]);
  p.output_bytes = 0;
  for (Operand& o : p.outputs) {
    const std::uint64_t skipped = slice(o, p.call.out[o.slot]);
    if (o.initial) *o.initial += skipped;
    o.offset = p.output_bytes + kGuardBytes;
    p.output_bytes = fence_of(o).end;
  }
  return p;
}

bool same_outputs(const Problem& problem, std::span<const std::byte> first, std::span<const std::byte> second,
                  std::span<const std::byte> inputs) {
  std::vector<std::byte> guards(problem.output_bytes);
  fill_outputs(problem, 0, inputs, guards);
  for (const Operand& o : problem.outputs) {
    const Fence fence = fence_of(o);
    const std::uint64_t end = o.offset + o.bytes;
    if (!equal_bytes(first.subspan(o.offset, o.bytes), second.subspan(o.offset, o.bytes))) return false;
    if (!equal_bytes(std::span(guards).subspan(fence.begin, kGuardBytes), second.subspan(fence.begin, kGuardBytes)))
      return false;
    if (!equal_bytes(std::span(guards).subspan(end, fence.end - end), second.subspan(end, fence.end - end)))
      return false;
  }
  return true;
}

bool same_row(const Problem& whole, std::span<const std::byte> outputs, const Problem& alone,
              std::span<const std::byte> row_outputs, std::int64_t row) {
  for (std::size_t i = 0; i < whole.outputs.size(); ++i) {
    const Operand &all = whole.outputs[i], &one = alone.outputs[i];
    const auto expected = outputs.subspan(all.offset + static_cast<std::uint64_t>(row) * one.bytes, one.bytes);
    if (!equal_bytes(expected, row_outputs.subspan(one.offset, one.bytes))) return false;
  }
  return true;
}

}  // namespace concord::conformance
