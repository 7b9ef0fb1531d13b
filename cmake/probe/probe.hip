// What a compiler must be able to do before its backend is built (cmake/ConcordDevices.cmake).
#include <hip/hip_bfloat16.h>
#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>

#include <concepts>

template <std::integral T>
__global__ void probe(T* p) {
  p[threadIdx.x] = __shfl_xor(p[threadIdx.x], 1);
}
hipError_t launch(int* p) {
  probe<<<1, 64>>>(p);
  return hipGetLastError();
}
