// backends/gpu/runtime.hpp for CUDA and HIP, whose names differ in their first letters. Sources without kernels may be compiled by an ordinary C++ compiler, four times as fast: they
// see the host's side alone.
#pragma once
#if defined(CONCORD_GPU_HIP)
#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>
#define GPU_API(name) hip##name
#else
#include <cuda_runtime_api.h>
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#define GPU_HOST_ONLY  // not nvcc
#endif
#define GPU_API(name) cuda##name
#endif

#define GPU_KERNEL __global__ void
#define GPU_DEVICE __device__ __forceinline__
#define GPU_BOTH __host__ __device__ inline
#define GPU_BOUNDS(threads) __launch_bounds__(threads)
#define GPU_SHARED(type, name) \
  using name##_type = type;    \
  __shared__ name##_type name
#define GPU_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define GPU_LAUNCH(kernel, grid_x, grid_y, threads, shared_bytes, stream, ...) \
  (kernel<<<dim3(grid_x, grid_y), threads, shared_bytes, stream>>>(__VA_ARGS__), GPU_API(GetLastError)())

namespace CONCORD_GPU {

using Error = GPU_API(Error_t);
using Stream = GPU_API(Stream_t);
using Event = GPU_API(Event_t);
inline constexpr Error kSuccess = GPU_API(Success);
inline const char* error_text(Error e) { return GPU_API(GetErrorString)(e); }

#if defined(CONCORD_GPU_HIP)
inline constexpr const char* kTarget = "hip";
inline bool out_of_memory(Error e) { return e == hipErrorOutOfMemory; }
inline Error allocate_host(void** p, std::size_t bytes) { return hipHostMalloc(p, bytes, 0); }
inline Error release_host(void* p) { return hipHostFree(p); }
#else
inline constexpr const char* kTarget = "cuda";
inline bool out_of_memory(Error e) { return e == cudaErrorMemoryAllocation; }
inline Error allocate_host(void** p, std::size_t bytes) { return cudaMallocHost(p, bytes); }
inline Error release_host(void* p) { return cudaFreeHost(p); }
#endif

inline Error device_count(int& n) { return n = 0, GPU_API(GetDeviceCount)(&n); }  // leaves n untouched where there is no driver
inline Error use_device(int i) { return GPU_API(SetDevice)(i); }
inline Error allocate(void** p, std::size_t bytes) { return GPU_API(Malloc)(p, bytes); }
inline Error release(void* p) { return GPU_API(Free)(p); }
inline Error clear(void* p, std::size_t bytes, Stream s) { return GPU_API(MemsetAsync)(p, 0, bytes, s); }
inline Error copy_in(void* to, const void* from, std::size_t bytes, Stream s) {
  return GPU_API(MemcpyAsync)(to, from, bytes, GPU_API(MemcpyHostToDevice), s);
}
inline Error copy_out(void* to, const void* from, std::size_t bytes, Stream s) {
  return GPU_API(MemcpyAsync)(to, from, bytes, GPU_API(MemcpyDeviceToHost), s);
}
inline Error copy_within(void* to, const void* from, std::size_t bytes, Stream s) {
  return GPU_API(MemcpyAsync)(to, from, bytes, GPU_API(MemcpyDeviceToDevice), s);
}
inline Error create_stream(Stream* s) { return GPU_API(StreamCreateWithFlags)(s, GPU_API(StreamNonBlocking)); }
inline Error destroy_stream(Stream s) { return GPU_API(StreamDestroy)(s); }
inline Error wait_stream(Stream s) { return GPU_API(StreamSynchronize)(s); }
inline Error wait_device() { return GPU_API(DeviceSynchronize)(); }  // all streams
inline Error create_event(Event* e) { return GPU_API(EventCreateWithFlags)(e, GPU_API(EventDisableTiming)); }
inline Error destroy_event(Event e) { return GPU_API(EventDestroy)(e); }
inline Error record(Event e, Stream s) { return GPU_API(EventRecord)(e, s); }
inline Error wait_event(Event e) { return GPU_API(EventSynchronize)(e); }
inline Error stream_waits(Stream s, Event e) { return GPU_API(StreamWaitEvent)(s, e, 0); }
inline Error last_error() { return GPU_API(GetLastError)(); }
// Lets a kernel have more dynamic shared memory than the 48 KiB that need no asking.
template <class Kernel>
Error allow_shared(Kernel* kernel, std::size_t bytes) {
  return GPU_API(FuncSetAttribute)(reinterpret_cast<const void*>(kernel), GPU_API(FuncAttributeMaxDynamicSharedMemorySize), static_cast<int>(bytes));
}

#if !defined(GPU_HOST_ONLY)
GPU_DEVICE unsigned thread() { return threadIdx.x; }
GPU_DEVICE unsigned threads() { return blockDim.x; }
GPU_DEVICE unsigned block() { return blockIdx.x; }
GPU_DEVICE unsigned block_y() { return blockIdx.y; }
GPU_DEVICE unsigned blocks() { return gridDim.x; }
GPU_DEVICE void sync() { __syncthreads(); }
// "Who was first": the flag takes the value if it was 0. Not for sums; no sum here is made with atomics.
GPU_DEVICE bool claim(unsigned* flag, unsigned value) { return atomicCAS(flag, 0u, value) == 0u; }

#if defined(CONCORD_GPU_HIP)
GPU_DEVICE unsigned warp_width() { return warpSize; }
template <class T>
GPU_DEVICE T exchange_xor(T v, unsigned mask) {
  return __shfl_xor(v, static_cast<int>(mask));
}
template <class T>
GPU_DEVICE T exchange_from(T v, unsigned lane) {
  return __shfl(v, static_cast<int>(lane));
}
GPU_DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
GPU_DEVICE unsigned warp_width() { return 32; }
template <class T>
GPU_DEVICE T exchange_xor(T v, unsigned mask) {
  return __shfl_xor_sync(0xffffffffu, v, static_cast<int>(mask));
}
template <class T>
GPU_DEVICE T exchange_from(T v, unsigned lane) {
  return __shfl_sync(0xffffffffu, v, static_cast<int>(lane));
}
GPU_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
#endif
#endif  // GPU_HOST_ONLY

}  // namespace CONCORD_GPU
