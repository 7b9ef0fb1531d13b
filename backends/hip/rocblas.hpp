// AMD's rocBLAS behind the library interface. Only where it was found when this was built: Debian 12 does not have it.
#pragma once
#include <string>

#include "gpu/library.hpp"

namespace CONCORD_GPU {

std::string rocblas_name();  // "rocBLAS 4.0.0"
concord_status open_rocblas(concord_device& d, std::unique_ptr<Library>& library, concord_error* err);

}  // namespace CONCORD_GPU
