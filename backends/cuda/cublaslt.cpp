// The matmul of cuBLASLt. Sums in float32; no TF32 but in the variant of that name; no partial sum is rounded to the
// output's type; nothing is added with atomics.
#include "cublaslt.hpp"

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <tuple>

namespace CONCORD_GPU {
namespace {

using concord_abi::refuse;

#define CONCORD_QUOTE_(x) #x
#define CONCORD_QUOTE(x) CONCORD_QUOTE_(x)
constexpr const char* kFile = "libcublasLt.so." CONCORD_QUOTE(CUBLAS_VER_MAJOR);
constexpr std::uint64_t kWorkspace =
    32ull << 20;  // the same for every shape: which algorithms fit is then part of the build, not of the day
constexpr std::size_t kPlans = 1024;  // shapes remembered; then all are chosen again, which gives the same ones

// Every function used, under its own name.
#define CONCORD_CUBLASLT_FUNCTIONS(X)                                                                                  \
  X(cublasLtCreate)                                                                                                    \
  X(cublasLtDestroy)                                                                                                   \
  X(cublasLtGetVersion) X(cublasLtGetStatusName) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy)              \
      X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy)                   \
          X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute) \
              X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulAlgoConfigGetAttribute) X(cublasLtMatmul)

struct Functions {
#define CONCORD_MEMBER(name) decltype(&::name) name = nullptr;
  CONCORD_CUBLASLT_FUNCTIONS(CONCORD_MEMBER)
#undef CONCORD_MEMBER
  std::string missing;  // why it cannot be used
};

Functions load() {
  Functions f;
  void* library = ::dlopen(kFile, RTLD_LAZY | RTLD_LOCAL);
  if (!library) {
    const char* why = ::dlerror();
    return f.missing = std::string("cuBLASLt cannot be loaded: ") + (why ? why : kFile) +
                       "; the portable variant does without it",
           f;
  }
#define CONCORD_FIND(name)                                               \
  f.name = reinterpret_cast<decltype(&::name)>(::dlsym(library, #name)); \
  if (!f.name) f.missing = std::string(kFile) + " has no " #name;
  CONCORD_CUBLASLT_FUNCTIONS(CONCORD_FIND)
#undef CONCORD_FIND
  return f;
}
const Functions& lt() {
  static const Functions kFunctions = load();
  return kFunctions;
}

concord_status failed(cublasStatus_t s, const char* what, concord_error* err) {
  const char* name = lt().cublasLtGetStatusName(s);
  if (s == CUBLAS_STATUS_ALLOC_FAILED)
    return refuse(err, CONCORD_OUT_OF_MEMORY, CONCORD_WHY_MEMORY, "cublaslt: %s: %s", what, name);
  return refuse(err, CONCORD_DEVICE_ERROR, CONCORD_WHY_NONE, "cublaslt: %s: %s (status %d)", what, name,
                static_cast<int>(s));
}

// Handles that end with their owner.
struct End {
  void operator()(cublasLtMatmulDesc_t p) const { lt().cublasLtMatmulDescDestroy(p); }
  void operator()(cublasLtMatrixLayout_t p) const { lt().cublasLtMatrixLayoutDestroy(p); }
  void operator()(cublasLtMatmulPreference_t p) const { lt().cublasLtMatmulPreferenceDestroy(p); }
};
using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, End>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, End>;
using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, End>;

cudaDataType_t type_of(std::uint32_t dtype) {
  return dtype == CONCORD_F16 ? CUDA_R_16F : dtype == CONCORD_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}
// What an address is a multiple of, as far as algorithms ask.
std::uint32_t alignment(const void* p) {
  const auto a = reinterpret_cast<std::uintptr_t>(p) | 256u;
  return static_cast<std::uint32_t>(a & (~a + 1u));
}

// All that the choice of an algorithm may depend on.
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::uint32_t, std::uint32_t,
                       std::uint32_t, std::uint32_t, std::uint32_t>;
Key key_of(const Gemm& g) {
  return {g.m, g.n, g.k, g.w_pitch, g.dtype, g.y_dtype, alignment(g.w), alignment(g.x), alignment(g.y)};
}

// A shape, ready to run.
struct Plan {
  Operation operation;
  Layout w, x, y;
  cublasLtMatmulAlgo_t algorithm{};
  char text[112] = {};  // the witness
};

class CublasLt final : public Library {
 public:
  CublasLt(concord_device& d, cublasLtHandle_t handle) : device_(d), handle_(handle) {}
  ~CublasLt() override { plans_.clear(), lt().cublasLtDestroy(handle_); }
  bool takes(std::uint32_t dtype) const override {
    return dtype == CONCORD_F32 || dtype == CONCORD_F16 || dtype == CONCORD_BF16;
  }
  concord_status multiply(const Gemm& g, char* kernel, std::size_t size, concord_error* err) override;

 private:
  cublasComputeType_t compute_type(std::uint32_t dtype) const;
  concord_status describe(const Gemm& g, Plan& plan, concord_error* err) const;
  concord_status prefer(const Gemm& g, Preference& preference, concord_error* err) const;
  concord_status choose(const Gemm& g, Plan& plan, concord_error* err) const;
  concord_status plan_of(const Gemm& g, const Plan*& plan, concord_error* err);
  void name(const Gemm& g, std::size_t workspace, Plan& plan) const;

  concord_device& device_;
  cublasLtHandle_t handle_;
  std::map<Key, Plan> plans_;
};

// Products of 16-bit numbers are exact in float32. PEDANTIC for float32 operands: neither TF32 nor sums of bfloat16 in
// their place.
cublasComputeType_t CublasLt::compute_type(std::uint32_t dtype) const {
  if (dtype != CONCORD_F32) return CUBLAS_COMPUTE_32F;
  return device_.variant.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
}

// cuBLASLt counts columns first: our rows are its columns. y^T [n, m] = w x^T, with w [n, k] seen as the transpose of a
// k by n matrix.
concord_status CublasLt::describe(const Gemm& g, Plan& plan, concord_error* err) const {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasStatus_t s = lt().cublasLtMatmulDescCreate(&operation, compute_type(g.dtype), CUDA_R_32F);
  if (s != CUBLAS_STATUS_SUCCESS) return failed(s, "cublasLtMatmulDescCreate", err);
  plan.operation.reset(operation);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  s = lt().cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
  if (s != CUBLAS_STATUS_SUCCESS) return failed(s, "cublasLtMatmulDescSetAttribute", err);
  const struct {
    Layout& layout;
    std::uint32_t dtype;
    std::int64_t rows, cols, pitch;
  } layouts[] = {
      {plan.w, g.dtype, g.k, g.n, g.w_pitch}, {plan.x, g.dtype, g.k, g.m, g.k}, {plan.y, g.y_dtype, g.n, g.m, g.n}};
  for (const auto& l : layouts) {
    cublasLtMatrixLayout_t layout = nullptr;
    s = lt().cublasLtMatrixLayoutCreate(&layout, type_of(l.dtype), static_cast<std::uint64_t>(l.rows),
                                        static_cast<std::uint64_t>(l.cols), l.pitch);
    if (s != CUBLAS_STATUS_SUCCESS) return failed(s, "cublasLtMatrixLayoutCreate", err);
    l.layout.reset(layout);
  }
  return CONCORD_OK;
}

concord_status CublasLt::prefer(const Gemm& g, Preference& preference, concord_error* err) const {
  cublasLtMatmulPreference_t made = nullptr;
  cublasStatus_t s = lt().cublasLtMatmulPreferenceCreate(&made);
  if (s != CUBLAS_STATUS_SUCCESS) return failed(s, "cublasLtMatmulPreferenceCreate", err);
  preference.reset(made);
  // Split sums are added in float32, in a step of their own. In place would mean in the output's type, and that type
  // rounds.
  const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, w = alignment(g.w), x = alignment(g.x),
                      y = alignment(g.y);
  const struct {
    cublasLtMatmulPreferenceAttributes_t attribute;
    const void* value;
    std::size_t size;
  } settings[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace},
                  {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &w, sizeof w},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &x, sizeof x},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y, sizeof y},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y, sizeof y}};
  for (const auto& p : settings)
    if (s = lt().cublasLtMatmulPreferenceSetAttribute(made, p.attribute, p.value, p.size); s != CUBLAS_STATUS_SUCCESS)
      return failed(s, "cublasLtMatmulPreferenceSetAttribute", err);
  return CONCORD_OK;
}

concord_status CublasLt::choose(const Gemm& g, Plan& plan, concord_error* err) const {
  if (const auto s = describe(g, plan, err); s != CONCORD_OK) return s;
  Preference preference;
  if (const auto s = prefer(g, preference, err); s != CONCORD_OK) return s;
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t s =
      lt().cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation.get(), plan.w.get(), plan.x.get(), plan.y.get(),
                                          plan.y.get(), preference.get(), 1, &best, &found);
  if (s != CUBLAS_STATUS_SUCCESS && s != CUBLAS_STATUS_NOT_SUPPORTED)
    return failed(s, "cublasLtMatmulAlgoGetHeuristic", err);
  if (s == CUBLAS_STATUS_NOT_SUPPORTED || found < 1 || best.state != CUBLAS_STATUS_SUCCESS ||
      best.workspaceSize > kWorkspace)
    return refuse(
        err, CONCORD_UNSUPPORTED, CONCORD_WHY_SHAPE,
        "cublaslt: no algorithm for [%lld, %lld] x [%lld, %lld]^T with dtype %u, rows of w every %lld elements",
        static_cast<long long>(g.m), static_cast<long long>(g.k), static_cast<long long>(g.n),
        static_cast<long long>(g.k), g.dtype, static_cast<long long>(g.w_pitch));
  plan.algorithm = best.algo;
  name(g, best.workspaceSize, plan);
  return CONCORD_OK;
}

void CublasLt::name(const Gemm& g, std::size_t workspace, Plan& plan) const {
  const auto value = [&](cublasLtMatmulAlgoConfigAttributes_t attribute) {
    std::uint32_t v = 0;
    std::size_t written = 0;
    lt().cublasLtMatmulAlgoConfigGetAttribute(&plan.algorithm, attribute, &v, sizeof v, &written);
    return v;
  };
  const char* compute = g.dtype != CONCORD_F32 ? "32f" : device_.variant.tf32 ? "32f fast tf32" : "32f pedantic";
  const std::uint32_t split = value(CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
                      reduction = value(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
  std::snprintf(plan.text, sizeof plan.text,
                "matmul: cublaslt %zu algo %u tile %u stages %u split %u reduce %u ws %zu %s",
                lt().cublasLtGetVersion(), value(CUBLASLT_ALGO_CONFIG_ID), value(CUBLASLT_ALGO_CONFIG_TILE_ID),
                value(CUBLASLT_ALGO_CONFIG_STAGES_ID), split, reduction, workspace, compute);
}

concord_status CublasLt::plan_of(const Gemm& g, const Plan*& plan, concord_error* err) {
  const Key key = key_of(g);
  auto at = plans_.find(key);
  if (at == plans_.end()) {
    Plan made;
    if (const auto s = choose(g, made, err); s != CONCORD_OK) return s;
    if (plans_.size() >= kPlans) plans_.clear();
    at = plans_.emplace(key, std::move(made)).first;
  }
  return plan = &at->second, CONCORD_OK;
}

concord_status CublasLt::multiply(const Gemm& g, char* kernel, std::size_t size, concord_error* err) {
  const Plan* plan = nullptr;
  void* workspace = nullptr;
  if (const auto s = plan_of(g, plan, err); s != CONCORD_OK) return s;
  if (const auto s = scratch(device_, kSlotLibrary, kWorkspace, g.stream, &workspace, err); s != CONCORD_OK) return s;
  const float one = 1.0f, zero = 0.0f;  // y is not read where it is multiplied with 0
  const cublasStatus_t s =
      lt().cublasLtMatmul(handle_, plan->operation.get(), &one, g.w, plan->w.get(), g.x, plan->x.get(), &zero, g.y,
                          plan->y.get(), g.y, plan->y.get(), &plan->algorithm, workspace, kWorkspace, g.stream);
  if (s != CUBLAS_STATUS_SUCCESS) return failed(s, "cublasLtMatmul", err);
  std::snprintf(kernel, size, "%s", plan->text);
  return CONCORD_OK;
}

}  // namespace

std::string cublaslt_missing() { return lt().missing; }

std::string cublaslt_name() {
  if (!lt().missing.empty()) return "no cuBLASLt";
  const std::size_t v = lt().cublasLtGetVersion();  // 130100: 13.1.0
  return "cuBLASLt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

concord_status open_cublaslt(concord_device& d, std::unique_ptr<Library>& library, concord_error* err) {
  if (!lt().missing.empty()) return refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_BUILT, "%s", lt().missing.c_str());
  cublasLtHandle_t handle = nullptr;
  if (const cublasStatus_t s = lt().cublasLtCreate(&handle); s != CUBLAS_STATUS_SUCCESS)
    return failed(s, "cublasLtCreate", err);
  library = std::make_unique<CublasLt>(d, handle);
  return CONCORD_OK;
}

}  // namespace CONCORD_GPU
