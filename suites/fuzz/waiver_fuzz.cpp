// Waivers from hostile bytes: refused or read; whatever they say, they never turn anything into PASS, and never touch a case of another device.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/glob.hpp"
#include "conformance/run/waiver.hpp"

namespace cc = concord::conformance;
using concord::CaseStatus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)concord::glob_matches(text.substr(0, size / 2), text.substr(size / 2));
  const auto waivers = cc::parse_waivers(text, "fuzz");
  if (!waivers) {
    if (waivers.error().code.empty() || waivers.error().message.empty()) std::abort();
    return 0;
  }
  cc::Evidence evidence;
  evidence.outputs.resize(1);
  evidence.outputs[0].margin = 1.5;
  for (const CaseStatus status : {CaseStatus::kFail, CaseStatus::kPass, CaseStatus::kCrash, CaseStatus::kNotRun}) {
    const cc::Decision before{status, "bound", ""};
    const auto after = cc::apply_waivers(*waivers, "add/N=1,R=1,in=exact,place=0,x=f32", "cpu:avx2", evidence, before, "2026-11-21");
    if (after.decision.status != status && after.waiver.empty()) std::abort();
    if (status != CaseStatus::kPass && after.decision.status == CaseStatus::kPass) std::abort();
    if (status == CaseStatus::kNotRun && after.decision.status != status) std::abort();
  }
  return 0;
}
