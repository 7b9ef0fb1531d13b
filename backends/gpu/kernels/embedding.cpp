// Rows of a table, widened as the ABI says and rounded once.
#include "gpu/kernels/rows.hpp"

namespace CONCORD_GPU {
namespace {

struct Table {
  std::uint32_t dtype, group;
  std::int64_t rows, cols, groups;
  std::uint64_t pitch;
  const std::byte *data, *scales;
  const std::uint8_t* zeros;
};

// Column c of a quantised row. The product of a nibble and an F16 scale is exact in float, that of a byte and an F32
// scale is rounded once.
GPU_DEVICE float quantised(const Table& w, std::uint64_t row, std::uint64_t c) {
  const std::byte* bytes = w.data + row * w.pitch;
  if (w.dtype == CONCORD_I8)
    return to_float(reinterpret_cast<const std::int8_t*>(bytes)[c]) * reinterpret_cast<const float*>(w.scales)[row];
  const std::uint64_t g = row * w.groups + c / w.group;
  const unsigned nibble = reinterpret_cast<const std::uint8_t*>(bytes)[c / 2] >> (c % 2 * 4) & 15u;
  const int zero = w.zeros ? w.zeros[g] : 8;
  return static_cast<float>(static_cast<int>(nibble) - zero) * to_float(reinterpret_cast<const F16*>(w.scales)[g]);
}

template <unsigned kCount>
GPU_DEVICE void load_columns(const Table& w, std::uint64_t row, std::uint64_t from, std::uint64_t left,
                             float (&v)[kCount]) {
  const std::byte* bytes = w.data + row * w.pitch;
  switch (w.dtype) {
    case CONCORD_F32:
      load_values(reinterpret_cast<const float*>(bytes) + from, left, v);
      return;
    case CONCORD_F16:
      load_values(reinterpret_cast<const F16*>(bytes) + from, left, v);
      return;
    case CONCORD_BF16:
      load_values(reinterpret_cast<const BF16*>(bytes) + from, left, v);
      return;
    default:
      for (unsigned j = 0; j < kCount; ++j) v[j] = j < left ? quantised(w, row, from + j) : 0.0f;
  }
}

// One block per token.
template <class T>
GPU_KERNEL GPU_BOUNDS(256) gather(Table w, const std::int32_t* ids, T* y, unsigned tokens, Fault* fault) {
  constexpr unsigned kCount = 8;
  for (std::uint64_t t = block(); t < tokens; t += blocks()) {
    const std::int32_t id = ids[t];
    if (id < 0 || id >= w.rows) {
      if (thread() == 0) report(fault, CONCORD_OP_EMBEDDING, 0, t, id, w.rows);
      continue;
    }
    for (std::int64_t i = thread() * kCount; i < w.cols; i += threads() * kCount) {
      const std::uint64_t from = static_cast<std::uint64_t>(i), left = static_cast<std::uint64_t>(w.cols - i);
      float v[kCount];
      load_columns(w, static_cast<std::uint64_t>(id), from, left, v);
      store_values(v, y + t * static_cast<std::uint64_t>(w.cols) + from, left);
    }
  }
}

}  // namespace

concord_status embedding(Context& c) {
  const concord_weight& w = *c.call.weight;
  const Table table{w.dtype, w.group, w.rows, w.cols, w.groups, w.pitch, w.data, w.scales, w.zeros};
  const concord_tensor& ids = c.call.in[0];
  const unsigned tokens = dim(ids, 0), threads = block_size(c, ceil_div(static_cast<std::uint64_t>(w.cols), 8), 256);
  return on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return c.done(GPU_LAUNCH(gather<T>, grid_size(tokens), 1, threads, 0, c.stream, table,
                             data<const std::int32_t>(ids), data<T>(c.call.out[0]), tokens, c.device.fault));
  });
}

}  // namespace CONCORD_GPU
