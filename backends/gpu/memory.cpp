#include "gpu/memory.hpp"

#include <algorithm>
#include <new>

#include "gpu/staging.hpp"

namespace CONCORD_GPU {
namespace {

using concord_abi::refuse;

// Prepares the calling thread for the device; every entry begins with it.
concord_status enter(const concord_device* d, const char* what, bool complete, concord_error* err) {
  if (!d || !complete) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: NULL argument", what);
  return status_of(use_device(d->ordinal), what, err);
}

concord_status check_copy(const char* what, const concord_device* d, const concord_buffer* b, std::uint64_t offset, const void* host, std::uint64_t bytes, concord_error* err) {
  if (const auto s = enter(d, what, b && (host || !bytes), err); s != CONCORD_OK) return s;
  if (offset > b->bytes || bytes > b->bytes - offset)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "%s: %llu bytes at offset %llu do not fit a buffer of %llu bytes", what, (unsigned long long)bytes,
                  (unsigned long long)offset, (unsigned long long)b->bytes);
  return CONCORD_OK;
}

// Whether a copy may return before it is done: it is asked for on a stream, and the memory stays where it is.
bool at_once(const concord_device& d, const concord_stream* stream, const void* host, std::uint64_t bytes) {
  const auto* p = static_cast<const std::byte*>(host);
  return stream && std::any_of(d.page_locked.begin(), d.page_locked.end(),
                               [&](const concord_device::HostRange& r) { return p >= r.begin && bytes <= r.bytes && p <= r.begin + (r.bytes - bytes); });
}

}  // namespace

concord_status buffer_create(concord_device* d, std::uint64_t bytes, concord_buffer** buffer, concord_error* err) {
  if (const auto s = enter(d, "buffer_create", buffer, err); s != CONCORD_OK) return s;
  *buffer = nullptr;
  void* memory = nullptr;
  const std::uint64_t held = std::max<std::uint64_t>(bytes, 1);
  if (const auto s = take(*d, held, &memory, err); s != CONCORD_OK) return s;
  auto* object = new (std::nothrow) concord_buffer{static_cast<std::byte*>(memory), bytes};
  auto s = object ? status_of(clear(memory, held, d->stream), "buffer_create", err) : refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no host memory");
  if (s == CONCORD_OK) s = status_of(wait_stream(d->stream), "buffer_create", err);  // it is zero for every stream, none of which waits for this one
  if (s != CONCORD_OK) {
    give_back(*d, memory, held);
    delete object;
    return s;
  }
  *buffer = object;
  return CONCORD_OK;
}

void buffer_destroy(concord_device* d, concord_buffer* b) {
  if (!b) return;
  (void)use_device(d->ordinal);
  give_back(*d, b->data, std::max<std::uint64_t>(b->bytes, 1));
  delete b;
}

concord_status upload(concord_device* d, concord_stream* stream, concord_buffer* b, std::uint64_t offset, const void* host, std::uint64_t bytes, concord_error* err) {
  const auto s = check_copy("upload", d, b, offset, host, bytes, err);
  if (s != CONCORD_OK || !bytes) return s;
  if (at_once(*d, stream, host, bytes)) return status_of(copy_in(b->data + offset, host, bytes, stream->stream), "upload", err);
  return d->staging->in(b->data + offset, static_cast<const std::byte*>(host), 1, bytes, bytes, stream_of(*d, stream), err);
}

concord_status download(concord_device* d, concord_stream* stream, const concord_buffer* b, std::uint64_t offset, void* host, std::uint64_t bytes, concord_error* err) {
  const auto s = check_copy("download", d, b, offset, host, bytes, err);
  if (s != CONCORD_OK || !bytes) return s;
  if (at_once(*d, stream, host, bytes)) return status_of(copy_out(host, b->data + offset, bytes, stream->stream), "download", err);
  if (const auto copied = d->staging->out(static_cast<std::byte*>(host), b->data + offset, bytes, stream_of(*d, stream), err); copied != CONCORD_OK) return copied;
  return settle(*d, stream_of(*d, stream), err);
}

namespace {

constexpr std::size_t kAlign = 256;  // [bytes] of every part of a weight
std::size_t padded(std::size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

concord_status fill(concord_device& d, concord_weight& w, const concord_weight_desc& desc, const concord_abi::WeightBytes& bytes, concord_error* err) {
  w.dtype = desc.dtype, w.rows = desc.rows, w.cols = desc.cols, w.groups = static_cast<std::int64_t>(bytes.groups), w.group = desc.dtype == CONCORD_U4 ? desc.group : 0;
  const auto rows = static_cast<std::size_t>(desc.rows);
  w.row_bytes = bytes.data / rows, w.pitch = (w.row_bytes + 15) / 16 * 16;
  const std::size_t scales_at = padded(rows * w.pitch), zeros_at = scales_at + padded(bytes.scales);
  w.bytes = zeros_at + padded(bytes.zeros);
  if (const auto s = take(d, w.bytes, &w.memory, err); s != CONCORD_OK) return s;
  auto* base = static_cast<std::byte*>(w.memory);
  const auto put = [&](std::size_t at, const void* from, std::size_t n) {
    return n ? d.staging->in(base + at, static_cast<const std::byte*>(from), 1, n, n, d.stream, err) : CONCORD_OK;
  };
  w.data = base;
  if (bytes.scales) w.scales = base + scales_at;
  if (bytes.zeros) w.zeros = reinterpret_cast<const std::uint8_t*>(base + zeros_at);
  if (const auto s = d.staging->in(base, static_cast<const std::byte*>(desc.data), rows, w.row_bytes, w.pitch, d.stream, err); s != CONCORD_OK) return s;
  if (const auto s = put(scales_at, desc.scales, bytes.scales); s != CONCORD_OK) return s;
  if (const auto s = put(zeros_at, desc.zeros, bytes.zeros); s != CONCORD_OK) return s;
  return status_of(wait_stream(d.stream), "weight_create", err);  // other streams may use it at once
}

}  // namespace

concord_status weight_create(concord_device* d, const concord_weight_desc* desc, concord_weight** weight, concord_error* err) {
  if (const auto s = enter(d, "weight_create", weight, err); s != CONCORD_OK) return s;
  *weight = nullptr;
  concord_abi::WeightBytes bytes;
  if (const auto s = concord_abi::check_weight(desc, bytes, err); s != CONCORD_OK) return s;
  if (desc->dtype == CONCORD_F64 || desc->activation_dtype == CONCORD_F64)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_DTYPE, "%s devices have no F64 arithmetic", kTarget);
  auto w = std::unique_ptr<concord_weight>(new (std::nothrow) concord_weight);
  if (!w) return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no host memory");
  if (const auto s = fill(*d, *w, *desc, bytes, err); s != CONCORD_OK) {
    give_back(*d, w->memory, w->bytes);
    return s;
  }
  *weight = w.release();
  return CONCORD_OK;
}

void weight_destroy(concord_device* d, concord_weight* w) {
  if (!w) return;
  (void)use_device(d->ordinal);
  give_back(*d, w->memory, w->bytes);
  delete w;
}

concord_status stream_create(concord_device* d, concord_stream** stream, concord_error* err) {
  if (const auto s = enter(d, "stream_create", stream, err); s != CONCORD_OK) return s;
  *stream = new (std::nothrow) concord_stream{};
  if (!*stream) return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no host memory");
  const auto s = status_of(create_stream(&(*stream)->stream), "stream_create", err);
  if (s != CONCORD_OK) delete *stream, *stream = nullptr;
  return s;
}

void stream_destroy(concord_device* d, concord_stream* stream) {
  if (!stream) return;
  (void)use_device(d->ordinal);
  (void)wait_stream(stream->stream);  // nobody can wait for it any more, and others will use its scratch memory
  for (concord_device::Scratch& s : d->scratch)
    if (s.user == stream->stream) s.user = {};
  (void)destroy_stream(stream->stream);
  delete stream;
}

concord_status stream_wait(concord_device* d, concord_stream* waiting, concord_stream* awaited, concord_error* err) {
  if (const auto s = enter(d, "stream_wait", true, err); s != CONCORD_OK) return s;
  if (const auto s = status_of(record(d->event, stream_of(*d, awaited)), "stream_wait", err); s != CONCORD_OK) return s;
  return status_of(stream_waits(stream_of(*d, waiting), d->event), "stream_wait", err);
}

concord_status synchronize(concord_device* d, concord_stream* stream, concord_error* err) {
  if (const auto s = enter(d, "synchronize", true, err); s != CONCORD_OK) return s;
  return settle(*d, stream_of(*d, stream), err);
}

concord_status host_create(concord_device* d, std::uint64_t bytes, void** host, concord_error* err) {
  if (const auto s = enter(d, "host_create", host, err); s != CONCORD_OK) return s;
  *host = nullptr;
  if (bytes == 0 || bytes > (std::uint64_t{1} << 40)) return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "%llu bytes of page-locked memory", (unsigned long long)bytes);
  const auto s = status_of(allocate_host(host, bytes), "page-locked memory", err);
  if (s != CONCORD_OK) return *host = nullptr, s;
  d->page_locked.push_back({static_cast<const std::byte*>(*host), bytes});
  return CONCORD_OK;
}

void host_destroy(concord_device* d, void* host) {
  if (!host) return;
  (void)use_device(d->ordinal);
  std::erase_if(d->page_locked, [&](const concord_device::HostRange& r) { return r.begin == host; });
  (void)release_host(host);
}

concord_status memory(concord_device* d, concord_memory* m, concord_error* err) {
  if (const auto s = enter(d, "memory", m && m->struct_size >= sizeof *m, err); s != CONCORD_OK) return s;
  m->now = d->memory_now, m->peak = d->memory_peak;
  return CONCORD_OK;
}

}  // namespace CONCORD_GPU
