// The selectable devices of this backend.
#pragma once
#include <oneapi/dnnl/dnnl.hpp>

#include "kernels.hpp"
#include "processor.hpp"

namespace cpu {

struct Variant {
  const char* id;
  const char* title;
  const Kernels* kernels;
  bool onednn;  // matmul by oneDNN, limited to `isa`; else the strict tiles
  dnnl::cpu_isa isa;
  const char* isa_name;
  const char*
      own_impl;  // oneDNN implementations whose name starts like this are the variant's own; others count as fallbacks
  bool bf16_matmul;         // activations and weights are BF16, sums float32
  bool Processor::* needs;  // NULL: any x86-64
  const char* needs_name;
};

// Best first; the bf16 variant last, so that a bare "cpu" never takes it.
inline constexpr int kVariants = 4;
extern const Variant kVariantTable[kVariants];

// Empty where the variant can run here, else what is missing.
std::string missing(const Variant& variant, const Processor& processor);

}  // namespace cpu
