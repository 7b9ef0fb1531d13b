// The arithmetic of one variant, as loops over contiguous float32 rows. kernels_impl.hpp is compiled once per
// instruction set; everything that allocates, checks or runs in parallel stays outside, in files compiled for any
// processor.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention_tile.hpp"

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
  void (*normalise)(float* x, float centre, float scale, const float* gain, const float* shift,
                    std::size_t n);                        // shift may be NULL
  float (*exp_sum)(float* x, float shift, std::size_t n);  // x = exp(x - shift), returns the sum
  void (*divide)(float* x, float by, std::size_t n);
  void (*rotate)(float* x, const float* cos, const float* sin, std::size_t half);  // pairs (i, i + half)
  void (*add)(const float* a, const float* b, float* y, std::size_t n);
  void (*swiglu)(const float* gate, const float* up, float* y, std::size_t n);
  void (*gelu)(const float* x, float* y, std::size_t n, bool tanh_form);
  float (*quantize)(const float* x, std::size_t n, std::int8_t* out);  // a head of an int8 cache row; returns its scale
  // y = sums * scales + bias, two roundings; scales and bias may be NULL
  void (*finish)(const float* sums, const float* scales, const float* bias, std::size_t n, float* y);
  void (*attend)(const AttentionBlock& block);
};

extern const Kernels kStrictKernels, kAvx2Kernels, kAvx512Kernels;

}  // namespace cpu
