// Tools that the faults share.
#include "mutant.hpp"

namespace mutant {

concord_status Job::honest(const concord_call& c) const {
  using Op = reference::Op;
  constexpr Op kOps[CONCORD_OP_COUNT] = {
      reference::embedding, reference::rmsnorm,      reference::layernorm, reference::matmul, reference::rope,
      reference::kv_append, reference::attention,    reference::swiglu,    reference::gelu,   reference::add,
      reference::softmax,   reference::topk_routing, reference::argmax,    reference::sample};
  return device.arena.execute([&] { return kOps[c.op](c, err); });
}

void Changed::replace(concord_tensor& t) {
  const auto from = memory_of(t);
  std::vector<std::byte>& copy = bytes_.emplace_back(from.begin(), from.end());
  buffers_.push_back({copy.data(), copy.size()});
  t.buffer = &buffers_.back();
  t.byte_offset = 0;
}
concord_tensor& Changed::copy_in(std::uint32_t i) {
  replace(call.in[i]);
  return call.in[i];
}
concord_tensor& Changed::copy_out(std::uint32_t i) {
  replace(call.out[i]);
  return call.out[i];
}
concord_abi::StoredWeight& Changed::copy_weight() {
  weight_ = std::make_unique<concord_weight>(*call.weight);
  call.weight = weight_.get();
  return weight_->stored;
}

std::vector<double> values_of(const concord_tensor& t) {
  if (concord_abi::is_float(t.dtype)) return reference::load_all(t);
  std::vector<double> values(concord_abi::element_count(t));
  const std::byte* from = concord_abi::bytes_of(t);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = t.dtype == CONCORD_I8 ? concord_abi::load_as<std::int8_t>(from, i)
                                      : concord_abi::load_as<std::int32_t>(from, i);
  return values;
}
namespace {
// What a fault made of an integer may be no integer: NaN becomes 0, the rest its nearest.
template <class T>
T integer(double v) {
  return std::isnan(v) ? T{0} : static_cast<T>(std::clamp<double>(v, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}
}  // namespace

void put_values(const concord_tensor& t, const std::vector<double>& values) {
  std::byte* to = concord_abi::bytes_of(t);
  if (concord_abi::is_float(t.dtype)) return concord_abi::store_f64(t.dtype, values.data(), values.size(), to);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (t.dtype == CONCORD_I8)
      concord_abi::store_as(to, i, integer<std::int8_t>(values[i]));
    else
      concord_abi::store_as(to, i, integer<std::int32_t>(values[i]));
}

std::string shape_key(const concord_call& call) {
  std::string key = std::to_string(call.op) + ":" + std::to_string(call.flags);
  const auto add = [&](const concord_tensor& t) {
    key.append("/").append(std::to_string(t.dtype));
    for (std::uint32_t i = 0; i < t.rank; ++i) key.append(",").append(std::to_string(t.dims[i]));
  };
  for (std::uint32_t i = 0; i < call.n_in; ++i) add(call.in[i]);
  for (std::uint32_t i = 0; i < call.n_out; ++i) add(call.out[i]);
  return key;
}

const std::vector<Fault>& all_faults() {
  static const std::vector<Fault> kAll = [] {
    std::vector<Fault> all{{"honest", "no fault: the control", kAllOps}};
    for (const auto part : {output_faults(), memory_faults(), matmul_faults(), attention_faults(), row_faults(),
                            select_faults(), sample_faults(), system_faults()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return kAll;
}

}  // namespace mutant
