#include "variants.hpp"

namespace cpu {

const Variant kVariantTable[kVariants] = {
    {"cpu:avx512", "AVX-512", &kAvx512Kernels, &kAvx512Tiles, &kAvx512Tiles, "avx512", false, &Processor::avx512,
     "AVX-512 (F, BW, VL, DQ)"},
    {"cpu:avx2", "AVX2", &kAvx2Kernels, &kAvx2Tiles, &kAvx2Tiles, "avx2", false, &Processor::avx2, "AVX2, FMA and F16C"},
    {"cpu:strict", "sequential float32 sums, no FMA", &kStrictKernels, &kStrictTiles, &kStrictTiles, "x86-64", false,
     nullptr, ""},
    {"cpu:onednn", "AVX2, matmul by oneDNN", &kAvx2Kernels, nullptr, &kAvx2Tiles, "avx2", false, &Processor::avx2,
     "AVX2, FMA and F16C"},
    {"cpu:bf16", "bf16 dot products", &kAvx512Kernels, &kBf16Tiles, &kAvx512Tiles, "avx512_bf16", true, &Processor::bf16,
     "AVX512_BF16 and AVX512_VBMI"},
};

std::string missing(const Variant& variant, const Processor& processor) {
  if (!variant.needs || processor.*variant.needs) return "";
  std::string text =
      std::string("the processor (") + processor.name + ") or the operating system lacks " + variant.needs_name;
  if (!processor.masked.empty()) text += "; CONCORD_CPU_MASK=" + processor.masked + " hides features";
  return text;
}

}  // namespace cpu
