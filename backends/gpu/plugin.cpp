// The GPU devices behind the C ABI, for every target.
#include <exception>
#include <new>

#include "gpu/library.hpp"
#include "gpu/memory.hpp"
#include "gpu/staging.hpp"

namespace CONCORD_GPU {
namespace {

using concord_abi::refuse;

using Op = concord_status (*)(Context&);
constexpr Op kEntries[CONCORD_OP_COUNT] = {  // in the order of concord_op
    embedding, rmsnorm, layernorm, matmul, rope, kv_append, attention, swiglu, gelu, add, softmax, topk_routing, argmax, sample};

// No exception may leave the plug-in.
template <class F>
concord_status guarded(concord_error* err, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no host memory left");
  } catch (const std::exception& e) {
    return refuse(err, CONCORD_INTERNAL, CONCORD_WHY_NONE, "unexpected exception: %s", e.what());
  }
}

struct Chosen {
  int gpu = 0;
  const Variant* variant = nullptr;  // NULL: no such device
};
Chosen choose(std::uint32_t index) {
  unsigned count = 0;
  const Variant* all = variants(count);
  if (index >= count * static_cast<unsigned>(gpus())) return {};
  return {static_cast<int>(index / count), all + index % count};
}

std::uint32_t device_count() {
  unsigned count = 0;
  variants(count);
  return count * static_cast<unsigned>(gpus());
}

void set_facts(const Chosen& c, concord_device_info& f) {
  Properties p;
  std::string why = unavailable(c.gpu, *c.variant);
  concord_error err{};
  err.struct_size = sizeof err;
  if (why.empty() && describe(c.gpu, p, &err) != CONCORD_OK) why = err.message;
  f.available = why.empty();
  const std::string more = features(c.gpu, *c.variant);
  concord_abi::set_text(f.id, device_id(c.gpu, *c.variant).c_str());
  concord_abi::set_text(f.name, (std::string(p.name[0] ? p.name : "GPU") + ", " + c.variant->title).c_str());
  concord_abi::set_text(f.vendor, vendor());
  concord_abi::set_text(f.architecture, p.architecture);
  concord_abi::set_text(f.driver, p.driver);
  concord_abi::set_text(f.libraries, libraries().c_str());
  concord_abi::set_text(f.features, ("device-memory" + (more.empty() ? "" : "," + more)).c_str());
  concord_abi::set_text(f.why, why.c_str());
  f.compute_units = p.units, f.memory_bytes = p.memory_bytes;
}

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  const Chosen c = choose(index);
  if (!c.variant || !info) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: no device %u", kTarget, index);
  return guarded(err, [&] {
    concord_device_info f{};
    set_facts(c, f);
    concord_abi::give(f, info);
    return CONCORD_OK;
  });
}

concord_status prepare(concord_device& d, concord_error* err) {
  if (const auto s = status_of(use_device(d.ordinal), "device", err); s != CONCORD_OK) return s;
  if (const auto s = describe(d.ordinal, d.properties, err); s != CONCORD_OK) return s;
  if (const auto s = status_of(create_stream(&d.stream), "stream", err); s != CONCORD_OK) return s;
  if (const auto s = status_of(create_event(&d.event), "event", err); s != CONCORD_OK) return s;
  void* fault = nullptr;
  if (const auto s = status_of(allocate(&fault, sizeof(Fault)), "memory", err); s != CONCORD_OK) return s;
  d.fault = static_cast<Fault*>(fault);
  if (const auto s = status_of(clear(fault, sizeof(Fault), d.stream), "memory", err); s != CONCORD_OK) return s;
  if (const auto s = status_of(wait_stream(d.stream), "memory", err); s != CONCORD_OK) return s;  // before any other stream's kernels report there
  void* copy = nullptr;
  if (const auto s = status_of(allocate_host(&copy, sizeof(Fault)), "page-locked memory", err); s != CONCORD_OK) return s;
  d.fault_copy = static_cast<Fault*>(copy);
  if (const auto s = Staging::create(d.staging, err); s != CONCORD_OK) return s;
  return d.variant.library ? open_library(d, d.library, err) : CONCORD_OK;
}

concord_status device_open(std::uint32_t index, const concord_open_options*, concord_device** device, concord_error* err) {
  const Chosen c = choose(index);
  if (!c.variant || !device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: no device %u", kTarget, index);
  *device = nullptr;
  return guarded(err, [&] {
    if (const std::string why = unavailable(c.gpu, *c.variant); !why.empty())
      return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_ARCHITECTURE, "%s: %s", device_id(c.gpu, *c.variant).c_str(), why.c_str());
    auto d = std::make_unique<concord_device>(*c.variant, c.gpu);
    if (const auto s = prepare(*d, err); s != CONCORD_OK) return s;
    *device = d.release();
    return CONCORD_OK;
  });
}
void device_close(concord_device* device) { delete device; }

concord_status check(const concord_call* call, bool with_buffers, concord_error* err) {
  if (!call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: NULL call", kTarget);
  concord_abi::WeightShape shape;
  if (call->weight) shape = {call->weight->rows, call->weight->cols};
  const auto bytes_of = [](const concord_buffer* b) { return b->bytes; };
  concord_abi::CallCheck checker(*call, call->weight ? &shape : nullptr, with_buffers ? +bytes_of : nullptr, err);
  if (const auto s = checker.check(); s != CONCORD_OK) return s;
  const bool f64 = call->accumulate == CONCORD_F64 || concord_abi::activation_dtype(*call) == CONCORD_F64 ||
                   (concord_abi::has_cache(*call) && concord_abi::cache_dtype(*call) == CONCORD_F64);
  if (f64) return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s devices have no F64 arithmetic", kTarget);
  for (std::uint32_t i = 0; i < call->n_in + call->n_out; ++i) {  // kernels count elements of one axis in 32 bits
    const concord_tensor& t = i < call->n_in ? call->in[i] : call->out[i - call->n_in];
    for (std::uint32_t axis = 0; axis < t.rank; ++axis)
      if (t.dims[axis] > INT32_MAX)
        return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "%s: an extent of %lld; at most 2^31 - 1", concord_abi::op_name(call->op), (long long)t.dims[axis]);
  }
  if (call->op == CONCORD_OP_ATTENTION)
    if (const char* why = attention_refuses(*call)) return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "attention: %s", why);
  return CONCORD_OK;
}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: NULL device", kTarget);
  return check(call, false, err);
}

concord_status run(concord_device* device, concord_stream* stream, const concord_call* call, concord_witness* witness, concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: NULL device", kTarget);
  if (const auto s = check(call, true, err); s != CONCORD_OK) return s;
  if (const auto s = status_of(use_device(device->ordinal), "device", err); s != CONCORD_OK) return s;
  concord_witness w{};
  w.determinism = CONCORD_IDENTICAL_PER_CONFIGURATION;
  std::snprintf(w.kernel, sizeof w.kernel, "%s: %s rows wave%u", concord_abi::op_name(call->op), kTarget, device->properties.warp);
  Context context{*device, *call, stream_of(*device, stream), w, err};
  const auto status = guarded(err, [&] { return kEntries[call->op](context); });
  w.fallbacks = device->fallbacks;
  if (status == CONCORD_OK) concord_abi::give(w, witness);
  return status;
}

concord_status digest(concord_device* device, const concord_weight* weight, std::uint8_t out[32], concord_error* err) {
  if (!device || !weight || !out) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_digest: NULL argument");
  if (const auto s = status_of(use_device(device->ordinal), "weight_digest", err); s != CONCORD_OK) return s;
  return guarded(err, [&] { return weight_digest(*device, *weight, out, err); });
}

const concord_backend* table() {
  static const concord_backend t = {sizeof(concord_backend), CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, 0, kTarget, "0.1.0", build(), device_count, device_info, device_open, device_close,
                                    buffer_create, buffer_destroy, upload, download, weight_create, weight_destroy, supports, run, stream_create, stream_destroy, synchronize,
                                    host_create, host_destroy, stream_wait, digest, memory};
  return &t;
}

}  // namespace
}  // namespace CONCORD_GPU

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t host_major, std::uint32_t host_minor, concord_error* err) {
  if (host_major == CONCORD_ABI_MAJOR) return CONCORD_GPU::table();
  concord_abi::refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "plug-in serves ABI %u.%u, the host asks for %u.%u", CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, host_major, host_minor);
  return nullptr;
}
