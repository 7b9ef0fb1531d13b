// The matmul of rocBLAS: sums in float32, no atomics. Written against rocBLAS's documentation; neither compiled with
// its headers nor run by us, because Debian 12 has no rocBLAS.
#include "rocblas.hpp"

#include <rocblas/rocblas.h>

#include <cstdio>

namespace CONCORD_GPU {
namespace {

using concord_abi::refuse;

constexpr std::uint64_t kWorkspace = 32ull << 20;

concord_status failed(rocblas_status s, const char* what, concord_error* err) {
  if (s == rocblas_status_memory_error)
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "rocblas: %s: %s", what, rocblas_status_to_string(s));
  if (s == rocblas_status_not_implemented)
    return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "rocblas: %s: %s", what, rocblas_status_to_string(s));
  return refuse(err, CONCORD_DEVICE_ERROR, CONCORD_WHY_NONE, "rocblas: %s: %s", what, rocblas_status_to_string(s));
}

rocblas_datatype type_of(std::uint32_t dtype) {
  return dtype == CONCORD_F16    ? rocblas_datatype_f16_r
         : dtype == CONCORD_BF16 ? rocblas_datatype_bf16_r
                                 : rocblas_datatype_f32_r;
}

class Rocblas final : public Library {
 public:
  Rocblas(concord_device& d, rocblas_handle handle) : device_(d), handle_(handle) {}
  ~Rocblas() override { rocblas_destroy_handle(handle_); }
  bool takes(std::uint32_t dtype) const override {
    return dtype == CONCORD_F32 || dtype == CONCORD_F16 || dtype == CONCORD_BF16;
  }

  // rocBLAS counts columns first: our rows are its columns. y^T [n, m] = w x^T, with w [n, k] seen as the transpose of
  // a k by n matrix.
  concord_status multiply(const Gemm& g, char* kernel, std::size_t size, concord_error* err) override {
    void* workspace = nullptr;
    if (const auto s = scratch(device_, kSlotLibrary, kWorkspace, g.stream, &workspace, err); s != CONCORD_OK) return s;
    if (g.w_pitch > INT32_MAX)
      return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE, "rocblas: rows of %lld elements",
                    static_cast<long long>(g.w_pitch));
    rocblas_status s = rocblas_set_stream(handle_, g.stream);
    if (s == rocblas_status_success) s = rocblas_set_workspace(handle_, workspace, kWorkspace);
    if (s != rocblas_status_success) return failed(s, "stream and workspace", err);
    const auto n = static_cast<rocblas_int>(g.n), m = static_cast<rocblas_int>(g.m), k = static_cast<rocblas_int>(g.k);
    const float one = 1.0f, zero = 0.0f;
    s = rocblas_gemm_ex(handle_, rocblas_operation_transpose, rocblas_operation_none, n, m, k, &one, g.w,
                        type_of(g.dtype), static_cast<rocblas_int>(g.w_pitch), g.x, type_of(g.dtype), k, &zero, g.y,
                        type_of(g.y_dtype), n, g.y, type_of(g.y_dtype), n, rocblas_datatype_f32_r,
                        rocblas_gemm_algo_standard, 0, rocblas_gemm_flags_none);
    if (s != rocblas_status_success) return failed(s, "rocblas_gemm_ex", err);
    std::snprintf(kernel, size, "matmul: %s gemm_ex standard, atomics off, ws %llu, f32 sums", rocblas_name().c_str(),
                  static_cast<unsigned long long>(kWorkspace));
    return CONCORD_OK;
  }

 private:
  concord_device& device_;
  rocblas_handle handle_;
};

}  // namespace

std::string rocblas_name() {
  char version[64] = {};
  if (rocblas_get_version_string(version, sizeof version) != rocblas_status_success)
    return "rocBLAS of unknown version";
  return std::string("rocBLAS ") + version;
}

concord_status open_rocblas(concord_device& d, std::unique_ptr<Library>& library, concord_error* err) {
  rocblas_handle handle = nullptr;
  if (const rocblas_status s = rocblas_create_handle(&handle); s != rocblas_status_success)
    return failed(s, "rocblas_create_handle", err);
  library = std::make_unique<Rocblas>(d, handle);
  const rocblas_status s = rocblas_set_atomics_mode(handle, rocblas_atomics_not_allowed);
  return s == rocblas_status_success ? CONCORD_OK : failed(s, "rocblas_set_atomics_mode", err);
}

}  // namespace CONCORD_GPU
