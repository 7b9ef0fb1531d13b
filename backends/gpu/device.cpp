#include "gpu/device.hpp"

#include "gpu/library.hpp"
#include "gpu/staging.hpp"

concord_device::concord_device(const CONCORD_GPU::Variant& v, int gpu) : variant(v), ordinal(gpu) {}

concord_device::~concord_device() {
  using namespace CONCORD_GPU;
  (void)use_device(ordinal);
  if (stream) (void)wait_stream(stream);
  library.reset();
  staging.reset();
  for (Scratch& s : scratch)
    if (s.memory) (void)release(s.memory);
  for (const HostRange& r : page_locked) (void)release_host(const_cast<std::byte*>(r.begin));
  if (fault) (void)release(fault);
  if (fault_copy) (void)release_host(fault_copy);
  if (event) (void)destroy_event(event);
  if (stream) (void)destroy_stream(stream);
}

namespace CONCORD_GPU {

using concord_abi::refuse;

concord_status status_of(Error e, const char* what, concord_error* err) {
  if (e == kSuccess) return CONCORD_OK;
  (void)last_error();  // an error that is not sticky is reported once, here
  return refuse(err, out_of_memory(e) ? CONCORD_OUT_OF_MEMORY : CONCORD_DEVICE_ERROR, out_of_memory(e) ? CONCORD_WHY_MEMORY : CONCORD_WHY_NONE, "%s: %s: %s", kTarget, what,
                error_text(e));
}

concord_status take(concord_device& d, std::uint64_t bytes, void** memory, concord_error* err) {
  *memory = nullptr;
  const Error e = bytes > d.properties.memory_bytes ? kSuccess : allocate(memory, bytes);
  if (e != kSuccess && !out_of_memory(e)) return status_of(e, "allocation", err);
  if (!*memory) {
    (void)last_error();
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "%llu bytes asked for; this process holds %llu of the device's %llu", (unsigned long long)bytes,
                  (unsigned long long)d.memory_now, (unsigned long long)d.properties.memory_bytes);
  }
  d.memory_now += bytes;
  if (d.memory_now > d.memory_peak) d.memory_peak = d.memory_now;
  return CONCORD_OK;
}

void give_back(concord_device& d, void* memory, std::uint64_t bytes) {
  if (!memory) return;
  (void)release(memory);  // waits for what still uses it
  d.memory_now -= bytes;
}

concord_status scratch(concord_device& d, Slot slot, std::uint64_t bytes, Stream stream, void** memory, concord_error* err) {
  concord_device::Scratch& s = d.scratch[slot];
  if (s.user && s.user != stream) {
    if (const auto status = status_of(record(d.event, s.user), "scratch memory", err); status != CONCORD_OK) return status;
    if (const auto status = status_of(stream_waits(stream, d.event), "scratch memory", err); status != CONCORD_OK) return status;
  }
  s.user = stream;
  if (s.bytes < bytes) {
    give_back(d, s.memory, s.bytes);
    s.memory = nullptr, s.bytes = 0;
    if (const auto status = take(d, bytes, &s.memory, err); status != CONCORD_OK) return status;
    s.bytes = bytes;
  }
  *memory = s.memory;
  return CONCORD_OK;
}

namespace {

concord_status fault_status(const Fault& f, concord_error* err) {
  const std::uint32_t op = f.op - 1;
  const char* operand = op < CONCORD_OP_COUNT && f.operand < CONCORD_MAX_IN && concord_abi::kOps[op].in[f.operand].name ? concord_abi::kOps[op].in[f.operand].name : "operand";
  if (f.limit == 0)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "%s: %s[%d]: %d stands there twice", concord_abi::op_name(op), operand, f.index, f.value);
  return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "%s: %s[%d] is %d, expected 0 to %lld", concord_abi::op_name(op), operand, f.index, f.value, f.limit - 1);
}

}  // namespace

concord_status settle(concord_device& d, Stream stream, concord_error* err) {
  if (const auto s = status_of(copy_out(d.fault_copy, d.fault, sizeof(Fault), stream), "synchronize", err); s != CONCORD_OK) return s;
  if (const auto s = status_of(wait_stream(stream), "synchronize", err); s != CONCORD_OK) return s;
  if (d.fault_copy->op == 0) return CONCORD_OK;
  // A kernel on another stream may still be writing what it found: it is read once more when nothing runs.
  Error e = wait_device();
  if (e == kSuccess) e = copy_out(d.fault_copy, d.fault, sizeof(Fault), stream);
  if (e == kSuccess) e = wait_stream(stream);
  const Fault found = *d.fault_copy;
  if (e == kSuccess) e = clear(d.fault, sizeof(Fault), stream);
  if (e == kSuccess) e = wait_stream(stream);
  return e == kSuccess ? fault_status(found, err) : status_of(e, "synchronize", err);
}

}  // namespace CONCORD_GPU
