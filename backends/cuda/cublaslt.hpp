// NVIDIA's cuBLASLt, loaded when a device first asks for it, so that the plug-in and its portable variant work where it
// is not installed.
#pragma once
#include <string>

#include "gpu/library.hpp"

namespace CONCORD_GPU {

// Why cuBLASLt cannot be used; empty where it can. Loads it.
std::string cublaslt_missing();
// "cuBLASLt 13.1.0", or that it is not there.
std::string cublaslt_name();
concord_status open_cublaslt(concord_device& d, std::unique_ptr<Library>& library, concord_error* err);

}  // namespace CONCORD_GPU
