// The vendor's matmul behind one interface: cuBLASLt, hipBLASLt or rocBLAS. What it cannot do exactly as the ABI says (other types, scales, fused operators) is for the
// shared kernels, by a rule that depends on types alone, so that it is no fallback.
#pragma once
#include "gpu/device.hpp"

namespace CONCORD_GPU {

// y [m, n] = x [m, k] w^T, w [n, k] with rows every w_pitch elements; x and w of one dtype; sums in float32; y of that dtype or F32, rounded once.
struct Gemm {
  const void* x;
  const void* w;
  void* y;
  std::int64_t m, n, k, w_pitch;
  std::uint32_t dtype, y_dtype;
  Stream stream;
};

class Library {
 public:
  virtual ~Library() = default;
  virtual bool takes(std::uint32_t dtype) const = 0;
  // `kernel` [size]: the witness, "matmul: ", then library, version, algorithm, split and workspace.
  virtual concord_status multiply(const Gemm& gemm, char* kernel, std::size_t size, concord_error* err) = 0;
};

}  // namespace CONCORD_GPU
