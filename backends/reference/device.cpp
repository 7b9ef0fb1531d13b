// The reference device behind the C ABI.
#include <exception>
#include <thread>

#include "ops.hpp"
#include "reference.hpp"

namespace {

using concord_abi::refuse;

struct Entry {
  reference::Op run;
  const char* kernel;
};
// In the order of concord_op.
constexpr Entry kEntries[CONCORD_OP_COUNT] = {
    {reference::embedding, "embedding: reference f64"},
    {reference::rmsnorm, "rmsnorm: reference f64 compensated"},
    {reference::layernorm, "layernorm: reference f64 compensated"},
    {reference::matmul, "matmul: reference f64 compensated"},
    {reference::rope, "rope: reference f64"},
    {reference::kv_append, "kv_append: reference f64"},
    {reference::attention, "attention: reference f64 compensated, two-pass softmax"},
    {reference::swiglu, "swiglu: reference f64"},
    {reference::gelu, "gelu: reference f64"},
    {reference::add, "add: reference f64"},
    {reference::softmax, "softmax: reference f64 compensated"},
    {reference::topk_routing, "topk_routing: reference f64 compensated"},
    {reference::argmax, "argmax: reference f64"},
    {reference::sample, "sample: reference f64"},
};

concord_status out_of_memory(concord_error* err) {
  return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "the machine has no memory left");
}

// No exception may leave the plug-in.
template <class F>
concord_status guarded(concord_error* err, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return out_of_memory(err);
  } catch (const std::exception& e) {
    return refuse(err, CONCORD_INTERNAL, CONCORD_WHY_NONE, "unexpected exception: %s", e.what());
  }
}

std::uint32_t device_count() { return 1; }

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index != 0 || !info) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "reference: no device %u", index);
  concord_device_info f{};
  f.available = 1;
  concord_abi::set_text(f.id, "reference");
  concord_abi::set_text(f.name, "float64 reference");
  concord_abi::set_text(f.vendor, "Concord");
  concord_abi::set_text(f.architecture, "portable C++");
  concord_abi::set_text(f.features, "f64");
  std::snprintf(f.libraries, sizeof f.libraries, "oneTBB %d.%d", TBB_VERSION_MAJOR, TBB_VERSION_MINOR);
  f.compute_units = std::thread::hardware_concurrency();
  f.memory_bytes = concord_abi::physical_memory();
  concord_abi::give(f, info);
  return CONCORD_OK;
}

concord_status device_open(std::uint32_t index, const concord_open_options* options, concord_device** device,
                           concord_error* err) {
  if (index != 0 || !device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "reference: no device %u", index);
  const std::uint32_t threads = options && options->struct_size >= sizeof *options ? options->threads : 0;
  return guarded(err, [&] {
    *device = new concord_device(
        threads ? static_cast<int>(std::min(threads, std::max(1u, std::thread::hardware_concurrency())))
                : tbb::task_arena::automatic);
    return CONCORD_OK;
  });
}
void device_close(concord_device* device) { delete device; }

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (!device || !weight) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_create: NULL argument");
  *weight = nullptr;
  concord_abi::WeightBytes bytes;
  if (const auto s = concord_abi::check_weight(desc, bytes, err); s != CONCORD_OK) return s;
  return guarded(err, [&] {
    auto w = std::make_unique<concord_weight>();
    w->stored.assign(*desc, bytes);
    *weight = w.release();
    return CONCORD_OK;
  });
}
void weight_destroy(concord_device*, concord_weight* weight) { delete weight; }

concord_status weight_digest(concord_device* device, const concord_weight* weight, std::uint8_t digest[32],
                             concord_error* err) {
  if (!device || !weight || !digest)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_digest: NULL argument");
  return guarded(err, [&] {
    device->arena.execute([&] { reference::weight_digest(weight->stored, digest); });
    return CONCORD_OK;
  });
}

concord_status check(const concord_call* call, bool with_buffers, concord_error* err) {
  if (!call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "reference: NULL call");
  concord_abi::WeightShape shape;
  if (call->weight)
    shape = {static_cast<std::int64_t>(call->weight->stored.rows),
             static_cast<std::int64_t>(call->weight->stored.cols)};
  return concord_abi::CallCheck(*call, call->weight ? &shape : nullptr,
                                with_buffers ? concord_abi::buffer_bytes : nullptr, err)
      .check();
}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "reference: NULL device");
  return check(call, false, err);
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "reference: NULL device");
  if (const auto s = check(call, true, err); s != CONCORD_OK) return s;
  const Entry& entry = kEntries[call->op];
  const auto status = guarded(err, [&] { return device->arena.execute([&] { return entry.run(*call, err); }); });
  if (status == CONCORD_OK && witness) {
    concord_witness w{};
    w.determinism = CONCORD_ALWAYS_IDENTICAL;
    concord_abi::set_text(w.kernel, entry.kernel);
    concord_abi::give(w, witness);
  }
  return status;
}

const concord_backend kTable = {sizeof(concord_backend),
                                CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                "reference",
                                "0.1.0",
                                "C++ " __VERSION__ ", -ffp-contract=off, no fast-math",
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
                                concord_abi::synchronize,
                                nullptr,  // host_create and host_destroy: all memory is the host's
                                nullptr,
                                nullptr,  // stream_wait: every copy is done when it returns
                                weight_digest,
                                nullptr};

}  // namespace

namespace reference {
const concord_backend& table() { return kTable; }
}  // namespace reference
