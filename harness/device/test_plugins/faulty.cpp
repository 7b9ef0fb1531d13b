// A small right plug-in that adds F32 numbers, with at most one fault, chosen by CONCORD_TEST_FAULT. For the tests of
// `concord plugin-check`: without a fault it passes every check, so that a failed check is the fault's doing.
#include <pthread.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "abi/concord_host.hpp"

struct concord_device {
  std::uint32_t index = 0;
};
struct concord_weight {
  concord_abi::StoredWeight stored;
};

namespace {

using concord_abi::refuse;

bool fault(std::string_view name) {
  static const char* chosen = std::getenv("CONCORD_TEST_FAULT");
  return chosen && name == chosen;
}

// Memory that nobody gives back; written to, so that the compiler keeps it.
void forget(std::size_t bytes) {
  if (auto* p = static_cast<volatile char*>(std::malloc(bytes))) *p = 1;
}

std::uint32_t device_count() { return fault("no-devices") ? 0 : 3; }

void spoil_info(concord_device_info& f, std::uint32_t index) {
  if (fault("id-twice")) concord_abi::set_text(f.id, "faulty:0");
  if (fault("foreign-id")) concord_abi::set_text(f.id, "cpu:avx2");
  if (fault("unterminated-name")) std::memset(f.name, 'n', sizeof f.name);
  if (fault("silent-why")) f.why[0] = '\0';
  if (fault("none-available")) f.available = 0, concord_abi::set_text(f.why, "switched off by its test");
  if (fault("other-ids-later")) {
    static unsigned calls = 0;
    if (++calls > 3) std::snprintf(f.id, sizeof f.id, "faulty:later%u", index);
  }
}

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (!info || (index >= 3 && !fault("any-index")))
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "faulty: no device %u", index);
  concord_device_info f{};
  f.available = index != 2;
  std::snprintf(f.id, sizeof f.id, "faulty:%u", index);
  concord_abi::set_text(f.name, "adds numbers"), concord_abi::set_text(f.why, index == 2 ? "it is only pretended" : "");
  f.compute_units = 1, f.memory_bytes = concord_abi::physical_memory();
  spoil_info(f, index);
  if (fault("info-overwrite")) return f.struct_size = info->struct_size, *info = f, CONCORD_OK;
  concord_abi::give(f, info);
  return CONCORD_OK;
}

void* sleeper(void*) { return ::pause(), nullptr; }

concord_status device_open(std::uint32_t index, const concord_open_options*, concord_device** device,
                           concord_error* err) {
  if (index >= 2 || !device)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "faulty: no device %u to open", index);
  static int opened[2] = {0, 0};
  if (++opened[index] > 1 && fault("open-hang")) ::pause();
  pthread_t thread;
  if (fault("open-leaks-thread") && pthread_create(&thread, nullptr, sleeper, nullptr) != 0)
    return CONCORD_DEVICE_ERROR;
  if (fault("open-leaks-file") && ::dup(0) < 0) return CONCORD_DEVICE_ERROR;
  if (fault("open-leaks-memory")) forget(24);
  *device = new concord_device{index};
  return CONCORD_OK;
}
void device_close(concord_device* device) {
  if (fault("close-crash") && !device) *reinterpret_cast<volatile int*>(device) = 1;
  delete device;
}

std::uint64_t held = 0, most = 0;  // bytes of all buffers

concord_status buffer_create(concord_device* device, std::uint64_t bytes, concord_buffer** buffer, concord_error* err) {
  if (fault("huge-crash") && bytes > 1u << 30) *static_cast<volatile char*>(std::malloc(bytes)) = 0;
  const auto s = concord_abi::buffer_create(
      device, fault("huge-accepted") ? std::min<std::uint64_t>(bytes, 1 << 20) : bytes, buffer, err);
  if (s != CONCORD_OK) return s;
  held += bytes, most = std::max(most, held);
  if (fault("dirty-buffer")) std::memset((*buffer)->data, 0xcd, bytes);
  if (fault("shared-memory") && bytes == 65536) {
    static auto* shared = static_cast<std::byte*>(std::aligned_alloc(64, 65536));
    std::free(std::exchange((*buffer)->data, shared));
    std::memset(shared, 0, 65536);
  }
  return s;
}
void buffer_destroy(concord_device* device, concord_buffer* buffer) {
  if (buffer && (fault("buffer-leak") || fault("shared-memory"))) return;
  if (buffer) held -= buffer->bytes;
  concord_abi::buffer_destroy(device, buffer);
}
concord_status upload(concord_device* device, concord_stream* stream, concord_buffer* b, std::uint64_t offset,
                      const void* host, std::uint64_t bytes, concord_error* err) {
  if (fault("null-crash") && !b->data) return CONCORD_INVALID;
  if (fault("copy-unchecked") && b && host && b->bytes > 1000 && (offset > b->bytes || bytes > b->bytes - offset))
    return CONCORD_OK;
  if (fault("copy-loses-a-byte") && bytes > 2) --bytes;
  return concord_abi::upload(device, stream, b, offset, host, bytes, err);
}

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (!device || !weight) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_create: NULL argument");
  concord_abi::WeightBytes bytes;
  const auto s = concord_abi::check_weight(desc, bytes, err);
  if (fault("weight-unchecked") && desc) return *weight = new concord_weight, CONCORD_OK;
  if (s != CONCORD_OK) return s;
  *weight = new concord_weight;
  (*weight)->stored.assign(*desc, bytes);
  return CONCORD_OK;
}
void weight_destroy(concord_device*, concord_weight* weight) {
  if (!fault("weight-leak")) delete weight;
}

concord_status check(concord_device* device, const concord_call* call, bool buffers, concord_error* err) {
  if (!device || !call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "faulty: NULL argument");
  concord_abi::WeightShape shape;
  if (call->weight)
    shape = {static_cast<std::int64_t>(call->weight->stored.rows),
             static_cast<std::int64_t>(call->weight->stored.cols)};
  const auto s =
      concord_abi::CallCheck(*call, call->weight ? &shape : nullptr, buffers ? concord_abi::buffer_bytes : nullptr, err)
          .check();
  if (fault("newest-call-only") && call->struct_size < sizeof *call)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "faulty: the call is too short");
  if (fault("accepts-flags") && call->flags == 0x80000000u) return CONCORD_OK;
  if (s != CONCORD_OK) return fault("silent-refusal") && err ? (err->message[0] = '\0', s) : s;
  if (call->op == CONCORD_OP_ADD && call->in[0].dtype == CONCORD_F32 && call->accumulate == CONCORD_F32)
    return CONCORD_OK;
  if (fault("unterminated-message") && err)
    return std::memset(err->message, 'm', sizeof err->message), err->why = CONCORD_WHY_DTYPE, CONCORD_UNSUPPORTED;
  return refuse(err, CONCORD_UNSUPPORTED, fault("no-reason") ? CONCORD_WHY_NONE : CONCORD_WHY_NOT_IMPLEMENTED,
                "faulty: it can only add F32 numbers");
}
concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  const auto s = check(device, call, false, err);
  return fault("supports-lies") && s == CONCORD_UNSUPPORTED && call->op == CONCORD_OP_GELU ? CONCORD_OK : s;
}

void spoil_run(concord_witness* witness) {
  if (fault("throws")) throw std::runtime_error("thrown by its test");
  if (fault("aborts")) std::abort();
  if (fault("exits")) ::_exit(0);
  if (fault("witness-null-crash")) witness->fallbacks = 0;
  if (fault("call-leak")) forget(24);
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (fault("writes-then-refuses") && call && call->out[0].buffer) call->out[0].buffer->data[0] = std::byte{1};
  if (const auto s = check(device, call, true, err); s != CONCORD_OK) return s;
  spoil_run(witness);
  const auto* a = reinterpret_cast<const float*>(concord_abi::bytes_of(call->in[0]));
  const auto* b = reinterpret_cast<const float*>(concord_abi::bytes_of(call->in[1]));
  auto* y = reinterpret_cast<float*>(concord_abi::bytes_of(call->out[0]));
  for (std::size_t i = 0; i < concord_abi::element_count(call->out[0]); ++i) y[i] = a[i] + b[i];
  concord_witness w{};
  w.determinism = fault("odd-determinism") ? 9u : static_cast<unsigned>(CONCORD_ALWAYS_IDENTICAL);
  concord_abi::set_text(w.kernel, fault("no-witness")      ? ""
                                  : fault("other-witness") ? "gemm: faulty"
                                                           : "add: faulty f32");
  if (fault("unterminated-witness")) std::memset(w.kernel, 'k', sizeof w.kernel);
  if (fault("witness-overwrite") && witness) return w.struct_size = witness->struct_size, *witness = w, CONCORD_OK;
  concord_abi::give(w, witness);
  return CONCORD_OK;
}
void stream_destroy(concord_device* device, concord_stream* stream) {
  if (!fault("stream-leak")) concord_abi::stream_destroy(device, stream);
}

concord_status host_create(concord_device* device, std::uint64_t bytes, void** host, concord_error* err) {
  if (!device || !host) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "host_create: NULL argument");
  if (fault("host-none") && bytes == 100) return CONCORD_OK;
  if (fault("host-huge-accepted")) bytes = std::min<std::uint64_t>(bytes, 1 << 20);
  *host = bytes > concord_abi::physical_memory() ? nullptr : std::malloc(bytes);
  return *host ? CONCORD_OK : refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no host memory");
}
void host_destroy(concord_device*, void* host) {
  if (!fault("host-leak")) std::free(host);
}
concord_status stream_wait(concord_device* device, concord_stream* waiting, concord_stream*, concord_error* err) {
  if (!device || (!waiting && fault("wait-null-refused")))
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "stream_wait: NULL argument");
  return CONCORD_OK;
}
concord_status weight_digest(concord_device* device, const concord_weight* weight, std::uint8_t digest[32], concord_error* err) {
  if (!device || !weight || !digest) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_digest: NULL argument");
  std::memset(digest, 0, 32);
  if (!fault("digest-constant")) std::memcpy(digest, weight->stored.data.data() + weight->stored.data.size() * 3 / 4, 1);
  return CONCORD_OK;
}
concord_status memory(concord_device* device, concord_memory* memory, concord_error* err) {
  static std::uint64_t calls = 0;
  if (!device || !memory) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "memory: NULL argument");
  concord_memory m{sizeof m, 0, held, most};
  if (fault("memory-stays")) m.now = m.peak = 1'000'000 * ++calls + (1 << 21);
  if (fault("memory-peak-below")) m.peak = m.now / 2;
  if (fault("memory-forgets")) m.peak = m.now;
  if (fault("memory-ignores-buffers")) m.now = 0;
  concord_abi::give(m, memory);
  return CONCORD_OK;
}

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
                                concord_abi::download,
                                weight_create,
                                weight_destroy,
                                supports,
                                run,
                                concord_abi::stream_create,
                                stream_destroy,
                                concord_abi::synchronize,
                                host_create,
                                host_destroy,
                                stream_wait,
                                nullptr,
                                memory};

// The table as the fault wants it.
const concord_backend* table() {
  static const concord_backend changed = [] {
    concord_backend t = kTable;
    if (fault("digest-constant") || fault("digest-other")) t.weight_digest = weight_digest;
    if (fault("host-half")) t.host_destroy = nullptr;
    if (fault("older")) t.struct_size = CONCORD_BACKEND_SIZE_2_0, t.abi_minor = 0;
    return t;
  }();
  return &changed;
}

[[gnu::destructor]] void at_exit() {
  if (fault("crash-at-exit")) std::abort();
}

}  // namespace

#ifdef CONCORD_FAULT_UNDEFINED  // a function that nobody has
extern "C" int concord_test_nobody_has_this();
extern "C" __attribute__((visibility("default"))) const int concord_test_value = concord_test_nobody_has_this();
#endif
#ifdef CONCORD_FAULT_BORROWED  // a function of a library that the program has loaded and this plug-in does not name;
                               // also a second export
extern "C" const char* OpenSSL_version(int);
extern "C" __attribute__((visibility("default"))) const char* concord_test_borrowed() { return OpenSSL_version(0); }
#endif

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t major,
                                                                                               std::uint32_t minor,
                                                                                               concord_error* err) {
  static int calls = 0;
  if (++calls > 1 && fault("second-entry")) return nullptr;
  if (fault("error-overwrite") && err && err->struct_size < sizeof *err)
    std::memset(err->message, 'e', sizeof err->message);
  if (minor > CONCORD_ABI_MINOR && fault("minor-refused"))
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "faulty: serves no newer minor"), nullptr;
  if (major == CONCORD_ABI_MAJOR || fault("any-major")) return table();
  if (!fault("silent-major")) refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "faulty serves ABI %u", CONCORD_ABI_MAJOR);
  return nullptr;
}
