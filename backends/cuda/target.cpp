// CUDA as a target of backends/gpu.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>

#include "cublaslt.hpp"

namespace CONCORD_GPU {
namespace {

constexpr Variant kVariants[] = {
    {"", "cuBLASLt and tensor cores", true, true, false},
    {"portable", "the shared kernels without tensor cores or libraries", false, false, false},
    {"tf32", "cuBLASLt and tensor cores, float32 operands cut to TF32", true, true, true}};

// What nvcc was told to compile for: 800, 900. PTX is there for the last one.
constexpr int kCompiled[] = {__CUDA_ARCH_LIST__};

// Code runs on the same major version from its minor version on; PTX on everything newer.
constexpr bool runs_on(int major, int minor) {
  const int here = major * 100 + minor * 10;
  for (const int compiled : kCompiled)
    if (compiled / 100 == major && compiled <= here) return true;
  return here >= kCompiled[std::size(kCompiled) - 1];
}

std::string version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }  // 13010: 13.1

// The GPUs as they were when they were first asked for: device numbers must not move while the plug-in is loaded.
struct Found {
  int count = 0, driver = 0;  // driver: the newest CUDA version it serves; 0: there is none
  std::string why;            // none can be used
};
Found look() {
  Found f;
  const Error driver = cudaDriverGetVersion(&f.driver), counted = device_count(f.count);
  if (driver != kSuccess) f.driver = 0;
  (void)last_error();
  if (counted == kSuccess && f.count > 0) return f;
  f.count = 0;
  if (f.driver == 0)
    f.why = "no CUDA driver: libcuda.so.1 of an NVIDIA driver is not there or does not start";
  else if (counted == cudaErrorInsufficientDriver)
    f.why =
        "the driver serves CUDA " + version(f.driver) + "; this plug-in needs " + version(CUDART_VERSION) + " or newer";
  else
    f.why = std::string("no CUDA device: ") + (counted == kSuccess ? "the driver lists none" : error_text(counted));
  return f;
}
const Found& found() {
  static const Found kFound = look();
  return kFound;
}

// "580.65.06" out of the line with which the driver's kernel module names itself.
std::string module_version() {
  std::ifstream in("/proc/driver/nvidia/version");
  for (std::string word; in >> word;)
    if (std::isdigit(static_cast<unsigned char>(word[0])) && word.find('.') != std::string::npos) return word;
  return "version unknown";
}

std::string compiled_for() {
  std::string s;
  for (const int a : kCompiled) s += (s.empty() ? "sm_" : " sm_") + std::to_string(a / 10);
  return s;
}

}  // namespace

const Variant* variants(unsigned& count) { return count = std::size(kVariants), kVariants; }
int gpus() { return std::max(1, found().count); }
std::string device_id(int gpu, const Variant& v) {
  return "cuda:" + std::to_string(gpu) + (*v.name ? ":" : "") + v.name;
}

concord_status describe(int gpu, Properties& p, concord_error* err) {
  cudaDeviceProp facts{};
  if (const auto s = status_of(cudaGetDeviceProperties(&facts, gpu), "cudaGetDeviceProperties", err); s != CONCORD_OK)
    return s;
  concord_abi::set_text(p.name, std::string(facts.name).c_str());
  concord_abi::set_text(p.architecture, ("sm_" + std::to_string(facts.major * 10 + facts.minor)).c_str());
  concord_abi::set_text(p.driver, (module_version() + ", CUDA " + version(found().driver)).c_str());
  p.units = static_cast<unsigned>(facts.multiProcessorCount), p.warp = static_cast<unsigned>(facts.warpSize);
  p.matrix = facts.major >= 8;
  p.shared_bytes = facts.sharedMemPerBlockOptin, p.memory_bytes = facts.totalGlobalMem;
  return CONCORD_OK;
}

std::string unavailable(int gpu, const Variant& v) {
  if (!found().why.empty()) return found().why;
  int major = 0, minor = 0;
  Error e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu);
  if (e == kSuccess) e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu);
  if (e != kSuccess) return (void)last_error(), std::string("the GPU does not answer: ") + error_text(e);
  if (!runs_on(major, minor))
    return "the GPU is sm_" + std::to_string(major * 10 + minor) + "; this plug-in was compiled for " + compiled_for() +
           " and newer (CMAKE_CUDA_ARCHITECTURES)";
  return v.library ? cublaslt_missing() : "";
}

std::string features(int, const Variant& v) { return v.tf32 ? "tf32" : ""; }
std::string libraries() {
  const std::string blas =
      found().count ? cublaslt_name() : "cuBLASLt not loaded";  // half a gigabyte is not mapped to name it
  return "CUDA runtime " + version(CUDART_VERSION) + ", " + blas;
}
const char* vendor() { return "NVIDIA"; }
const char* build() {
  static const std::string kBuild = "nvcc " + std::to_string(__CUDACC_VER_MAJOR__) + "." +
                                    std::to_string(__CUDACC_VER_MINOR__) + "." + std::to_string(__CUDACC_VER_BUILD__) +
                                    ", " + compiled_for() +
                                    ", fmad off, ftz off, prec-div and prec-sqrt on, no fast-math, fma by name only";
  return kBuild.c_str();
}
concord_status open_library(concord_device& d, std::unique_ptr<Library>& library, concord_error* err) {
  return open_cublaslt(d, library, err);
}

}  // namespace CONCORD_GPU
