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
#include "weights.hpp"

namespace cpu {
struct AttentionRun {  // consecutive tokens of one sequence, with rising cache rows
  std::size_t first, count;
};
}  // namespace cpu

struct concord_weight {
  cpu::PackedWeight packed;  // cpu:onednn: its shape alone
  dnnl::memory onednn;       // cpu:onednn
  std::vector<float> plain;  // cpu:onednn: row-major copy, made by the first EMBEDDING
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

  // body(begin, end) over [0, n) items of about `cost` bytes or multiplications each, in a few pieces per thread: enough to
  // even out threads of different speed.
  template <class Body>
  void spread(std::size_t n, std::size_t cost, const Body& body) {
    constexpr std::size_t kLeast = 32768, kPieces = 8;
    if (threads == 1 || n == 1 || n * cost < 2 * kLeast) return body(std::size_t{0}, n);
    const std::size_t pieces = kPieces * static_cast<std::size_t>(threads);
    const std::size_t grain = std::max({std::size_t{1}, n / pieces, kLeast / std::max<std::size_t>(1, cost)});
    arena.execute([&] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>(0, n, grain),
                        [&](const tbb::blocked_range<std::size_t>& r) { body(r.begin(), r.end()); }, tbb::simple_partitioner());
    });
  }

  // Cleared, with room for `tokens`; for the call that runs.
  std::vector<cpu::AttentionRun>& attention_runs(std::size_t tokens) {
    runs_.clear(), runs_.reserve(tokens);
    return runs_;
  }

  const cpu::Variant& variant;
  const cpu::Kernels& kernels;
  int threads;
  tbb::task_arena arena;
  std::unique_ptr<cpu::OneDnn> onednn;  // cpu:onednn; else NULL
  cpu::WeightArena weights;
  std::vector<float> x_wide, y_wide;    // matmul operands in float32; grown, never shrunk
  std::uint64_t fallbacks = 0;

 private:
  std::vector<cpu::AttentionRun> runs_;
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
concord_status sample(Context& c);

// Prepares a description that was checked for the device.
std::unique_ptr<concord_weight> prepare_weight(concord_device& device, const concord_weight_desc& desc,
                                               const concord_abi::WeightBytes& bytes);
// Row r as float32: exact, but for I8, where the product with the scale is rounded once.
void weight_row(concord_device& device, concord_weight& weight, std::size_t r, float* out);

}  // namespace cpu
