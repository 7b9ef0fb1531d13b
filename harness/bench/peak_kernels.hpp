// The loops behind the peaks: a fixed amount of work, operands in registers, a result that the caller consumes. One per
// instruction set, chosen at run time.
#pragma once
#include <cstddef>
#include <cstdint>

namespace concord::bench {

// The instruction sets whose arithmetic peak can be measured. kSse2 has no fused multiply-add: a multiplication and an
// addition side by side.
enum class Arithmetic { kSse2, kAvx2, kAvx512, kAvx512Bf16 };
inline constexpr int kArithmetics = 4;
const char* arithmetic_name(Arithmetic a);  // "f32 AVX-512 FMA"
bool processor_has(Arithmetic a);

struct FlopsKernel {
  double flops_per_round;                                          // floating-point operations of one round
  float (*run)(std::uint64_t rounds, float factor, float addend);  // the sum of all accumulators
};
FlopsKernel flops_kernel(Arithmetic a);

// Reads `bytes` bytes of each of `count` (1 or 2) streams, side by side, in the widest registers the processor has.
// Returns the XOR of all 64-bit words (a tail shorter than 512 bytes is taken byte by byte).
std::uint64_t read_streams(const std::byte* const* streams, std::size_t count, std::size_t bytes);

}  // namespace concord::bench
