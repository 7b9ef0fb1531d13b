// One open device of this backend, and its operators. Calls were checked before they come here.
#pragma once
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <memory>
#include <mutex>
#include <vector>

#include "abi/concord_host.hpp"
#include "onednn.hpp"
#include "variants.hpp"

// A packed matrix. The layout is the variant's own: [ceil(N/16)][K][16] for the strict tiles, the library's for oneDNN.
// Weights are packed in the type that is multiplied (F32; BF16 for cpu:bf16, which rounds once more); a narrower stored
// form can be added behind this handle.
struct concord_weight {
  std::size_t rows = 0, cols = 0;
  std::vector<float> tiles;      // strict
  dnnl::memory packed;           // oneDNN
  std::vector<std::byte> plain;  // row-major copy in the packed type, made by the first EMBEDDING
};

struct concord_device {
  concord_device(const cpu::Variant& v, int thread_count);

  // body(begin, end) over [0, n) in pieces of at least ~16k elements, in parallel. `row` is the elements per index.
  template <class Body>
  void parallel(std::size_t n, std::size_t row, const Body& body) {
    const std::size_t grain = std::max<std::size_t>(1, 16384 / std::max<std::size_t>(1, row));
    if (n <= grain || threads == 1) return body(std::size_t{0}, n);
    arena.execute([&] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>(0, n, grain),
                        [&](const tbb::blocked_range<std::size_t>& r) { body(r.begin(), r.end()); });
    });
  }

  const cpu::Variant& variant;
  const cpu::Kernels& kernels;
  int threads;
  tbb::task_arena arena;
  std::unique_ptr<cpu::OneDnn> onednn;  // NULL for cpu:strict
  std::vector<float> x_wide, y_wide;    // matmul operands in float32; grown, never shrunk
  std::uint64_t fallbacks = 0;
};

namespace cpu {

// Reused float scratch of the calling thread; slots 0 to 3 are independent.
float* scratch(int slot, std::size_t n);

inline std::size_t dim(const concord_tensor& t, int axis) { return static_cast<std::size_t>(t.dims[axis]); }
inline std::byte* row_of(const concord_tensor& t, std::size_t r, std::size_t width) {
  return concord_abi::bytes_of(t) + r * width * concord_abi::dtype_bytes(t.dtype);
}

struct Context {
  concord_device& device;
  const concord_call& call;
  concord_witness& witness;  // kernel and determinism, to be filled by operators that know better than the default
  concord_error* err;
};

concord_status embedding(Context& c);
concord_status rmsnorm(Context& c);
concord_status layernorm(Context& c);
concord_status matmul(Context& c);
concord_status rope(Context& c);
concord_status kv_append(Context& c);
concord_status attention(Context& c);
concord_status swiglu(Context& c);
concord_status gelu(Context& c);
concord_status add(Context& c);
concord_status softmax(Context& c);
concord_status topk_routing(Context& c);
concord_status argmax(Context& c);

// Packs a stored weight for the device.
std::unique_ptr<concord_weight> pack_weight(concord_device& device, const concord_abi::StoredWeight& stored);
// Row r as float32, exact.
void weight_row(concord_device& device, concord_weight& weight, std::size_t r, float* out);

}  // namespace cpu
