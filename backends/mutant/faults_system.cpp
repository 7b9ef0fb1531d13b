// Faults in how a device answers: witnesses, statuses, refusals, and processes that end or do not end.
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "mutant.hpp"

namespace mutant {
namespace {

using concord_abi::refuse;

// --- witnesses
void fell_back(Job& job) { job.witness.fallbacks = ++job.device.fallbacks; }
void no_witness(Job& job) { job.witness.kernel[0] = '\0'; }
void other_operator(Job& job) {
  const std::uint32_t other = (job.call.op + 1) % CONCORD_OP_COUNT;
  std::snprintf(job.witness.kernel, sizeof job.witness.kernel, "%s: mutant f64", concord_abi::op_name(other));
}
void other_device(Job& job) {
  std::snprintf(job.witness.kernel, sizeof job.witness.kernel, "%s: cpu generic", concord_abi::op_name(job.call.op));
}
void alternates(Job& job) {  // another kernel in every second call
  if (job.device.calls % 2 == 0)
    std::snprintf(job.witness.kernel, sizeof job.witness.kernel, "%s: library generic",
                  concord_abi::op_name(job.call.op));
}
void admits_variation(Job& job) { job.witness.determinism = 17; }  // no class of the ABI

// --- statuses. F16 stands for "some of the calls", so that the rest of the run goes on.
bool is_chosen(const concord_call& call) { return concord_abi::activation_dtype(call) == CONCORD_F16; }
concord_status device_error(Job& job) {
  return is_chosen(job.call)
             ? refuse(job.err, CONCORD_DEVICE_ERROR, CONCORD_WHY_NONE, "the driver reports an illegal access")
             : job.honest();
}
concord_status no_memory(Job& job) {
  return is_chosen(job.call) ? refuse(job.err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no workspace of 64 GiB")
                             : job.honest();
}
concord_status says_invalid(Job& job) {
  return is_chosen(job.call) ? refuse(job.err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "this shape is malformed")
                             : job.honest();
}
concord_status unsupported_late(Job& job) {
  return is_chosen(job.call) ? refuse(job.err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "F16 is not served after all")
                             : job.honest();
}
concord_status pretends(Job& job) { return is_chosen(job.call) ? CONCORD_OK : job.honest(); }
concord_status accepts(Job&) { return CONCORD_OK; }
concord_status spoils_and_refuses(Job& job) {
  const concord_tensor& t = job.out();
  if (t.buffer && t.byte_offset < t.buffer->bytes) t.buffer->data[t.byte_offset] ^= std::byte{0xff};
  return CONCORD_INVALID;
}

// --- capabilities
concord_status nothing_served(const concord_call& call, concord_error* err) {
  return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_IMPLEMENTED, "%s is not implemented",
                concord_abi::op_name(call.op));
}
concord_status no_bf16(const concord_call& call, concord_error* err) {
  if (concord_abi::activation_dtype(call) != CONCORD_BF16) return CONCORD_OK;
  return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "BF16 is not served");
}
concord_status no_long_rows(const concord_call& call, concord_error* err) {
  if (call.out[0].dims[call.out[0].rank - 1] <= 1024) return CONCORD_OK;
  return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "rows have at most 1024 elements");
}
bool is_u4(const concord_weight_desc& d) { return d.dtype == CONCORD_U4; }
concord_status refused_in_run(Job& job) {
  return no_bf16(job.call, job.err) == CONCORD_OK ? job.honest() : CONCORD_UNSUPPORTED;
}

// --- processes
bool is_short(const concord_call& call) {
  return is_chosen(call) && last_axis(call.in[0]) < 8;
}  // few, because each costs a timeout
concord_status hangs(Job& job) {
  while (is_short(job.call)) ::pause();
  return job.honest();
}
concord_status spins(Job& job) {
  volatile bool forever = is_short(job.call);
  while (forever) {
  }
  return job.honest();
}
concord_status crashes(Job& job) {
  if (is_chosen(job.call)) std::raise(SIGSEGV);
  return job.honest();
}
concord_status aborts(Job& job) {
  if (is_chosen(job.call)) std::abort();
  return job.honest();
}
concord_status exits(Job& job) {  // a library that calls exit on an error, with "success"
  if (is_chosen(job.call)) ::_exit(0);
  return job.honest();
}

constexpr std::uint32_t kRms = bits({CONCORD_OP_RMSNORM}), kArgmax = bits({CONCORD_OP_ARGMAX});

constexpr Fault kFaults[] = {
    {"fallback", "another path than the device's own did the work, and the counter says so", kAllOps, after<fell_back>},
    {"witness-empty", "no kernel is named", kAllOps, after<no_witness>},
    {"witness-other-operator", "the kernel named is another operator's", kAllOps, after<other_operator>},
    {"witness-other-device", "the kernel named is not this device's", kAllOps, after<other_device>},
    {"witness-alternates", "every second call runs another kernel, not this device's", kAllOps, after<alternates>},
    {"witness-bad-class", "the declared determinism is no class of the ABI", kRms, after<admits_variation>},
    {"error-status", "F16 calls end in a device error", kRms, device_error},
    {"out-of-memory", "F16 calls run out of memory", kRms, no_memory},
    {"says-invalid", "well-formed F16 calls are called malformed", kRms, says_invalid},
    {"unsupported-late", "run refuses what supports promised", kRms, unsupported_late},
    {"pretends", "F16 is not served: the call reports success and does nothing", kAllOps, pretends},
    {.name = "late-error", .what = "errors are only reported by synchronize", .ops = kRms, .late_error = true},
    {.name = "accepts-malformed", .what = "malformed calls are reported as done", .ops = kAllOps, .invalid = accepts},
    {.name = "refuses-and-writes",
     .what = "a refused call has written",
     .ops = bits({CONCORD_OP_MATMUL}),
     .invalid = spoils_and_refuses},
    {.name = "operator-lost",
     .what = "everything is refused as unsupported",
     .ops = kAllOps,
     .supports = nothing_served},
    {.name = "bf16-lost", .what = "one dtype is no longer supported", .ops = kAllOps, .supports = no_bf16},
    {.name = "bf16-lost-in-run",
     .what = "one dtype is refused by run, though supports promises it",
     .ops = kAllOps,
     .run = refused_in_run},
    {.name = "long-rows-lost",
     .what = "rows of more than 1024 elements are no longer supported",
     .ops = bits({CONCORD_OP_MATMUL}),
     .supports = no_long_rows},
    {.name = "u4-lost",
     .what = "U4 weights are no longer supported",
     .ops = bits({CONCORD_OP_MATMUL, CONCORD_OP_EMBEDDING}),
     .weight_refused = is_u4},
    {.name = "upload-tail-lost",
     .what = "uploads lose what lies behind the last multiple of 16 bytes",
     .ops = kAllOps,
     .upload_loses_tail = true},
    {"hangs", "F16 calls over fewer than 8 candidates never return, asleep", kArgmax, hangs},
    {"spins", "F16 calls over fewer than 8 candidates never return, busy", kArgmax, spins},
    {"crashes", "F16 calls end the process with SIGSEGV", kRms, crashes},
    {"aborts", "F16 calls end the process with abort", kRms, aborts},
    {"exits", "F16 calls end the process with exit code 0", kRms, exits},
};

}  // namespace

std::span<const Fault> system_faults() { return kFaults; }

}  // namespace mutant
