// One name for what CUDA, HIP and the emulation on the CPU call differently: the only header through which device code sees its target. Everything else in backends/gpu is
// written against these names and compiled once per target, in that target's namespace.
//
// Device side (GPU_KERNEL and GPU_DEVICE functions)
//   thread(), threads(), block(), block_y(), blocks()   indices along x, and the block's along y; blocks have one dimension, a whole number of warps
//   warp_width()                                         32 or 64: never assume which; lane() and warp() follow from it
//   sync()                                               barrier of the block: every thread of it must arrive
//   exchange_xor(v, mask), exchange_from(v, lane)        shuffles within a warp: every lane of it must arrive
//   GPU_SHARED(type, name)                               memory of the block, for example GPU_SHARED(float[32][33], tile)
//   GPU_DYNAMIC_SHARED(name)                             unsigned char name[], 16-byte aligned, of the size given at the launch
//   fused(a, b, c)                                       a * b + c with one rounding. Contraction is off for every target: only this fuses
//   claim(flag, value)                                   the one atomic, for "who reports first"
// Host side
//   GPU_LAUNCH(kernel, grid_x, grid_y, threads, shared_bytes, stream, arguments...)   gives an Error; a kernel with commas in its name stands in parentheses
//   Error, kSuccess, error_text(), out_of_memory(); Stream, Event; allocate(), copy_in(), ... as in runtime_device.hpp
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(CONCORD_GPU_EMULATED)
#define CONCORD_GPU concord_gpu_emulated
#include "gpu/emulated/runtime_emulated.hpp"
#elif defined(CONCORD_GPU_HIP)
#define CONCORD_GPU concord_gpu_hip
#include "gpu/runtime_device.hpp"
#elif defined(CONCORD_GPU_CUDA)
#define CONCORD_GPU concord_gpu_cuda
#include "gpu/runtime_device.hpp"
#else
#error "define CONCORD_GPU_CUDA, CONCORD_GPU_HIP or CONCORD_GPU_EMULATED"
#endif

namespace CONCORD_GPU {

#if !defined(GPU_HOST_ONLY)
GPU_DEVICE unsigned lane() { return thread() % warp_width(); }
GPU_DEVICE unsigned warp() { return thread() / warp_width(); }
#endif

// What a device is, as far as kernels and their launches need to know.
struct Properties {
  char name[128] = {}, architecture[64] = {}, driver[64] = {};
  unsigned units = 0, warp = 32;
  bool matrix = false;           // whether it has matrix instructions for 16-bit numbers
  std::size_t shared_bytes = 0;  // most dynamic shared memory of a block
  std::uint64_t memory_bytes = 0;
};

}  // namespace CONCORD_GPU
