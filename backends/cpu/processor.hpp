// What this processor can do, and what CONCORD_CPU_MASK hides of it.
#pragma once
#include <string>

namespace cpu {

struct Processor {
  std::string name, vendor;
  // Instruction sets that the processor has and the operating system saves, less the masked ones.
  bool avx2 = false;     // AVX2, FMA and F16C together
  bool avx512 = false;   // AVX-512 F, BW, VL and DQ together
  bool bf16 = false;     // AVX512_BF16 (the dot product of bf16 pairs)
  std::string features;  // names separated by commas
  std::string masked;    // what CONCORD_CPU_MASK hides, for messages
};

// CONCORD_CPU_MASK=avx512,bf16 hides features, so that a refusal can be seen on any machine. Names: avx2, avx512, bf16.
// Hiding one hides what builds on it.
Processor inspect_processor();

}  // namespace cpu
