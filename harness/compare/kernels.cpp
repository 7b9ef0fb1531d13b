// Which instruction set the comparison runs on.
#include "compare/kernels.hpp"

#include <cstdlib>

namespace concord::detail {
namespace {

#ifdef CONCORD_COMPARE_X86
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

constexpr struct {
  Isa isa;
  std::string_view name;
} kIsas[]{{Isa::kAvx512, "avx512"}, {Isa::kAvx2, "avx2"}, {Isa::kPortable, "portable"}};

}  // namespace

bool available(Isa isa) {
#ifdef CONCORD_COMPARE_X86
  if (isa == Isa::kAvx512) return has_avx512();
  if (isa == Isa::kAvx2) return has_avx2();
#endif
  return isa == Isa::kPortable;
}

Isa best_isa() {
  static const Isa kBest = [] {
    const char* wanted = std::getenv("CONCORD_COMPARE_ISA");
    for (const auto& entry : kIsas)
      if (wanted && wanted == entry.name && available(entry.isa)) return entry.isa;
    for (const auto& entry : kIsas)
      if (available(entry.isa)) return entry.isa;
    return Isa::kPortable;
  }();
  return kBest;
}

const Kernels& kernels(Isa isa) {
#ifdef CONCORD_COMPARE_X86
  if (isa == Isa::kAvx512) return kKernelsAvx512;
  if (isa == Isa::kAvx2) return kKernelsAvx2;
#endif
  (void)isa;
  return kKernelsPortable;
}

}  // namespace concord::detail
