// The emulation as a target of backends/gpu: two "GPUs", with warps of 32 and of 64 lanes.
#include <cstdlib>
#include <cstring>

#include "gpu/library.hpp"

namespace CONCORD_GPU {
namespace {

constexpr Variant kVariants[] = {{"", "kernels without matrix instructions", false, false, false}, {"tiles", "kernels for matrix instructions", true, false, false}};
constexpr unsigned kWidths[] = {32, 64};

// CONCORD_EMULATED_ORDER: forward, backward, or a number that seeds a shuffle.
void read_order() {
  const char* text = std::getenv("CONCORD_EMULATED_ORDER");
  if (!text || std::strcmp(text, "forward") == 0) return set_order(Order::kForward);
  if (std::strcmp(text, "backward") == 0) return set_order(Order::kBackward);
  set_order(Order::kShuffled, std::strtoull(text, nullptr, 10));
}

}  // namespace

Error use_device(int i) {
  static const bool ordered = (read_order(), true);  // once per process: a shuffle goes on from launch to launch
  (void)ordered;
  width = kWidths[i];
  return kSuccess;
}

const Variant* variants(unsigned& count) { return count = 2, kVariants; }
int gpus() { return 2; }
std::string device_id(int gpu, const Variant& v) { return std::string(*v.name ? "gpu:tiles" : "gpu:emulated") + (gpu ? "64" : ""); }
concord_status describe(int gpu, Properties& p, concord_error*) {
  concord_abi::set_text(p.name, "emulated GPU");
  concord_abi::set_text(p.architecture, gpu ? "fibers, warps of 64" : "fibers, warps of 32");
  concord_abi::set_text(p.driver, "none");
  p.units = 1, p.warp = kWidths[gpu], p.matrix = true, p.shared_bytes = gpu ? 64u << 10 : 96u << 10, p.memory_bytes = std::uint64_t{8} << 30;
  return CONCORD_OK;
}
std::string unavailable(int, const Variant&) { return __builtin_cpu_supports("fma") ? "" : "the processor has no fused multiply-add, which the emulation is compiled for"; }
std::string features(int, const Variant&) { return ""; }
std::string libraries() { return "Boost.Context"; }
const char* vendor() { return "none (emulation on the CPU, for tests)"; }
const char* build() { return "C++ " __VERSION__ ", -mfma -ffp-contract=off, no fast-math, fma by name only"; }
concord_status open_library(concord_device&, std::unique_ptr<Library>&, concord_error*) { return CONCORD_OK; }

}  // namespace CONCORD_GPU
