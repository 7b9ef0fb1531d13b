// A plug-in with one fault, chosen by CONCORD_FAULT, for the loader's tests. Counts what is opened, closed, created and
// destroyed.
#include <cstdio>
#include <cstdlib>

#include "abi/concord_backend.h"

#define FAULT_NONE 0
#define FAULT_NO_ENTRY 1
#define FAULT_MAJOR 2
#define FAULT_NULL 3
#define FAULT_NULL_SILENT 4
#define FAULT_SMALL 5
#define FAULT_EMPTY_ENTRY 6
#define FAULT_NO_NAME 7
#define FAULT_DUPLICATE 8
#define FAULT_OLDER 9  // no fault: a table of ABI 2.0, which ends before what lies behind it in memory

struct concord_device {
  unsigned long long calls = 0;
};
struct concord_buffer {};
struct concord_weight {};

extern "C" __attribute__((
    visibility("default"))) long concord_test_live[3];  // devices, buffers, weights: created less destroyed
long concord_test_live[3] = {0, 0, 0};

namespace {

enum Live { kDevices, kBuffers, kWeights };

void say(concord_error* err, const char* text) {
  if (err) std::snprintf(err->message, sizeof err->message, "%s", text);
}

// Devices: 0 works, 1 is unavailable, 2 cannot be opened, 3 has no facts, 4 is fine but opens without a device and
// without a message.
uint32_t device_count() { return 5; }
concord_status device_info(uint32_t index, concord_device_info* info, concord_error* err) {
  if (index == 3) return say(err, "facts cannot be read"), CONCORD_DEVICE_ERROR;
  std::snprintf(info->id, sizeof info->id, "fake:%u", index);
  std::snprintf(info->name, sizeof info->name, "fake device");
  for (char& c : info->driver) c = 'd';  // a field without its terminator
  info->available = index != 1;
  std::snprintf(info->why, sizeof info->why, "%s", index == 1 ? "it is only pretended" : "");
  info->compute_units = 7;
  return CONCORD_OK;
}
concord_status device_open(uint32_t index, const concord_open_options*, concord_device** device, concord_error* err) {
  if (index == 2) return say(err, "the fake driver is missing"), CONCORD_DEVICE_ERROR;
  if (index == 4) return CONCORD_OK;
  *device = new concord_device;
  ++concord_test_live[kDevices];
  return CONCORD_OK;
}
void device_close(concord_device* device) {
  delete device;
  --concord_test_live[kDevices];
}
concord_status buffer_create(concord_device*, uint64_t bytes, concord_buffer** buffer, concord_error* err) {
  if (bytes > 1000) return say(err, "a fake buffer has at most 1000 bytes"), CONCORD_OUT_OF_MEMORY;
  *buffer = new concord_buffer;
  ++concord_test_live[kBuffers];
  return CONCORD_OK;
}
void buffer_destroy(concord_device*, concord_buffer* buffer) {
  delete buffer;
  --concord_test_live[kBuffers];
}
concord_status upload(concord_device*, concord_stream*, concord_buffer*, uint64_t, const void*, uint64_t,
                      concord_error*) {
  return CONCORD_DEVICE_ERROR;
}
concord_status download(concord_device*, concord_stream*, const concord_buffer*, uint64_t, void*, uint64_t,
                        concord_error*) {
  return CONCORD_INTERNAL;
}
concord_status weight_create(concord_device*, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (desc->dtype != CONCORD_F32) {
    err->why = CONCORD_WHY_DTYPE;
    return say(err, "fake weights are F32"), CONCORD_UNSUPPORTED;
  }
  *weight = new concord_weight;
  ++concord_test_live[kWeights];
  return CONCORD_OK;
}
void weight_destroy(concord_device*, concord_weight* weight) {
  delete weight;
  --concord_test_live[kWeights];
}
concord_status supports(concord_device*, const concord_call* call, concord_error* err) {
  if (call->op == CONCORD_OP_ADD) return CONCORD_OK;
  err->why = CONCORD_WHY_NOT_IMPLEMENTED;
  return say(err, "the fake device can only add"), CONCORD_UNSUPPORTED;
}
// ADD: works. GELU: leaves no witness. SOFTMAX: falls back. ARGMAX: declares run-to-run varying. Others: an error
// without a message.
concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* w,
                   concord_error*) {
  ++device->calls;
  if (call->op == CONCORD_OP_GELU) return CONCORD_OK;
  if (call->op != CONCORD_OP_ADD && call->op != CONCORD_OP_SOFTMAX && call->op != CONCORD_OP_ARGMAX)
    return CONCORD_DEVICE_ERROR;
  std::snprintf(w->kernel, sizeof w->kernel, "op %u: fake", call->op);
  w->fallbacks = call->op == CONCORD_OP_SOFTMAX ? 3 : 0;
  w->determinism = call->op == CONCORD_OP_ARGMAX ? CONCORD_RUN_TO_RUN_VARYING : CONCORD_ALWAYS_IDENTICAL;
  return CONCORD_OK;
}
concord_status stream_create(concord_device*, concord_stream**, concord_error*) { return CONCORD_UNSUPPORTED; }
void stream_destroy(concord_device*, concord_stream*) {}
concord_status synchronize(concord_device*, concord_stream*, concord_error* err) {
  return say(err, "a late error of earlier work"), CONCORD_DEVICE_ERROR;
}

constexpr uint32_t table_size() {
  if (CONCORD_FAULT == FAULT_SMALL) return 64;
  return CONCORD_FAULT == FAULT_OLDER ? CONCORD_BACKEND_SIZE_2_0 : sizeof(concord_backend);
}
// Behind the end of an older table: whoever calls these, ends.
#if CONCORD_FAULT == FAULT_OLDER
concord_status no_host_create(concord_device*, uint64_t, void**, concord_error*) { std::abort(); }
void no_host_destroy(concord_device*, void*) { std::abort(); }
concord_status no_stream_wait(concord_device*, concord_stream*, concord_stream*, concord_error*) { std::abort(); }
concord_status no_weight_digest(concord_device*, const concord_weight*, uint8_t*, concord_error*) { std::abort(); }
concord_status no_memory(concord_device*, concord_memory*, concord_error*) { std::abort(); }
#else
constexpr decltype(concord_backend::host_create) no_host_create = nullptr;
constexpr decltype(concord_backend::host_destroy) no_host_destroy = nullptr;
constexpr decltype(concord_backend::stream_wait) no_stream_wait = nullptr;
constexpr decltype(concord_backend::weight_digest) no_weight_digest = nullptr;
constexpr decltype(concord_backend::memory) no_memory = nullptr;
#endif

const concord_backend kTable = {table_size(),
                                CONCORD_FAULT == FAULT_MAJOR ? CONCORD_ABI_MAJOR + 1 : CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                CONCORD_FAULT == FAULT_NO_NAME ? nullptr : "fake",
                                "9.9",
                                "none",
                                device_count,
                                device_info,
                                device_open,
                                device_close,
                                buffer_create,
                                buffer_destroy,
                                upload,
                                download,
                                weight_create,
                                weight_destroy,
                                CONCORD_FAULT == FAULT_EMPTY_ENTRY ? nullptr : supports,
                                run,
                                stream_create,
                                stream_destroy,
                                synchronize,
                                no_host_create,
                                no_host_destroy,
                                no_stream_wait,
                                no_weight_digest,
                                no_memory};

}  // namespace

#if CONCORD_FAULT == FAULT_NO_ENTRY
extern "C" __attribute__((visibility("default"))) const concord_backend* another_symbol() { return &kTable; }
#else
extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(uint32_t, uint32_t,
                                                                                               concord_error* err) {
#if CONCORD_FAULT == FAULT_NULL
  return say(err, "plug-in serves ABI 7.3"), nullptr;
#elif CONCORD_FAULT == FAULT_NULL_SILENT
  return static_cast<void>(err), nullptr;
#else
  return static_cast<void>(err), &kTable;
#endif
}
#endif
