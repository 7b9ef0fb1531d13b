// The planted faults behind the C ABI: one device for each.
#include <exception>
#include <thread>

#include "mutant.hpp"
#include "reference/reference.hpp"

namespace mutant {
namespace {

using concord_abi::refuse;

// No exception may leave the plug-in.
template <class F>
concord_status guarded(concord_error* err, const F& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "the machine has no memory left");
  } catch (const std::exception& e) {
    return refuse(err, CONCORD_INTERNAL, CONCORD_WHY_NONE, "unexpected exception: %s", e.what());
  }
}

Device& own(concord_device* device) { return *static_cast<Device*>(device); }

std::uint32_t device_count() { return static_cast<std::uint32_t>(all_faults().size()); }

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index >= device_count() || !info)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "mutant: no device %u", index);
  return guarded(err, [&] {
    const Fault& fault = all_faults()[index];
    std::string ops;  // where the harness finds out what to run
    for (std::uint32_t op = 0; op < CONCORD_OP_COUNT; ++op)
      if (fault.touches(op)) ops.append(ops.empty() ? "" : ",").append(concord_abi::op_name(op));
    concord_device_info f{};
    f.available = 1;
    concord_abi::set_text(f.id, ("mutant:" + std::string(fault.name)).c_str());
    concord_abi::set_text(f.name, fault.what);
    concord_abi::set_text(f.vendor, "Concord");
    concord_abi::set_text(f.architecture, "planted fault");
    concord_abi::set_text(f.libraries, ops.c_str());
    f.compute_units = std::thread::hardware_concurrency();
    f.memory_bytes = concord_abi::physical_memory();
    concord_abi::give(f, info);
    return CONCORD_OK;
  });
}

concord_status device_open(std::uint32_t index, const concord_open_options* options, concord_device** device,
                           concord_error* err) {
  if (index >= device_count() || !device)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "mutant: no device %u", index);
  const std::uint32_t asked = options && options->struct_size >= sizeof *options ? options->threads : 0;
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  return guarded(err, [&] {
    *device = new Device(all_faults()[index], asked ? asked : cores, cores);
    return CONCORD_OK;
  });
}
void device_close(concord_device* device) {
  if (device) delete &own(device);
}

std::string weight_key(const concord_weight_desc& d) {
  return std::to_string(d.dtype) + ":" + std::to_string(d.rows) + "x" + std::to_string(d.cols) + "/" +
         std::to_string(d.group) + (d.zeros ? "z" : "");
}

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_create: NULL argument");
  Device& d = own(device);
  if (desc && d.fault.weight_refused && d.fault.weight_refused(*desc))
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "weights of this dtype are not served");
  const concord_status status = reference::table().weight_create(device, desc, weight, err);
  if (status != CONCORD_OK || !d.fault.weights_cached) return status;
  return guarded(err, [&] {
    auto& first = d.weights[weight_key(*desc)];
    if (first)
      **weight = *first;
    else
      first = std::make_unique<concord_weight>(**weight);
    return CONCORD_OK;
  });
}
void weight_destroy(concord_device*, concord_weight* weight) { delete weight; }

concord_status upload(concord_device* device, concord_stream* stream, concord_buffer* buffer, std::uint64_t offset,
                      const void* host, std::uint64_t bytes, concord_error* err) {
  const bool loses = device && own(device).fault.upload_loses_tail && bytes > 16;
  return concord_abi::upload(device, stream, buffer, offset, host, loses ? bytes / 16 * 16 : bytes, err);
}

concord_status check(const concord_call& call, bool with_buffers, concord_error* err) {
  concord_abi::WeightShape shape;
  if (call.weight)
    shape = {static_cast<std::int64_t>(call.weight->stored.rows), static_cast<std::int64_t>(call.weight->stored.cols)};
  return concord_abi::CallCheck(call, call.weight ? &shape : nullptr,
                                with_buffers ? concord_abi::buffer_bytes : nullptr, err)
      .check();
}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  if (!device || !call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "supports: NULL argument");
  if (const auto s = check(*call, false, err); s != CONCORD_OK) return s;
  const Fault& fault = own(device).fault;
  return fault.supports && fault.touches(call->op) ? fault.supports(*call, err) : CONCORD_OK;
}

concord_witness honest_witness(const Device& d, std::uint32_t op) {
  concord_witness w{};
  w.struct_size = sizeof w;
  w.determinism = CONCORD_ALWAYS_IDENTICAL;
  w.fallbacks = d.fallbacks;
  std::snprintf(w.kernel, sizeof w.kernel, "%s: mutant f64", concord_abi::op_name(op));
  return w;
}

concord_status run(concord_device* device, concord_stream*, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (!device || !call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "run: NULL argument");
  return guarded(err, [&]() -> concord_status {
    Device& d = own(device);
    concord_witness w = honest_witness(d, call->op);
    Job job{d, *call, w, err};
    const bool touched = call->op < CONCORD_OP_COUNT && d.fault.touches(call->op);
    concord_status status = check(*call, true, err);
    if (status != CONCORD_OK) {
      if (touched && d.fault.invalid) status = d.fault.invalid(job);
    } else {
      d.calls += touched;
      status = touched && d.fault.run ? d.fault.run(job) : job.honest();
    }
    if (status == CONCORD_OK) concord_abi::give(w, witness);
    return status;
  });
}

concord_status synchronize(concord_device* device, concord_stream* stream, concord_error* err) {
  if (device && own(device).fault.late_error && own(device).calls > 0)
    return refuse(err, CONCORD_DEVICE_ERROR, CONCORD_WHY_NONE, "an error of earlier work");
  return concord_abi::synchronize(device, stream, err);
}

const concord_backend kTable = {sizeof(concord_backend),
                                CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                "mutant",
                                "0.1.0",
                                "planted faults over the reference's operators",
                                device_count,
                                device_info,
                                device_open,
                                device_close,
                                concord_abi::buffer_create,
                                concord_abi::buffer_destroy,
                                upload,
                                concord_abi::download,
                                weight_create,
                                weight_destroy,
                                supports,
                                run,
                                concord_abi::stream_create,
                                concord_abi::stream_destroy,
                                synchronize};

}  // namespace
}  // namespace mutant

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t host_major,
                                                                                               std::uint32_t,
                                                                                               concord_error* err) {
  if (host_major == CONCORD_ABI_MAJOR) return &mutant::kTable;
  concord_abi::refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "plug-in serves ABI %u.%u", CONCORD_ABI_MAJOR,
                      CONCORD_ABI_MINOR);
  return nullptr;
}
