// Devices with one planted fault each, for testing the harness: whatever is wrong here must turn a case red. Every
// device computes with the reference's operators (one rounding on store) and differs from them by its fault alone. A
// fault is a row of a table (faults_*.cpp): a name, a sentence, the operators it touches, and a function. Faults are
// deterministic; what they remember, they remember per device.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/concord_host.hpp"
#include "reference/ops.hpp"

namespace mutant {

struct Fault;

struct Device : concord_device {
  // It believes in the threads it was asked for, and uses no more than there are cores.
  Device(const Fault& its_fault, unsigned its_threads, unsigned cores)
      : concord_device(static_cast<int>(std::min(its_threads, cores))), fault(its_fault), threads(its_threads) {}
  const Fault& fault;
  unsigned threads;
  std::uint64_t calls = 0;  // runs of operators that the fault touches
  std::uint64_t fallbacks = 0;
  std::vector<std::byte> last;                             // the previous call's first output
  std::map<std::string, std::vector<std::byte>> by_shape;  // first outputs by the call's shape
  std::map<std::string, std::unique_ptr<concord_weight>> weights;
};

// One call of an operator. It was checked: operands are there, of the right shapes, and inside their buffers.
struct Job {
  Device& device;
  const concord_call& call;
  concord_witness& witness;  // filled in as an honest device would
  concord_error* err;
  concord_status honest(const concord_call& c) const;  // the reference's operator
  concord_status honest() const { return honest(call); }
  const concord_tensor& out() const { return call.out[0]; }
};

using Run = concord_status (*)(Job& job);
using Supports = concord_status (*)(const concord_call& call, concord_error* err);

struct Fault {
  const char* name;             // device "mutant:NAME", at most 24 characters
  const char* what;             // one sentence, at most 127 characters
  std::uint32_t ops;            // bits of concord_op: the operators whose results the fault changes
  Run run = nullptr;            // NULL: honest
  Supports supports = nullptr;  // asked for well-formed calls; NULL: everything is supported
  Run invalid = nullptr;        // takes the place of the refusal of a malformed call
  bool (*weight_refused)(const concord_weight_desc& desc) = nullptr;
  bool weights_cached = false;  // weights are remembered by their shape
  bool upload_loses_tail = false;
  bool late_error = false;  // synchronize reports an error
  bool touches(std::uint32_t op) const { return (ops >> op & 1u) != 0; }
};

constexpr std::uint32_t bits(std::initializer_list<concord_op> ops) {
  std::uint32_t mask = 0;
  for (const concord_op op : ops) mask |= 1u << op;
  return mask;
}
inline constexpr std::uint32_t kAllOps = (1u << CONCORD_OP_COUNT) - 1;
inline constexpr std::uint32_t kValueOps = kAllOps & ~bits({CONCORD_OP_ARGMAX, CONCORD_OP_SAMPLE});  // out[0] is not an index
inline constexpr std::uint32_t kInPlaceOps =
    bits({CONCORD_OP_RMSNORM, CONCORD_OP_LAYERNORM, CONCORD_OP_MATMUL, CONCORD_OP_ROPE, CONCORD_OP_SWIGLU,
          CONCORD_OP_GELU, CONCORD_OP_ADD, CONCORD_OP_SOFTMAX});

// The faults of each source, and all of them, the faultless control first.
std::span<const Fault> output_faults();
std::span<const Fault> memory_faults();
std::span<const Fault> matmul_faults();
std::span<const Fault> attention_faults();
std::span<const Fault> row_faults();
std::span<const Fault> select_faults();
std::span<const Fault> sample_faults();
std::span<const Fault> system_faults();
const std::vector<Fault>& all_faults();

// --- tools for faults

// A call that may be changed: operands are replaced by copies before anything is written to them.
class Changed {
 public:
  // The call of an older host is shorter than ours.
  explicit Changed(const concord_call& given) {
    std::memcpy(&call, &given, std::min<std::size_t>(given.struct_size, sizeof call));
  }
  concord_call call{};
  concord_tensor& copy_in(std::uint32_t i);
  concord_tensor& copy_out(std::uint32_t i);  // same contents, other memory
  concord_abi::StoredWeight& copy_weight();

 private:
  void replace(concord_tensor& t);
  std::deque<std::vector<std::byte>> bytes_;
  std::deque<concord_buffer> buffers_;
  std::unique_ptr<concord_weight> weight_;
};

inline std::size_t size_of(const concord_tensor& t) {
  return concord_abi::element_count(t) * concord_abi::dtype_bytes(t.dtype);
}
inline std::span<std::byte> memory_of(const concord_tensor& t) { return {concord_abi::bytes_of(t), size_of(t)}; }
inline std::size_t last_axis(const concord_tensor& t) { return static_cast<std::size_t>(t.dims[t.rank - 1]); }
inline bool in_place(const concord_call& c) {
  const int which = concord_abi::kOps[c.op].in_place;
  if (which < 0 || static_cast<std::uint32_t>(which) >= c.n_in || concord_abi::absent(c.in[which])) return false;
  return c.in[which].buffer == c.out[0].buffer && c.in[which].byte_offset == c.out[0].byte_offset;
}
std::vector<double> values_of(const concord_tensor& t);  // any dtype, exact
void put_values(const concord_tensor& t, const std::vector<double>& values);
// The call with its shapes, dtypes and flags as text, without its data.
std::string shape_key(const concord_call& call);

// Honest operator, then an edit of its outputs.
template <void (*Edit)(Job&)>
concord_status after(Job& job) {
  const concord_status status = job.honest();
  if (status == CONCORD_OK) Edit(job);
  return status;
}
// Honest operator, then an edit of the first output's numbers.
template <void (*Edit)(std::vector<double>&, const concord_tensor&)>
concord_status after_values(Job& job) {
  const concord_status status = job.honest();
  if (status != CONCORD_OK) return status;
  std::vector<double> values = values_of(job.out());
  Edit(values, job.out());
  put_values(job.out(), values);
  return status;
}
// An edit of the call, then the honest operator.
template <void (*Edit)(Changed&)>
concord_status with(Job& job) {
  Changed changed(job.call);
  Edit(changed);
  return job.honest(changed.call);
}

}  // namespace mutant
