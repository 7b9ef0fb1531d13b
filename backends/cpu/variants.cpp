#include "variants.hpp"

namespace cpu {

const Variant kVariantTable[kVariants] = {
    {"cpu:avx512", "AVX-512, oneDNN matmul", &kAvx512Kernels, true, dnnl::cpu_isa::avx512_core, "avx512_core",
     "brg:avx512_core", false, &Processor::avx512, "AVX-512 (F, BW, VL, DQ)"},
    {"cpu:avx2", "AVX2, oneDNN matmul", &kAvx2Kernels, true, dnnl::cpu_isa::avx2, "avx2", "gemm:jit", false,
     &Processor::avx2, "AVX2, FMA and F16C"},
    {"cpu:strict", "sequential float32 sums, no FMA", &kStrictKernels, false, dnnl::cpu_isa::all, "x86-64", "", false,
     nullptr, ""},
    {"cpu:bf16", "bf16 dot products, oneDNN matmul", &kAvx512Kernels, true, dnnl::cpu_isa::avx512_core_bf16,
     "avx512_core_bf16", "brg:avx512_core_bf16", true, &Processor::bf16, "AVX512_BF16"},
};

std::string missing(const Variant& variant, const Processor& processor) {
  if (!variant.needs || processor.*variant.needs) return "";
  std::string text =
      std::string("the processor (") + processor.name + ") or the operating system lacks " + variant.needs_name;
  if (!processor.masked.empty()) text += "; CONCORD_CPU_MASK=" + processor.masked + " hides features";
  return text;
}

}  // namespace cpu
