// The operators of the reference device. Every value is widened exactly to double, computed in double, and rounded once
// on store. Long sums are compensated (Neumaier 1974, in the branch-free form of Knuth's TwoSum), so that the error of
// a sum of n terms is about 2u|sum| + n^2 u^2 sum|terms| instead of n u sum|terms|. Calls were checked before they come
// here.
#pragma once
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <memory>

#include "abi/concord_host.hpp"

struct concord_weight {
  concord_abi::StoredWeight stored;
};

struct concord_device {
  explicit concord_device(int threads) : arena(threads) {}
  tbb::task_arena arena;
};

namespace reference {

// Sum with its running error: value() is high + low.
struct Sum {
  double high = 0, low = 0;
  void add(double x) {
    const double s = high + x, part = s - high;
    low += (high - (s - part)) + (x - part);
    high = s;
  }
  double value() const {
    return std::isfinite(high) ? high + low : high;
  }  // inf - inf in the error must not hide an infinity
};

// Computed in the calling thread's arena. Throws where SHA-256 fails.
void weight_digest(const concord_abi::StoredWeight& weight, std::uint8_t digest[32]);

// body(i) for i in [0, n), in parallel: outputs are independent, so the result does not depend on the threads.
template <class Body>
void for_each(std::size_t n, const Body& body) {
  tbb::parallel_for(std::size_t{0}, n, [&](std::size_t i) { body(i); });
}

// Row r of a [rows, cols] tensor as doubles.
inline void load_row(const concord_tensor& t, std::size_t r, std::size_t cols, double* out) {
  concord_abi::load_f64(t.dtype, concord_abi::bytes_of(t) + r * cols * concord_abi::dtype_bytes(t.dtype), cols, out);
}
inline void store_row(const concord_tensor& t, std::size_t r, std::size_t cols, const double* in) {
  concord_abi::store_f64(t.dtype, in, cols, concord_abi::bytes_of(t) + r * cols * concord_abi::dtype_bytes(t.dtype));
}
inline std::vector<double> load_all(const concord_tensor& t) {
  std::vector<double> v(concord_abi::element_count(t));
  load_row(t, 0, v.size(), v.data());
  return v;
}
inline std::size_t dim(const concord_tensor& t, int axis) { return static_cast<std::size_t>(t.dims[axis]); }

using Op = concord_status (*)(const concord_call& call, concord_error* err);
concord_status embedding(const concord_call& call, concord_error* err);
concord_status rmsnorm(const concord_call& call, concord_error* err);
concord_status layernorm(const concord_call& call, concord_error* err);
concord_status matmul(const concord_call& call, concord_error* err);
concord_status rope(const concord_call& call, concord_error* err);
concord_status kv_append(const concord_call& call, concord_error* err);
concord_status attention(const concord_call& call, concord_error* err);
concord_status swiglu(const concord_call& call, concord_error* err);
concord_status gelu(const concord_call& call, concord_error* err);
concord_status add(const concord_call& call, concord_error* err);
concord_status softmax(const concord_call& call, concord_error* err);
concord_status topk_routing(const concord_call& call, concord_error* err);
concord_status argmax(const concord_call& call, concord_error* err);
concord_status sample(const concord_call& call, concord_error* err);

}  // namespace reference
