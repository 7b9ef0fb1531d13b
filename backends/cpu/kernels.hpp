// The arithmetic of one variant, as loops over contiguous float32 rows. kernels_impl.hpp is compiled once per
// instruction set; everything that allocates, checks or runs in parallel stays outside, in files compiled for any
// processor.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cpu {

// All sums run in `lanes` partial sums (element i goes to lane i % lanes, in index order) that are added in a fixed
// binary tree; one lane is the plain sequential sum. n is any length; pointers need no alignment.
struct Kernels {
  const char* name;                                                               // "avx2 8 lanes fma"
  void (*load)(std::uint32_t dtype, const void* src, std::size_t n, float* out);  // exact widening
  void (*store)(std::uint32_t dtype, const float* in, std::size_t n, void* out);  // one rounding
  float (*max)(const float* x, std::size_t n);                                    // NaN if any is NaN
  float (*sum)(const float* x, std::size_t n);
  float (*sum_squares)(const float* x, float centre, std::size_t n);  // sum of (x - centre)^2
  float (*dot)(const float* a, const float* b, std::size_t n);
  void (*axpy)(float a, const float* x, float* y, std::size_t n);  // y += a x
  void (*normalise)(float* x, float centre, float scale, const float* gain, const float* shift,
                    std::size_t n);                        // shift may be NULL
  float (*exp_sum)(float* x, float shift, std::size_t n);  // x = exp(x - shift), returns the sum
  void (*divide)(float* x, float by, std::size_t n);
  void (*rotate)(float* x, const float* cos, const float* sin, std::size_t half);  // pairs (i, i + half)
  void (*add)(const float* a, const float* b, float* y, std::size_t n);
  void (*swiglu)(const float* gate, const float* up, float* y, std::size_t n);
  void (*gelu)(const float* x, float* y, std::size_t n, bool tanh_form);
};

extern const Kernels kStrictKernels, kAvx2Kernels, kAvx512Kernels;

// y[t][0..16) = sum over k of x[t][k] * w[k][0..16), in the order of k, each product rounded before it is added.
// x has row stride k, y has row stride y_stride; `tokens` is 1 to 2.
void strict_tile(const float* x, const float* w, std::size_t tokens, std::size_t k, float* y, std::size_t y_stride);
inline constexpr std::size_t kStrictWidth = 16, kStrictTokens = 2;

}  // namespace cpu
