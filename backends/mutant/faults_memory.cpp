// Faults in where an operator reads and writes, and in what its results depend on.
#include "mutant.hpp"

namespace mutant {
namespace {

// Changes bytes at an offset from the output, where the buffer has them.
void spoil(const Job& job, std::int64_t offset, std::size_t count) {
  const concord_tensor& t = job.out();
  const auto begin = static_cast<std::int64_t>(t.byte_offset) + offset;
  if (begin < 0 || static_cast<std::uint64_t>(begin) + count > t.buffer->bytes) return;
  for (std::size_t i = 0; i < count; ++i) t.buffer->data[static_cast<std::size_t>(begin) + i] ^= std::byte{0xff};
}
std::int64_t bytes_of_out(const Job& job) { return static_cast<std::int64_t>(size_of(job.out())); }

void one_behind(Job& job) { spoil(job, bytes_of_out(job), 1); }
void vector_behind(Job& job) { spoil(job, bytes_of_out(job) + 32, 32); }
void far_behind(Job& job) { spoil(job, bytes_of_out(job) + 4000, 4); }
void before_start(Job& job) { spoil(job, -4, 4); }

void overwrites_input(Job& job) {
  for (std::uint32_t i = job.call.n_in; i-- > 0;) {
    const concord_tensor& t = job.call.in[i];
    if (concord_abi::absent(t) || (t.buffer == job.out().buffer && t.byte_offset == job.out().byte_offset)) continue;
    memory_of(t)[size_of(t) - 1] ^= std::byte{1};
    return;
  }
}

// In place, the first half of the work has already overwritten what the second half reads: here, the operator is
// applied to its own result.
concord_status twice_in_place(Job& job) {
  const concord_status status = job.honest();
  return status == CONCORD_OK && in_place(job.call) ? job.honest() : status;
}
// In place, the result goes to a temporary and never comes back.
concord_status lost_in_place(Job& job) {
  if (!in_place(job.call)) return job.honest();
  Changed changed(job.call);
  changed.copy_out(0);
  return job.honest(changed.call);
}

// y += instead of y =.
concord_status accumulates(Job& job) {
  std::vector<double> old = values_of(job.out());
  if (in_place(job.call)) std::fill(old.begin(), old.end(), 0.0);
  const concord_status status = job.honest();
  if (status != CONCORD_OK) return status;
  std::vector<double> values = values_of(job.out());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += old[i];
  put_values(job.out(), values);
  return status;
}

// The last bit of the last finite, non-zero element.
void nudge(const concord_tensor& t) {
  const std::vector<double> values = values_of(t);
  const std::size_t width = concord_abi::dtype_bytes(t.dtype);
  for (std::size_t i = values.size(); i-- > 0;)
    if (std::isfinite(values[i]) && values[i] != 0) {
      memory_of(t)[i * width] ^= std::byte{1};
      return;
    }
}
void varies_by_run(Job& job) {
  if (job.device.calls % 2 == 0) nudge(job.out());
}
void varies_by_threads(Job& job) {
  if (job.device.threads != 1) nudge(job.out());
}
void varies_by_batch(Job& job) {
  if (job.out().dims[0] > 1) nudge(job.out());
}

// Tokens, not cache rows, are what a batch of KV_APPEND has; its caches have the same first axis whatever the batch.
constexpr std::uint32_t kByRow = kValueOps & ~bits({CONCORD_OP_KV_APPEND});
constexpr std::uint32_t kSums = kValueOps & ~bits({CONCORD_OP_KV_APPEND, CONCORD_OP_TOPK_ROUTING});

constexpr Fault kFaults[] = {
    {"writes-behind", "one byte behind the output's end is changed", kAllOps, after<one_behind>},
    {"writes-vector-behind", "a vector's width behind the output's end is written", kAllOps, after<vector_behind>},
    {"writes-far-behind", "four bytes, 4000 behind the output's end, are changed", kAllOps, after<far_behind>},
    {"writes-before", "four bytes before the output are changed", kAllOps, after<before_start>},
    {"input-overwritten", "the last bit of an input is changed", kAllOps, after<overwrites_input>},
    {"in-place-twice", "in place, the operator reads what it has already overwritten", kInPlaceOps, twice_in_place},
    {"in-place-lost", "in place, the result is not written back", kInPlaceOps, lost_in_place},
    {"accumulates", "adds to what the output held before", kSums, accumulates},
    {"run-to-run", "one element's last bit changes with every second call", kAllOps, after<varies_by_run>},
    {"thread-dependent", "one element's last bit depends on the number of threads; declared always identical", kByRow,
     after<varies_by_threads>},
    {"batch-dependent", "one element's last bit depends on the batch; declared always identical",
     kByRow & ~bits({CONCORD_OP_TOPK_ROUTING}), after<varies_by_batch>},
};

}  // namespace

std::span<const Fault> memory_faults() { return kFaults; }

}  // namespace mutant
