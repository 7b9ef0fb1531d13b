#include "bench/op_operands.hpp"

#include <algorithm>

namespace concord::bench {

using conformance::Operand;
using conformance::Problem;

Result<OpOperands> OpOperands::create(Device& device, const Problem& problem, std::span<const std::byte> inputs,
                                      std::size_t arenas) {
  OpOperands o;
  o.device_ = &device, o.problem_ = &problem, o.host_ = inputs;
  CONCORD_TRY(o.inputs_, device.allocate(problem.input_bytes));
  CONCORD_CHECK(device.upload(o.inputs_, 0, inputs));
  if (problem.weight) {
    CONCORD_TRY(o.weight_, device.create_weight(conformance::weight_desc(*problem.weight, inputs)));
  }
  for (std::size_t i = 0; i < arenas; ++i) {
    CONCORD_TRY(Buffer buffer, device.allocate(problem.output_bytes));
    const concord_call call = o.bind(buffer);
    o.outputs_.push_back({std::move(buffer), call});
    CONCORD_CHECK(o.prepare(i, 0));
  }
  return o;
}

Status OpOperands::refill(std::span<const std::byte> inputs) {
  host_ = inputs;
  CONCORD_CHECK(device_->upload(inputs_, 0, inputs));
  if (problem_->weight) {
    weight_ = {};
    CONCORD_TRY(weight_, device_->create_weight(conformance::weight_desc(*problem_->weight, inputs)));
  }
  for (Output& o : outputs_) o.call = bind(o.buffer);
  return {};
}

concord_call OpOperands::bind(const Buffer& outputs) const {
  concord_call call = problem_->call;
  call.weight = weight_.get();
  const auto place = [](concord_tensor& t, const Buffer& buffer, std::uint64_t offset) {
    t.buffer = buffer.get(), t.byte_offset = offset;
  };
  for (const Operand& o : problem_->inputs) place(call.in[o.slot], inputs_, o.offset);
  for (const Operand& o : problem_->outputs) place(call.out[o.slot], outputs, o.offset);
  if (!problem_->in_place) return call;
  const Operand& y = problem_->outputs.front();
  for (const Operand& o : problem_->inputs)
    if (o.offset == y.initial) place(call.in[o.slot], outputs, y.offset);
  return call;
}

Status OpOperands::prepare(std::size_t arena, unsigned repetition) {
  std::vector<std::byte> host(problem_->output_bytes);
  conformance::fill_outputs(*problem_, repetition, host_, host);
  return device_->upload(outputs_[arena].buffer, 0, host);
}

Result<std::vector<std::byte>> OpOperands::download(std::size_t arena) {
  std::vector<std::byte> host(problem_->output_bytes);
  CONCORD_CHECK(device_->download(outputs_[arena].buffer, 0, host));
  return host;
}

Result<std::string> OpOperands::changed_input() {
  std::vector<std::byte> now(problem_->input_bytes, std::byte{0xa5});  // a transfer that does nothing must be seen
  CONCORD_CHECK(device_->download(inputs_, 0, now));
  for (const Operand& o : problem_->inputs)
    if (!std::ranges::equal(std::span(now).subspan(o.offset, o.bytes), host_.subspan(o.offset, o.bytes))) return o.name;
  return std::string();
}

std::uint64_t OpOperands::touched_bytes(const Problem& problem) {
  std::uint64_t bytes = 0;
  for (const Operand& o : problem.inputs) bytes += o.bytes;
  for (const Operand& o : problem.outputs) bytes += problem.in_place ? 0 : o.bytes;
  if (problem.weight) bytes += problem.weight->data_bytes + problem.weight->scale_bytes + problem.weight->zero_bytes;
  return bytes;
}

std::uint64_t OpOperands::device_bytes(const Problem& problem) {
  const std::uint64_t weight =
      problem.weight ? problem.weight->data_bytes + problem.weight->scale_bytes + problem.weight->zero_bytes : 0;
  return problem.input_bytes + problem.output_bytes + weight;
}

}  // namespace concord::bench
