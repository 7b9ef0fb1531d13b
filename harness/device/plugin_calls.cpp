#include "device/plugin_calls.hpp"

#include <algorithm>

#include "abi/concord_validate.hpp"

namespace concord::plugin_check {
namespace {

constexpr std::byte kPattern{0xa5};

std::int64_t extent(char letter) {
  struct Row {
    char letter;
    std::int64_t value;
  };
  constexpr Row kRows[] = {{'T', 3}, {'K', 8}, {'V', 10}, {'R', 3}, {'N', 6}, {'H', 4},
                           {'D', 8}, {'h', 4}, {'P', 5},  {'G', 2}, {'E', 8}, {'k', 2}};
  for (const Row& r : kRows)
    if (r.letter == letter) return r.value;
  return 4;
}

std::uint32_t dtype_of(concord_abi::Kind kind, std::uint32_t activation) {
  switch (kind) {
    case concord_abi::Kind::kF32:
    case concord_abi::Kind::kScale:
      return CONCORD_F32;
    case concord_abi::Kind::kAngle:
      return activation == CONCORD_F64 ? CONCORD_F64 : CONCORD_F32;
    case concord_abi::Kind::kIndex:
      return CONCORD_I32;
    default:
      return activation;
  }
}

concord_tensor tensor_for(const concord_abi::Operand& operand, std::uint32_t activation) {
  concord_tensor t{};
  t.struct_size = sizeof t, t.dtype = dtype_of(operand.kind, activation);
  const std::string_view dims = operand.dims[0] == '*' ? "RN" : operand.dims;
  t.rank = static_cast<std::uint32_t>(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) t.dims[i] = extent(dims[i]);
  return t;
}

std::uint64_t bytes_of(const concord_tensor& t) {
  return concord_abi::element_count(t) * concord_abi::dtype_bytes(t.dtype);
}

std::vector<std::byte> numbers(std::uint32_t dtype, std::size_t n) {
  std::vector<std::byte> bytes(n * concord_abi::dtype_bytes(dtype));
  if (dtype == CONCORD_I32) {
    for (std::size_t i = 0; i < n; ++i)
      concord_abi::store_as(bytes.data(), i, static_cast<std::int32_t>(i % 3));  // every index axis has more than 3
    return bytes;
  }
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = 0.25 * static_cast<double>(i % 7) - 0.5;
  concord_abi::store_f64(dtype, values.data(), n, bytes.data());
  return bytes;
}

}  // namespace

concord_call small_call(std::uint32_t op, std::uint32_t activation) {
  concord_call c{};
  c.struct_size = sizeof c, c.op = op, c.accumulate = activation == CONCORD_F64 ? CONCORD_F64 : CONCORD_F32;
  c.eps = 1e-5, c.scale = 0.5;
  const auto counts = [](const concord_abi::Operand& o) {
    return o.name && !o.optional && o.kind != concord_abi::Kind::kScale;
  };
  for (const auto& operand : concord_abi::kOps[op].in)
    if (counts(operand)) c.in[c.n_in++] = tensor_for(operand, activation);
  for (const auto& operand : concord_abi::kOps[op].out)
    if (counts(operand)) c.out[c.n_out++] = tensor_for(operand, activation);
  return c;
}

bool needs_weight(std::uint32_t op) { return concord_abi::kOps[op].weight != nullptr; }

concord_weight_desc weight_of(std::uint32_t dtype, std::int64_t rows, std::int64_t cols, const void* data) {
  concord_weight_desc d{};
  d.struct_size = sizeof d, d.dtype = dtype, d.rows = rows, d.cols = cols, d.data = data, d.activation_dtype = dtype;
  return d;
}

PreparedCall::PreparedCall(Probe& p, const Opened& d, std::uint32_t op, std::uint32_t activation) : p_(p), device_(d) {
  call = small_call(op, activation);
  for (std::uint32_t i = 0; i < call.n_in; ++i) add(call.in[i], false);
  for (std::uint32_t i = 0; i < call.n_out; ++i) add(call.out[i], true);
  ready_ = !p_.failed() && (!needs_weight(op) || add_weight());
  if (ready_) reset_outputs();
}

PreparedCall::~PreparedCall() {
  if (weight_) p_.table().weight_destroy(device_.get(), weight_);
}

void PreparedCall::add(concord_tensor& tensor, bool output) {
  memory_.emplace_back(p_, device_, bytes_of(tensor));
  if (!memory_.back()) return;
  tensor.buffer = memory_.back().get();
  if (output)
    outputs_.push_back(memory_.size() - 1);
  else
    memory_.back().put(0, numbers(tensor.dtype, concord_abi::element_count(tensor)));
}

bool PreparedCall::add_weight() {
  const char* letters = concord_abi::kOps[call.op].weight;
  const std::uint32_t dtype = concord_abi::activation_dtype(call);
  const std::int64_t rows = extent(letters[0]), cols = extent(letters[1]);
  const std::vector<std::byte> data = numbers(dtype, static_cast<std::size_t>(rows * cols));
  const concord_weight_desc desc = weight_of(dtype, rows, cols, data.data());
  std::string message;
  const concord_status s = p_.call(
      fmt::format("{}: weight_create for {}", device_.id(), concord_abi::op_name(call.op)),
      [&](concord_error* err) { return p_.table().weight_create(device_.get(), &desc, &weight_, err); }, nullptr,
      &message);
  if (s == CONCORD_UNSUPPORTED) return weight_ = nullptr, false;
  if (!p_.expect(s == CONCORD_OK && weight_, fmt::format("{}: weight_create for {}: {} ({})", device_.id(),
                                                         concord_abi::op_name(call.op), status_name(s), message)))
    return weight_ = nullptr, false;
  call.weight = weight_;
  return true;
}

void PreparedCall::reset_outputs() {
  for (const std::size_t i : outputs_) memory_[i].put(0, std::vector<std::byte>(memory_[i].size(), kPattern));
}

std::vector<std::vector<std::byte>> PreparedCall::outputs() {
  std::vector<std::vector<std::byte>> all;
  for (const std::size_t i : outputs_) all.push_back(memory_[i].take());
  return all;
}

bool PreparedCall::outputs_untouched() {
  for (const std::size_t i : outputs_)
    if (!std::ranges::all_of(memory_[i].take(), [](std::byte b) { return b == kPattern; })) return false;
  return true;
}

}  // namespace concord::plugin_check
