// The ABI's entries for memory, copies, streams and weights.
#pragma once
#include "gpu/device.hpp"

namespace CONCORD_GPU {

concord_status buffer_create(concord_device*, std::uint64_t bytes, concord_buffer** buffer, concord_error* err);
void buffer_destroy(concord_device*, concord_buffer*);
concord_status upload(concord_device*, concord_stream*, concord_buffer*, std::uint64_t offset, const void* host, std::uint64_t bytes, concord_error* err);
concord_status download(concord_device*, concord_stream*, const concord_buffer*, std::uint64_t offset, void* host, std::uint64_t bytes, concord_error* err);
concord_status weight_create(concord_device*, const concord_weight_desc*, concord_weight** weight, concord_error* err);
void weight_destroy(concord_device*, concord_weight*);
concord_status stream_create(concord_device*, concord_stream** stream, concord_error* err);
void stream_destroy(concord_device*, concord_stream*);
concord_status stream_wait(concord_device*, concord_stream* waiting, concord_stream* awaited, concord_error* err);
concord_status synchronize(concord_device*, concord_stream*, concord_error* err);
concord_status host_create(concord_device*, std::uint64_t bytes, void** host, concord_error* err);
void host_destroy(concord_device*, void* host);
concord_status memory(concord_device*, concord_memory*, concord_error* err);

inline Stream stream_of(const concord_device& d, const concord_stream* s) { return s ? s->stream : d.stream; }

}  // namespace CONCORD_GPU
