// What a compiler must be able to do before its backend is built (cmake/ConcordDevices.cmake).
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <concepts>

template <std::integral T>
__global__ void probe(T* p) {
  p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, p[threadIdx.x], 1);
}
cudaError_t launch(int* p) {
  probe<<<1, 32>>>(p);
  return cudaGetLastError();
}
