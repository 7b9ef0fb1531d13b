// The reference device behind queues that put work off as long as the ABI allows, or bring it forward: whoever forgets
// to wait reads or overwrites the wrong bytes. Also devices that break what they are given. For tests alone.
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string_view>

#include "reference/ops.hpp"
#include "reference/reference.hpp"

namespace {

using concord_abi::refuse;

struct Kind {
  const char *id, *name;
  bool eager = false;          // the default stream runs at once; else only when somebody waits for it
  bool deaf_default = false;   // the default stream does not wait for others
  bool deaf_copies = false;    // others do not wait for the default stream
  bool flips_weights = false;  // a bit of each weight changes on its way
  bool flips_buffers = false;  // a bit of each upload that begins like a gain changes

  // The wrong ones are there when CONCORD_TEST_WRONG names them, or is "all".
  bool serves() const {
    if (!deaf_default && !deaf_copies && !flips_weights && !flips_buffers) return true;
    const char* wrong = std::getenv("CONCORD_TEST_WRONG");
    return wrong && (std::string_view(wrong) == "all" || std::string_view(wrong) == id);
  }
};
constexpr Kind kKinds[] = {
    {.id = "late:all", .name = "everything at the last moment"},
    {.id = "late:copies", .name = "computes at once, copies at the last moment", .eager = true},
    {.id = "late:deaf-default", .name = "overwrites what is being copied", .eager = true, .deaf_default = true},
    {.id = "late:deaf-copies", .name = "copies before it has computed", .deaf_copies = true},
    {.id = "late:flips-weights", .name = "changes weights", .flips_weights = true},
    {.id = "late:flips-buffers", .name = "changes what is uploaded", .flips_buffers = true},
};

using Task = std::function<concord_status(concord_error*)>;

struct Queue {
  bool eager = false;
  std::size_t done = 0;
  std::deque<Task> waiting;
  concord_status failed = CONCORD_OK;  // the first failure that nobody has heard of
  concord_error why{};

  std::size_t end() const { return done + waiting.size(); }
  void work(std::size_t until) {
    while (done < until && !waiting.empty()) {
      const Task task = std::move(waiting.front());
      waiting.pop_front(), ++done;
      concord_error err{};
      err.struct_size = sizeof err;
      const concord_status s = task(&err);
      if (s != CONCORD_OK && failed == CONCORD_OK) failed = s, why = err;
    }
  }
  concord_status add(Task task) {
    waiting.push_back(std::move(task));
    if (eager) work(end());
    return CONCORD_OK;
  }
  concord_status finish(concord_error* err) {
    work(end());
    const concord_status s = std::exchange(failed, CONCORD_OK);
    return s == CONCORD_OK ? s : refuse(err, s, static_cast<concord_why>(why.why), "%s", why.message);
  }
};

struct Late {
  const Kind& kind;
  concord_device* inner = nullptr;
  std::shared_ptr<Queue> compute = std::make_shared<Queue>();
  std::map<concord_stream*, std::shared_ptr<Queue>> streams;
  std::map<const std::byte*, std::uint64_t> host;  // page-locked memory
  std::map<const void*, std::uint64_t> sizes;      // of buffers and weights
  std::uint64_t now = 0, peak = 0;

  std::shared_ptr<Queue> queue(concord_stream* s) { return s ? streams.at(s) : compute; }
  void drain() {
    compute->work(compute->end());
    for (auto& [stream, q] : streams) q->work(q->end());
  }
  void hold(const void* what, std::uint64_t bytes) { sizes[what] = bytes, now += bytes, peak = std::max(peak, now); }
  void drop(const void* what) {
    const auto it = sizes.find(what);
    if (it == sizes.end()) return;
    now -= it->second, sizes.erase(it);
  }
  bool page_locked(const void* p, std::uint64_t bytes) const {
    const auto* at = static_cast<const std::byte*>(p);
    auto it = host.upper_bound(at);
    return it != host.begin() && (--it, at + bytes <= it->first + it->second);
  }
};

Late* of(concord_device* d) { return reinterpret_cast<Late*>(d); }
const concord_backend& inner() { return reference::table(); }

// CONCORD_TEST_LIMIT: bytes that a device has.
std::uint64_t limit() {
  const char* set = std::getenv("CONCORD_TEST_LIMIT");
  return set ? std::strtoull(set, nullptr, 10) : concord_abi::physical_memory();
}
concord_status fits(const Late& d, std::uint64_t bytes, concord_error* err) {
  const std::uint64_t most = limit();
  if (bytes <= most && d.now <= most - bytes) return CONCORD_OK;
  return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "%llu bytes do not fit beside %llu of %llu",
                (unsigned long long)bytes, (unsigned long long)d.now, (unsigned long long)most);
}

std::uint32_t device_count() { return std::size(kKinds); }

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index >= device_count() || !info)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "late: no device %u", index);
  concord_device_info f{};
  f.available = kKinds[index].serves(), f.compute_units = 1, f.memory_bytes = concord_abi::physical_memory();
  concord_abi::set_text(f.id, kKinds[index].id), concord_abi::set_text(f.name, kKinds[index].name);
  concord_abi::set_text(f.why, f.available ? "" : "CONCORD_TEST_WRONG does not name it");
  concord_abi::set_text(f.vendor, "Concord's tests"), concord_abi::set_text(f.features, "f64");
  concord_abi::give(f, info);
  return CONCORD_OK;
}

concord_status device_open(std::uint32_t index, const concord_open_options* options, concord_device** device,
                           concord_error* err) {
  if (index >= device_count() || !device)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "late: no device %u", index);
  if (!kKinds[index].serves())
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_BUILT, "CONCORD_TEST_WRONG does not name %s",
                  kKinds[index].id);
  auto late = std::make_unique<Late>(kKinds[index]);
  late->compute->eager = late->kind.eager;
  if (const auto s = inner().device_open(0, options, &late->inner, err); s != CONCORD_OK) return s;
  *device = reinterpret_cast<concord_device*>(late.release());
  return CONCORD_OK;
}
void device_close(concord_device* device) {
  if (!device) return;
  of(device)->drain();
  inner().device_close(of(device)->inner);
  delete of(device);
}

concord_status buffer_create(concord_device* device, std::uint64_t bytes, concord_buffer** buffer, concord_error* err) {
  if (device)
    if (const auto s = fits(*of(device), bytes, err); s != CONCORD_OK) return s;
  const auto s = concord_abi::buffer_create(device, bytes, buffer, err);
  if (s == CONCORD_OK) of(device)->hold(*buffer, bytes);
  return s;
}
void buffer_destroy(concord_device* device, concord_buffer* buffer) {
  if (!device || !buffer) return;
  of(device)->drain();
  of(device)->drop(buffer);
  concord_abi::buffer_destroy(device, buffer);
}

concord_status upload(concord_device* device, concord_stream* stream, concord_buffer* b, std::uint64_t offset,
                      const void* host, std::uint64_t bytes, concord_error* err) {
  if (const auto s = concord_abi::check_copy("upload", device, b, offset, host, bytes, err); s != CONCORD_OK) return s;
  const auto* p = static_cast<const std::byte*>(host);
  std::vector<std::byte> copy(p, p + bytes);
  if (of(device)->kind.flips_buffers && bytes >= 4) copy[bytes - 1] ^= std::byte{1};
  return of(device)->queue(stream)->add([b, offset, copy](concord_error*) {
    std::ranges::copy(copy, b->data + offset);
    return CONCORD_OK;
  });
}

concord_status download(concord_device* device, concord_stream* stream, const concord_buffer* b, std::uint64_t offset,
                        void* host, std::uint64_t bytes, concord_error* err) {
  if (const auto s = concord_abi::check_copy("download", device, b, offset, host, bytes, err); s != CONCORD_OK)
    return s;
  const auto q = of(device)->queue(stream);
  const Task copy = [=](concord_error*) {
    if (bytes) std::memcpy(host, b->data + offset, bytes);
    return CONCORD_OK;
  };
  q->add(copy);
  return stream && of(device)->page_locked(host, bytes) ? CONCORD_OK : q->finish(err);
}

concord_status weight_create(concord_device* device, const concord_weight_desc* desc, concord_weight** weight,
                             concord_error* err) {
  concord_abi::WeightBytes bytes;
  if (const auto s = concord_abi::check_weight(desc, bytes, err); s != CONCORD_OK) return s;
  const std::uint64_t held = bytes.data + bytes.scales + bytes.zeros;
  if (device)
    if (const auto s = fits(*of(device), held, err); s != CONCORD_OK) return s;
  const auto s = inner().weight_create(device ? of(device)->inner : nullptr, desc, weight, err);
  if (s != CONCORD_OK) return s;
  of(device)->hold(*weight, held);
  if (of(device)->kind.flips_weights) (*weight)->stored.data[bytes.data / 2] ^= std::byte{1};
  return s;
}
void weight_destroy(concord_device* device, concord_weight* weight) {
  if (!device || !weight) return;
  of(device)->drain();
  of(device)->drop(weight);
  inner().weight_destroy(of(device)->inner, weight);
}

concord_status supports(concord_device* device, const concord_call* call, concord_error* err) {
  return inner().supports(device ? of(device)->inner : nullptr, call, err);
}

concord_status run(concord_device* device, concord_stream* stream, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  if (!device || !call) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "late: NULL argument");
  concord_abi::WeightShape shape;
  if (call->weight)
    shape = {static_cast<std::int64_t>(call->weight->stored.rows),
             static_cast<std::int64_t>(call->weight->stored.cols)};
  const auto s = concord_abi::CallCheck(*call, call->weight ? &shape : nullptr, concord_abi::buffer_bytes, err).check();
  if (s != CONCORD_OK) return s;
  concord_witness w{};
  w.determinism = CONCORD_ALWAYS_IDENTICAL;
  std::snprintf(w.kernel, sizeof w.kernel, "%s: late reference", concord_abi::op_name(call->op));
  concord_abi::give(w, witness);
  return of(device)->queue(stream)->add([later = *call, to = of(device)->inner](concord_error* e) {
    return inner().run(to, nullptr, &later, nullptr, e);
  });
}

concord_status stream_create(concord_device* device, concord_stream** stream, concord_error* err) {
  const auto s = concord_abi::stream_create(device, stream, err);
  if (s == CONCORD_OK) of(device)->streams[*stream] = std::make_shared<Queue>();
  return s;
}
void stream_destroy(concord_device* device, concord_stream* stream) {
  if (!device || !stream) return;
  const auto q = of(device)->queue(stream);
  q->work(q->end());
  of(device)->streams.erase(stream);
  concord_abi::stream_destroy(device, stream);
}
concord_status synchronize(concord_device* device, concord_stream* stream, concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "synchronize: NULL device");
  return of(device)->queue(stream)->finish(err);
}

concord_status host_create(concord_device* device, std::uint64_t bytes, void** host, concord_error* err) {
  if (!device || !host || bytes == 0)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "host_create: NULL argument or 0 bytes");
  *host = nullptr;
  if (bytes > concord_abi::physical_memory() || !(*host = std::malloc(bytes)))
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "host_create: no memory for %llu bytes",
                  (unsigned long long)bytes);
  of(device)->host[static_cast<std::byte*>(*host)] = bytes;
  return CONCORD_OK;
}
void host_destroy(concord_device* device, void* host) {
  if (!device || !host) return;
  of(device)->drain();
  of(device)->host.erase(static_cast<std::byte*>(host));
  std::free(host);
}
concord_status stream_wait(concord_device* device, concord_stream* waiting, concord_stream* awaited,
                           concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "stream_wait: NULL device");
  const Late& d = *of(device);
  if (waiting ? d.kind.deaf_copies : d.kind.deaf_default) return CONCORD_OK;
  const auto other = of(device)->queue(awaited);
  return of(device)->queue(waiting)->add([other, until = other->end()](concord_error*) {
    other->work(until);
    return CONCORD_OK;
  });
}
concord_status weight_digest(concord_device* device, const concord_weight* weight, std::uint8_t digest[32],
                             concord_error* err) {
  if (!device) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "weight_digest: NULL argument");
  return inner().weight_digest(of(device)->inner, weight, digest, err);
}
concord_status memory(concord_device* device, concord_memory* memory, concord_error* err) {
  if (!device || !memory) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "memory: NULL argument");
  concord_abi::give(concord_memory{sizeof(concord_memory), 0, of(device)->now, of(device)->peak}, memory);
  return CONCORD_OK;
}

const concord_backend kTable = {sizeof(concord_backend),
                                CONCORD_ABI_MAJOR,
                                CONCORD_ABI_MINOR,
                                0,
                                "late",
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
                                synchronize,
                                host_create,
                                host_destroy,
                                stream_wait,
                                weight_digest,
                                memory};

}  // namespace

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t major,
                                                                                               std::uint32_t,
                                                                                               concord_error* err) {
  if (major == CONCORD_ABI_MAJOR) return &kTable;
  refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "late serves ABI %u", CONCORD_ABI_MAJOR);
  return nullptr;
}
