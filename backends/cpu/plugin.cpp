// The CPU devices behind the C ABI.
#include <exception>
#include <thread>

#include "device.hpp"

namespace {

using concord_abi::refuse;

using Op = concord_status (*)(cpu::Context&);
constexpr Op kEntries[CONCORD_OP_COUNT] = {  // in the order of concord_op
    cpu::embedding, cpu::rmsnorm, cpu::layernorm, cpu::matmul,  cpu::rope,         cpu::kv_append, cpu::attention,
    cpu::swiglu,    cpu::gelu,    cpu::add,       cpu::softmax, cpu::topk_routing, cpu::argmax,
    cpu::sample};

// No exception may leave the plug-in.
template <class F>
concord_status guarded(concord_error* err, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "the machine has no memory left");
  } catch (const dnnl::error& e) {
    const bool memory = e.status == dnnl_out_of_memory;
    return refuse(err, memory ? CONCORD_OUT_OF_MEMORY : CONCORD_DEVICE_ERROR,
                  memory ? CONCORD_WHY_MEMORY : CONCORD_WHY_NONE, "oneDNN: %s (status %d)", e.what(),
                  static_cast<int>(e.status));
  } catch (const std::exception& e) {
    return refuse(err, CONCORD_INTERNAL, CONCORD_WHY_NONE, "unexpected exception: %s", e.what());
  }
}

std::uint32_t device_count() { return cpu::kVariants; }

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index >= cpu::kVariants || !info)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "cpu: no device %u", index);
  return guarded(err, [&] {
    const cpu::Variant& v = cpu::kVariantTable[index];
    const cpu::Processor p = cpu::inspect_processor();
    const std::string why = cpu::missing(v, p);
    concord_device_info f{};
    f.available = why.empty();
    concord_abi::set_text(f.id, v.id);
    concord_abi::set_text(f.name, (p.name + ", " + v.title).c_str());
    concord_abi::set_text(f.vendor, p.vendor.c_str());
    concord_abi::set_text(f.architecture, v.isa_name);
    // What the bf16 dot product does to numbers; the harness's bounds ask for these names.
    const char* arithmetic = v.bf16_matmul ? ",weights-bf16,products-flushed" : "";
    concord_abi::set_text(f.features, (p.features + arithmetic).c_str());
    concord_abi::set_text(f.why, why.c_str());
    const std::string library = v.tiles ? "" : "oneDNN " + cpu::onednn_version() + " (OpenMP), ";
    std::snprintf(f.libraries, sizeof f.libraries, "%soneTBB %d.%d", library.c_str(), TBB_VERSION_MAJOR, TBB_VERSION_MINOR);
    f.compute_units = std::thread::hardware_concurrency();
    f.memory_bytes = concord_abi::physical_memory();
    concord_abi::give(f, info);
    return CONCORD_OK;
  });
}

concord_status device_open(std::uint32_t index, const concord_open_options* options, concord_device** device,
                           concord_error* err) {
  if (index >= cpu::kVariants || !device)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "cpu: no device %u", index);
  *device = nullptr;
  const std::uint32_t asked = options && options->struct_size >= sizeof *options ? options->threads : 0;
  return guarded(err, [&] {
    const cpu::Variant& v = cpu::kVariantTable[index];
    if (const std::string why = cpu::missing(v, cpu::inspect_processor()); !why.empty())
      return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_ARCHITECTURE, "%s: %s", v.id, why.c_str());
    const unsigned all = std::max(1u, std::thread::hardware_concurrency());
    *device = new concord_device(v, static_cast<int>(asked ? std::min(asked, 1024u) : all));
    return CONCORD_OK;
  });
}
void device_close(concord_device* device) { delete device; }

// What this device can multiply: float32 arithmetic, and BF16 operands alone on cpu:bf16.
concord_status check_dtype(const concord_device& d, std::uint32_t activation, concord_error* err) {
  if (d.variant.bf16_matmul && activation != CONCORD_BF16)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s takes BF16 activations only, not %s", d.variant.id,
                  concord_abi::dtype_name(activation));
  if (activation == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s has no F64 arithmetic", d.variant.id);
  return CONCORD_OK;
}

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (!device || !weight) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_create: NULL argument");
  *weight = nullptr;
  concord_abi::WeightBytes bytes;
  if (const auto s = concord_abi::check_weight(desc, bytes, err); s != CONCORD_OK) return s;
  if (const auto s = check_dtype(*device, desc->activation_dtype, err); s != CONCORD_OK) return s;
  if (desc->dtype == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s takes no F64 weights", device->variant.id);
  return guarded(err, [&] {
    *weight = cpu::prepare_weight(*device, *desc, bytes).release();
    return CONCORD_OK;
  });
}
void weight_destroy(concord_device*, concord_weight* weight) { delete weight; }

concord_status check(const concord_device& device, const concord_call* call, bool with_buffers, concord_error* err) {
  if (!call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "cpu: NULL call");
  concord_abi::WeightShape shape;
  if (call->weight)
    shape = {static_cast<std::int64_t>(call->weight->packed.rows), static_cast<std::int64_t>(call->weight->packed.cols)};
  concord_abi::CallCheck checker(*call, call->weight ? &shape : nullptr,
                                 with_buffers ? concord_abi::buffer_bytes : nullptr, err);
  if (const auto s = checker.check(); s != CONCORD_OK) return s;
  if (call->accumulate == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s accumulates in F32, not F64", device.variant.id);
  if (const auto s = check_dtype(device, concord_abi::activation_dtype(*call), err); s != CONCORD_OK) return s;
  if (concord_abi::has_cache(*call) && concord_abi::cache_dtype(*call) == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s has no F64 key/value cache", device.variant.id);
  return CONCORD_OK;
}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "cpu: NULL device");
  return check(*device, call, false, err);
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "cpu: NULL device");
  if (const auto s = check(*device, call, true, err); s != CONCORD_OK) return s;
  concord_witness w{};
  w.determinism =
      CONCORD_ALWAYS_IDENTICAL;  // sums have a fixed order whatever the threads; matmul by oneDNN says otherwise
  std::snprintf(w.kernel, sizeof w.kernel, "%s: cpu %s", concord_abi::op_name(call->op), device->kernels.name);
  cpu::Context context{*device, *call, w, err};
  const auto status = guarded(err, [&] { return kEntries[call->op](context); });
  w.fallbacks = device->fallbacks;
  if (status == CONCORD_OK) concord_abi::give(w, witness);
  return status;
}

const concord_backend kTable = {sizeof(concord_backend),
                                CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                "cpu",
                                "0.1.0",
                                "C++ " __VERSION__ ", -O3 -ffp-contract=off, no fast-math, fma by name only",
                                device_count,
                                device_info,
                                device_open,
                                device_close,
                                concord_abi::buffer_create,
                                concord_abi::buffer_destroy,
                                concord_abi::upload,
                                concord_abi::download,
                                weight_create,
                                weight_destroy,
                                supports,
                                run,
                                concord_abi::stream_create,
                                concord_abi::stream_destroy,
                                concord_abi::synchronize};

}  // namespace

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t host_major,
                                                                                               std::uint32_t host_minor,
                                                                                               concord_error* err) {
  if (host_major == CONCORD_ABI_MAJOR) return &kTable;
  refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "plug-in serves ABI %u.%u, the host asks for %u.%u", CONCORD_ABI_MAJOR,
         CONCORD_ABI_MINOR, host_major, host_minor);
  return nullptr;
}
