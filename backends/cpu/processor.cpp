#include "processor.hpp"

#include <cpuid.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace cpu {
namespace {

std::string vendor_string() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return "unknown";
  char text[13] = {};
  std::memcpy(text, &b, 4), std::memcpy(text + 4, &d, 4), std::memcpy(text + 8, &c, 4);
  return text;
}

std::string brand_string() {
  unsigned r[12] = {};
  for (unsigned i = 0; i < 3; ++i)
    if (!__get_cpuid(0x80000002u + i, r + 4 * i, r + 4 * i + 1, r + 4 * i + 2, r + 4 * i + 3))
      return "unknown processor";
  char text[49] = {};
  std::memcpy(text, r, 48);
  std::string s = text;
  s.erase(0, s.find_first_not_of(' ') == std::string::npos ? s.size() : s.find_first_not_of(' '));
  while (!s.empty() && s.back() == ' ') s.pop_back();
  return s.empty() ? "unknown processor" : s;
}

bool listed(std::string_view list, std::string_view word) {
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    if (list.substr(at, comma - at) == word) return true;
    at = comma + 1;
  }
  return false;
}

}  // namespace

Processor inspect_processor() {
  __builtin_cpu_init();  // reads CPUID and, for the vector registers, what the operating system enabled (XGETBV)
  Processor p;
  p.name = brand_string(), p.vendor = vendor_string();
  const char* set = std::getenv("CONCORD_CPU_MASK");
  const std::string_view mask = set ? set : "";
  p.masked = mask;
  p.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
           !listed(mask, "avx2");
  p.avx512 = p.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && !listed(mask, "avx512");
  p.bf16 =
      p.avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") && !listed(mask, "bf16");
  p.features = "x86-64";
  if (p.avx2) p.features += ",avx2,fma,f16c";
  if (p.avx512) p.features += ",avx512f,avx512bw,avx512vl,avx512dq";
  if (p.bf16) p.features += ",avx512_bf16";
  return p;
}

}  // namespace cpu
