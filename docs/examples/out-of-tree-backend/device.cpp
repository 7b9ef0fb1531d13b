// example:scalar, a device in plain float32 loops, behind Concord's C ABI.
#include <exception>
#include <memory>

#include "operators.hpp"

struct concord_device {
  std::uint32_t reserved = 0;  // a real one has its queues, caches and counters here
};

namespace {

using sdk::refuse;

// No exception may leave the plug-in.
template <class F>
concord_status guarded(concord_error* err, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "example: no memory left");
  } catch (const std::exception& e) {
    return refuse(err, CONCORD_INTERNAL, CONCORD_WHY_NONE, "example: %s", e.what());
  }
}

std::uint32_t device_count() { return 1; }
concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index != 0 || !info) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "example: no device %u", index);
  concord_device_info f{};
  f.available = 1, f.compute_units = 1, f.memory_bytes = sdk::physical_memory();
  sdk::set_text(f.id, "example:scalar"), sdk::set_text(f.name, "plain float32 loops");
  sdk::set_text(f.vendor, "Example"), sdk::set_text(f.architecture, "portable C++"), sdk::set_text(f.features, "f32");
  sdk::give(f, info);
  return CONCORD_OK;
}

concord_status device_open(std::uint32_t index, const concord_open_options*, concord_device** device,
                           concord_error* err) {
  if (index != 0 || !device)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "example: no device %u to open", index);
  return guarded(err, [&] { return *device = new concord_device, CONCORD_OK; });
}
void device_close(concord_device* device) { delete device; }

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (!device || !weight) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_create: NULL argument");
  *weight = nullptr;
  sdk::WeightBytes bytes;
  if (const auto s = sdk::check_weight(desc, bytes, err); s != CONCORD_OK) return s;
  if (desc->dtype == CONCORD_F64 || desc->activation_dtype == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "example:scalar has no F64 arithmetic");
  return guarded(err, [&] {
    auto w = std::make_unique<concord_weight>();
    w->stored.assign(*desc, bytes);
    return *weight = w.release(), CONCORD_OK;
  });
}
void weight_destroy(concord_device*, concord_weight* weight) { delete weight; }

// First what nobody could serve (INVALID), then what this device does not (UNSUPPORTED, with the reason).
concord_status check(const concord_device* device, const concord_call* call, bool with_buffers, concord_error* err) {
  if (!device || !call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "example: NULL argument");
  sdk::WeightShape shape;
  if (call->weight)
    shape = {static_cast<std::int64_t>(call->weight->stored.rows),
             static_cast<std::int64_t>(call->weight->stored.cols)};
  sdk::CallCheck checker(*call, call->weight ? &shape : nullptr, with_buffers ? sdk::buffer_bytes : nullptr, err);
  if (const auto s = checker.check(); s != CONCORD_OK) return s;
  if (!example::kOperators[call->op])
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_IMPLEMENTED, "example:scalar has no %s",
                  sdk::op_name(call->op));
  if (call->accumulate != CONCORD_F32 || sdk::activation_dtype(*call) == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "example:scalar has no F64 arithmetic");
  if (sdk::has_cache(*call) && (sdk::cache_dtype(*call) == CONCORD_I8 || sdk::cache_dtype(*call) == CONCORD_F64))
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "example:scalar keeps its cache in F32, F16 or BF16");
  return CONCORD_OK;
}
concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  return check(device, call, false, err);
}

// Ids, positions and cache rows, before anything is written.
concord_status check_values(const concord_call& c, concord_error* err) {
  const auto indices = [&](int i, const char* name, std::int64_t limit) {
    return sdk::check_indices(sdk::op_name(c.op), name, sdk::indices_of(c.in[i]), sdk::element_count(c.in[i]), limit,
                              err);
  };
  switch (c.op) {
    case CONCORD_OP_EMBEDDING:
      return indices(0, "ids", static_cast<std::int64_t>(c.weight->stored.rows));
    case CONCORD_OP_ROPE:
      return indices(3, "positions", c.in[1].dims[0]);
    case CONCORD_OP_ATTENTION:
      return indices(3, "rows", c.in[1].dims[0]);
    case CONCORD_OP_KV_APPEND:
      return sdk::check_rows(sdk::indices_of(c.in[2]), sdk::element_count(c.in[2]), c.out[0].dims[0], err);
    default:
      return CONCORD_OK;
  }
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (const auto s = check(device, call, true, err); s != CONCORD_OK) return s;
  if (const auto s = check_values(*call, err); s != CONCORD_OK) return s;
  const auto s = guarded(err, [&] { return example::kOperators[call->op](*call), CONCORD_OK; });
  if (s != CONCORD_OK) return s;
  concord_witness w{};
  w.determinism = CONCORD_ALWAYS_IDENTICAL;  // one thread, one order of every sum
  std::snprintf(w.kernel, sizeof w.kernel, "%s: example scalar f32", sdk::op_name(call->op));
  sdk::give(w, witness);
  return CONCORD_OK;
}

// clang-format off
const concord_backend kTable = {
    sizeof(concord_backend), CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, 0, "example", "1.0.0", "C++ " __VERSION__ ", -ffp-contract=off",
    device_count, device_info, device_open, device_close, sdk::buffer_create, sdk::buffer_destroy, sdk::upload,
    sdk::download, weight_create, weight_destroy, supports, run, sdk::stream_create, sdk::stream_destroy,
    sdk::synchronize,
    nullptr, nullptr, nullptr, nullptr, nullptr};  // what may be left out: page-locked memory, ordered streams, digests of weights, memory in use
// clang-format on

}  // namespace

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t host_major,
                                                                                               std::uint32_t host_minor,
                                                                                               concord_error* err) {
  if (host_major == CONCORD_ABI_MAJOR) return &kTable;
  refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "example serves ABI %u.%u, the host asks for %u.%u", CONCORD_ABI_MAJOR,
         CONCORD_ABI_MINOR, host_major, host_minor);
  return nullptr;
}
