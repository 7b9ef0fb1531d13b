// HIP as a target of backends/gpu.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "gpu/library.hpp"
#if defined(CONCORD_GPU_ROCBLAS)
#include "rocblas.hpp"
#endif

namespace CONCORD_GPU {
namespace {

#if defined(CONCORD_GPU_ROCBLAS)
constexpr Variant kFast = {"", "rocBLAS and matrix instructions", true, true, false};
#else
constexpr Variant kFast = {"", "the shared kernels with matrix instructions", true, false, false};
#endif
constexpr Variant kVariants[] = {
    kFast, {"portable", "the shared kernels without matrix instructions or libraries", false, false, false}};

constexpr std::string_view kCompiled =
    CONCORD_GPU_TARGETS;  // "gfx90a gfx1030", with :xnack+ and the like where that was asked for

std::string_view processor(std::string_view target) {
  return target.substr(0, target.find(':'));
}  // "gfx90a" of "gfx90a:sramecc+:xnack-"
// Unlike NVIDIA's, code runs on the one processor that it was compiled for.
constexpr bool compiled_for(std::string_view here) {
  for (std::string_view rest = kCompiled; !rest.empty();
       rest.remove_prefix(std::min(rest.find(' '), rest.size() - 1) + 1)) {
    const std::string_view one = rest.substr(0, rest.find(' '));
    if (one.substr(0, one.find(':')) == here) return true;
  }
  return false;
}

// The kernel driver's number of a processor by name: 90010 is gfx90a.
std::string processor_of(unsigned long v) {
  char name[48];
  std::snprintf(name, sizeof name, "gfx%lu%lx%lx", v / 10000, v / 100 % 100, v % 100);
  return name;
}
// A GPU that there is no code for, or empty. The runtime of ROCm 5 ends the process, at its first call whatever it is,
// where it finds one; so the kernel driver is asked before. Where somebody has chosen what the runtime sees, that
// holds.
std::string without_code() {
  if (HIP_VERSION_MAJOR > 5) return "";
  for (const char* choice : {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES",
                             "GPU_DEVICE_ORDINAL", "HSA_OVERRIDE_GFX_VERSION"})
    if (std::getenv(choice)) return "";
  constexpr std::string_view kKey = "gfx_target_version ";
  std::error_code failed;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator node("/sys/class/kfd/kfd/topology/nodes", failed); !failed && node != end;
       node.increment(failed)) {
    std::ifstream in(node->path() / "properties");
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with(kKey)) continue;
      const unsigned long number = std::strtoul(line.c_str() + kKey.size(), nullptr, 10);  // 0: no GPU
      if (number != 0 && !compiled_for(processor_of(number))) return processor_of(number);
    }
  }
  return "";
}

std::string version(int v) {
  return std::to_string(v / 10000000) + "." + std::to_string(v / 100000 % 100) + "." + std::to_string(v % 100000);
}  // 50221153: 5.2.21153

// The GPUs as they were when they were first asked for: device numbers must not move while the plug-in is loaded.
struct Found {
  int count = 0;
  bool started = true;  // false: the runtime must not be called
  std::string why;      // none can be used
};
Found look() {
  Found f;
  if (const std::string gpu = without_code(); !gpu.empty())
    return f.started = false,
           f.why = "there is a " + gpu + ", which this plug-in has no code for (" + std::string(kCompiled) +
                   ") and ROCm 5 does not start with: leave it out with ROCR_VISIBLE_DEVICES, or compile for it " +
                   "(CMAKE_HIP_ARCHITECTURES)",
           f;
  const Error counted = device_count(f.count);
  (void)last_error();
  if (counted == kSuccess && f.count > 0) return f;
  f.count = 0;
  f.why = std::string("no HIP device: ") + (counted == kSuccess ? "the driver lists none" : error_text(counted)) +
          " (needs an AMD GPU, the amdgpu driver and access to /dev/kfd)";
  return f;
}
const Found& found() {
  static const Found kFound = look();
  return kFound;
}

// What the processor calls itself, or empty and *why.
std::string architecture(int gpu, std::string* why) {
  hipDeviceProp_t facts{};
  if (const Error e = hipGetDeviceProperties(&facts, gpu); e != kSuccess)
    return (void)last_error(), *why = std::string("the GPU does not answer: ") + error_text(e), "";
  return facts.gcnArchName;
}

}  // namespace

const Variant* variants(unsigned& count) { return count = std::size(kVariants), kVariants; }
int gpus() { return std::max(1, found().count); }
std::string device_id(int gpu, const Variant& v) {
  return "hip:" + std::to_string(gpu) + (*v.name ? ":" : "") + v.name;
}

concord_status describe(int gpu, Properties& p, concord_error* err) {
  hipDeviceProp_t facts{};
  if (const auto s = status_of(hipGetDeviceProperties(&facts, gpu), "hipGetDeviceProperties", err); s != CONCORD_OK)
    return s;
  int driver = 0;
  const bool known = hipDriverGetVersion(&driver) == kSuccess;
  concord_abi::set_text(p.name, facts.name[0] ? facts.name : "AMD GPU");
  concord_abi::set_text(p.architecture, facts.gcnArchName);
  concord_abi::set_text(p.driver, known ? ("HIP " + version(driver)).c_str() : "version unknown");
  p.units = static_cast<unsigned>(facts.multiProcessorCount), p.warp = static_cast<unsigned>(facts.warpSize);
  const std::string_view here = processor(p.architecture);
  p.matrix = here == "gfx90a" || here.starts_with("gfx94") || here == "gfx950";  // as tile.hpp asks the compiler
  p.shared_bytes = facts.sharedMemPerBlock, p.memory_bytes = facts.totalGlobalMem;
  return CONCORD_OK;
}

std::string unavailable(int gpu, const Variant&) {
  if (!found().why.empty()) return found().why;
  std::string why;
  const std::string here = architecture(gpu, &why);
  if (why.empty() && !compiled_for(processor(here)))
    why = "the GPU is " + here + "; this plug-in was compiled for " + std::string(kCompiled) +
          " (CMAKE_HIP_ARCHITECTURES)";
  return why;
}

// The 16-bit matrix instructions of gfx90a take subnormal inputs and outputs as zero; those of its successors do not.
std::string features(int gpu, const Variant& v) {
  std::string why;
  if (!(v.tiles || v.library) || found().count == 0) return "";
  return processor(architecture(gpu, &why)) == "gfx90a" ? "products-flushed" : "";
}
std::string libraries() {
  if (!found().started) return "HIP runtime not started";
  int runtime = 0;
  const bool known = hipRuntimeGetVersion(&runtime) == kSuccess;
  std::string s = "HIP runtime " + (known ? version(runtime) : "of unknown version");
#if defined(CONCORD_GPU_ROCBLAS)
  s += ", " + rocblas_name();
#endif
  return s;
}
const char* vendor() { return "AMD"; }
const char* build() {
  static const std::string kBuild =
      "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__) + "." +
      std::to_string(__clang_patchlevel__) + ", " + std::string(kCompiled) +
      ", fp-contract off, subnormals kept, div and sqrt correctly rounded, fma by name only";
  return kBuild.c_str();
}
concord_status open_library(concord_device& d, std::unique_ptr<Library>& library, concord_error* err) {
#if defined(CONCORD_GPU_ROCBLAS)
  return open_rocblas(d, library, err);
#else
  return (void)d, (void)library, (void)err, CONCORD_OK;
#endif
}

}  // namespace CONCORD_GPU
