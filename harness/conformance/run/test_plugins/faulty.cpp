// A plug-in that adds in F32 on the host, with one fault per device: faulty:good has none. For the tests of what a
// session makes of a worker.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "abi/concord_backend.h"

namespace {

enum Fault {
  kNone,
  kCrash,
  kHang,
  kExit,
  kKill,
  kOom,
  kError,
  kNothing,
  kStale,
  kLostTransfer,
  kInput,
  kGuard,
  kFallback,
  kNoKernel,
  kOtherKernel,
  kVaryingKernel,
  kVaryingWrong,
  kThreads,
  kRows,
  kInvalid,
  kAcceptsEmpty,
  kWrong,
  kOpenCrash,
  kOpenFails
};
const char* const kNames[] = {
    "good",     "crash",     "hang",          "exit",           "kill",          "oom",
    "error",    "nothing",   "stale",         "lost_transfer",  "input",         "guard",
    "fallback", "no_kernel", "other_kernel",  "varying_kernel", "varying_wrong", "threads",
    "rows",     "invalid",   "accepts_empty", "wrong",          "open_crash",    "open_fails"};

void say(concord_error* err, const char* text) {
  if (err) std::snprintf(err->message, sizeof err->message, "%s", text);
}

}  // namespace

struct concord_device {
  Fault fault = kNone;
  uint32_t threads = 0;
  unsigned long long calls = 0, fallbacks = 0;
};
struct concord_buffer {
  std::vector<unsigned char> bytes;
};
struct concord_weight {};

namespace {

uint32_t device_count() { return sizeof kNames / sizeof *kNames; }

concord_status device_info(uint32_t index, concord_device_info* info, concord_error*) {
  std::snprintf(info->id, sizeof info->id, "faulty:%s", kNames[index]);
  std::snprintf(info->name, sizeof info->name, "A device of the tests");
  info->available = 1, info->compute_units = 2;
  return CONCORD_OK;
}

concord_status device_open(uint32_t index, const concord_open_options* options, concord_device** device,
                           concord_error* err) {
  if (index == kOpenCrash) std::abort();
  if (index == kOpenFails) return say(err, "the driver is missing"), CONCORD_DEVICE_ERROR;
  *device = new concord_device{static_cast<Fault>(index), options->threads};
  return CONCORD_OK;
}
void device_close(concord_device* device) { delete device; }

concord_status buffer_create(concord_device*, uint64_t bytes, concord_buffer** buffer, concord_error*) {
  *buffer = new concord_buffer{std::vector<unsigned char>(bytes)};
  return CONCORD_OK;
}
void buffer_destroy(concord_device*, concord_buffer* buffer) { delete buffer; }

concord_status upload(concord_device*, concord_stream*, concord_buffer* buffer, uint64_t offset, const void* host,
                      uint64_t bytes, concord_error*) {
  if (bytes) std::memcpy(buffer->bytes.data() + offset, host, bytes);
  return CONCORD_OK;
}
concord_status download(concord_device* device, concord_stream*, const concord_buffer* buffer, uint64_t offset,
                        void* host, uint64_t bytes, concord_error*) {
  if (bytes && device->fault != kLostTransfer) std::memcpy(host, buffer->bytes.data() + offset, bytes);
  return CONCORD_OK;
}
concord_status weight_create(concord_device*, const concord_weight_desc*, concord_weight**, concord_error* err) {
  return say(err, "no weights here"), CONCORD_UNSUPPORTED;
}
void weight_destroy(concord_device*, concord_weight*) {}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  if (call->op != CONCORD_OP_ADD || call->in[0].dtype != CONCORD_F32) {
    err->why = CONCORD_WHY_NOT_IMPLEMENTED;
    return say(err, "it can only add in F32"), CONCORD_UNSUPPORTED;
  }
  const bool empty = call->in[0].dims[0] == 0 || call->in[0].dims[1] == 0;
  if (device->fault == kInvalid || (empty && device->fault != kAcceptsEmpty))
    return say(err, "an extent is 0"), CONCORD_INVALID;
  return CONCORD_OK;
}

float* at(const concord_tensor& t) { return reinterpret_cast<float*>(t.buffer->bytes.data() + t.byte_offset); }

// What happens before anything is computed; CONCORD_OK: go on.
concord_status misbehave(concord_device* device, concord_error* err) {
  switch (device->fault) {
    case kCrash:
      std::abort();
    case kHang:
      std::this_thread::sleep_for(std::chrono::hours(1));
      return CONCORD_OK;
    case kExit:
      ::_exit(0);
    case kKill:
      ::kill(::getpid(), SIGKILL);
      return CONCORD_OK;
    case kOom:
      return say(err, "42 bytes were wanted"), CONCORD_OUT_OF_MEMORY;
    case kError:
      return say(err, "the device is on fire"), CONCORD_DEVICE_ERROR;
    default:
      return CONCORD_OK;
  }
}

// What is done to the result.
void spoil(concord_device* device, const concord_call* call, float* y, int64_t n) {
  const float a_bit = 1e-7f;
  switch (device->fault) {
    case kInput:
      at(call->in[1])[0] += 1;
      break;
    case kGuard:
      y[n] = 0;
      break;
    case kVaryingWrong:
      if (device->calls > 2) y[0] += 1000;
      break;
    case kThreads:
      if (device->threads) y[0] *= 1 + a_bit;
      break;
    case kRows:
      if (call->in[0].dims[0] == 1) y[0] *= 1 + a_bit;
      break;
    case kWrong:
      y[n - 1] += 1;
      break;
    default:
      break;
  }
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* w,
                   concord_error* err) {
  if (const concord_status s = supports(device, call, err); s != CONCORD_OK) return s;
  if (const concord_status s = misbehave(device, err); s != CONCORD_OK) return s;
  ++device->calls;
  const int64_t n = call->in[0].dims[0] * call->in[0].dims[1];
  float* y = at(call->out[0]);
  const float *a = at(call->in[0]), *b = at(call->in[1]);
  if (device->fault != kNothing && !(device->fault == kStale && device->calls > 1)) {
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
    if (n > 0) spoil(device, call, y, n);
  }
  device->fallbacks += device->fault == kFallback;
  if (!w) return CONCORD_OK;
  w->fallbacks = device->fallbacks;
  w->determinism = device->fault == kVaryingKernel || device->fault == kVaryingWrong ? CONCORD_RUN_TO_RUN_VARYING
                                                                                     : CONCORD_ALWAYS_IDENTICAL;
  if (device->fault != kNoKernel)
    std::snprintf(
        w->kernel, sizeof w->kernel, "add: faulty %d",
        device->fault == kOtherKernel || device->fault == kVaryingKernel ? static_cast<int>(device->calls) : 0);
  return CONCORD_OK;
}

concord_status stream_create(concord_device*, concord_stream**, concord_error*) { return CONCORD_UNSUPPORTED; }
void stream_destroy(concord_device*, concord_stream*) {}
concord_status synchronize(concord_device*, concord_stream*, concord_error*) { return CONCORD_OK; }

const concord_backend kTable = {sizeof(concord_backend),
                                CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                "faulty",
                                "1.0",
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
                                supports,
                                run,
                                stream_create,
                                stream_destroy,
                                synchronize};

}  // namespace

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(uint32_t, uint32_t,
                                                                                               concord_error*) {
  return &kTable;
}
