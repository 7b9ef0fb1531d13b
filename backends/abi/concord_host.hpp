// What plug-ins whose device memory is host memory share: buffers, copies, streams and weights in their stored width.
// Header-only C++20. Every copy is synchronous, so a stream has nothing to order.
#pragma once
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "abi/concord_validate.hpp"

struct concord_buffer {
  std::byte* data = nullptr;  // 64-byte aligned
  std::uint64_t bytes = 0;
};
struct concord_stream {
  std::uint32_t reserved = 0;
};

namespace concord_abi {

inline std::uint64_t physical_memory() {
  struct sysinfo s{};
  return sysinfo(&s) == 0 ? static_cast<std::uint64_t>(s.totalram) * s.mem_unit : 0;
}
inline std::uint64_t buffer_bytes(const concord_buffer* b) { return b->bytes; }
inline std::byte* bytes_of(const concord_tensor& t) { return t.buffer->data + t.byte_offset; }
inline const std::int32_t* indices_of(const concord_tensor& t) {
  return reinterpret_cast<const std::int32_t*>(bytes_of(t));
}

inline concord_status buffer_create(concord_device* device, std::uint64_t bytes, concord_buffer** buffer,
                                    concord_error* err) {
  if (!device || !buffer) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "buffer_create: NULL argument");
  *buffer = nullptr;
  if (bytes > physical_memory())
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "buffer of %llu bytes; the machine has %llu",
                  (unsigned long long)bytes, (unsigned long long)physical_memory());
  const std::uint64_t rounded = std::max<std::uint64_t>(64, (bytes + 63) / 64 * 64);
  auto* data = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
  auto* object = data ? new (std::nothrow) concord_buffer{data, bytes} : nullptr;
  if (!object) {
    std::free(data);
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no memory for a buffer of %llu bytes",
                  (unsigned long long)bytes);
  }
  std::memset(data, 0, rounded);
  *buffer = object;
  return CONCORD_OK;
}
inline void buffer_destroy(concord_device*, concord_buffer* buffer) {
  if (!buffer) return;
  std::free(buffer->data);
  delete buffer;
}

inline concord_status check_copy(const char* what, const concord_device* device, const concord_buffer* b,
                                 std::uint64_t offset, const void* host, std::uint64_t bytes, concord_error* err) {
  if (!device || !b || (!host && bytes))
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "%s: NULL argument", what);
  if (offset > b->bytes || bytes > b->bytes - offset)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE,
                  "%s: %llu bytes at offset %llu do not fit a buffer of %llu bytes", what, (unsigned long long)bytes,
                  (unsigned long long)offset, (unsigned long long)b->bytes);
  return CONCORD_OK;
}
inline concord_status upload(concord_device* device, concord_stream*, concord_buffer* b, std::uint64_t offset,
                             const void* host, std::uint64_t bytes, concord_error* err) {
  const auto s = check_copy("upload", device, b, offset, host, bytes, err);
  if (s == CONCORD_OK && bytes) std::memcpy(b->data + offset, host, bytes);
  return s;
}
inline concord_status download(concord_device* device, concord_stream*, const concord_buffer* b, std::uint64_t offset,
                               void* host, std::uint64_t bytes, concord_error* err) {
  const auto s = check_copy("download", device, b, offset, host, bytes, err);
  if (s == CONCORD_OK && bytes) std::memcpy(host, b->data + offset, bytes);
  return s;
}
inline concord_status stream_create(concord_device* device, concord_stream** stream, concord_error* err) {
  if (!device || !stream) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "stream_create: NULL argument");
  *stream = new (std::nothrow) concord_stream{};
  return *stream ? CONCORD_OK : refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "no memory for a stream");
}
inline void stream_destroy(concord_device*, concord_stream* stream) { delete stream; }
inline concord_status synchronize(concord_device* device, concord_stream*, concord_error* err) {
  return device ? CONCORD_OK : refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "synchronize: NULL device");
}

// A weight in its stored width, with its rows dequantised on demand.
struct StoredWeight {
  std::uint32_t dtype = 0, group = 0;
  std::size_t rows = 0, cols = 0, groups = 0;
  std::vector<std::byte> data, scales;
  std::vector<std::uint8_t> zeros;  // empty: 8 everywhere

  void assign(const concord_weight_desc& d, const WeightBytes& bytes) {
    dtype = d.dtype, group = d.group, groups = bytes.groups;
    rows = static_cast<std::size_t>(d.rows), cols = static_cast<std::size_t>(d.cols);
    const auto* p = static_cast<const std::byte*>(d.data);
    data.assign(p, p + bytes.data);
    const auto* s = static_cast<const std::byte*>(d.scales);
    if (bytes.scales) scales.assign(s, s + bytes.scales);
    if (bytes.zeros) zeros.assign(d.zeros, d.zeros + bytes.zeros);
  }
};

// Row r of a weight as numbers of type Real (double: exact; float: F64 data rounded, and the product data * scale
// rounded once).
template <class Real>
void weight_row(const StoredWeight& w, std::size_t r, Real* out) {
  const std::size_t cols = w.cols;
  if (is_float(w.dtype)) {
    const std::byte* src = w.data.data() + r * cols * dtype_bytes(w.dtype);
    if constexpr (sizeof(Real) == 8)
      load_f64(w.dtype, src, cols, out);
    else if (w.dtype == CONCORD_F64)
      for (std::size_t c = 0; c < cols; ++c) out[c] = static_cast<Real>(load_as<double>(src, c));
    else
      load_f32(w.dtype, src, cols, out);
  } else if (w.dtype == CONCORD_I8) {
    const Real scale = load_as<float>(w.scales.data(), r);
    for (std::size_t c = 0; c < cols; ++c)
      out[c] = static_cast<Real>(load_as<std::int8_t>(w.data.data(), r * cols + c)) * scale;
  } else {
    const std::size_t stride = (cols + 1) / 2;
    for (std::size_t c = 0; c < cols; ++c) {
      const auto byte = static_cast<unsigned>(w.data[r * stride + c / 2]);
      const std::size_t g = r * w.groups + c / w.group;
      const int nibble = static_cast<int>(c % 2 ? byte >> 4 : byte & 15u), zero = w.zeros.empty() ? 8 : w.zeros[g];
      out[c] =
          static_cast<Real>(nibble - zero) * static_cast<Real>(f16_to_f32(load_as<std::uint16_t>(w.scales.data(), g)));
    }
  }
}

}  // namespace concord_abi
