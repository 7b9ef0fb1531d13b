#include "onednn.hpp"

extern "C" {  // libgomp, the runtime that libdnnl is built on
void omp_set_num_threads(int);
int omp_get_max_threads(void);
int omp_pause_resource_all(int kind);
}

namespace cpu {
namespace {

// The calling thread's OpenMP team size, for the time of one call.
class TeamSize {
 public:
  explicit TeamSize(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  TeamSize(const TeamSize&) = delete;
  TeamSize& operator=(const TeamSize&) = delete;
  ~TeamSize() { omp_set_num_threads(before_); }

 private:
  int before_;
};

dnnl::memory::dim dim(std::size_t n) { return static_cast<dnnl::memory::dim>(n); }

constexpr auto kType = dnnl::memory::data_type::f32;
constexpr std::size_t kMaxEntries = 4096;  // shapes remembered per device; beyond that the memory starts over

}  // namespace

OneDnn::~OneDnn() {
  constexpr int kHard = 2;  // omp_pause_hard: ends the idle workers, which the next call would start again
  omp_pause_resource_all(kHard);
}

std::string onednn_version() {
  const dnnl::version_t* v = dnnl::version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

dnnl::memory::desc OneDnn::plain(std::size_t n, std::size_t k) const {
  return {{dim(k), dim(n)}, kType, dnnl::memory::format_tag::ba};  // W [n, k] row-major, seen as [k, n]
}

dnnl::memory OneDnn::pack(const void* w, std::size_t n, std::size_t k) {
  const TeamSize team(threads_);
  using Desc = dnnl::memory::desc;
  // The preferred layout depends on n and k; 64 rows stand for any number.
  const dnnl::matmul::desc matmul(Desc({64, dim(k)}, kType, dnnl::memory::format_tag::ab),
                                  Desc({dim(k), dim(n)}, kType, dnnl::memory::format_tag::any),
                                  Desc({64, dim(n)}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab));
  const dnnl::matmul::primitive_desc chosen(matmul, engine_);
  dnnl::memory from(plain(n, k), engine_, const_cast<void*>(w)), to(chosen.weights_desc(), engine_);
  dnnl::reorder(from, to).execute(stream_, from, to);
  stream_.wait();
  return to;
}

void OneDnn::unpack(const dnnl::memory& packed, std::size_t n, std::size_t k, void* out) {
  const TeamSize team(threads_);
  dnnl::memory from = packed, to(plain(n, k), engine_, out);
  dnnl::reorder(from, to).execute(stream_, from, to);
  stream_.wait();
}

const OneDnn::Entry& OneDnn::entry(const Key& key, const dnnl::memory::desc& weight) {
  if (const auto found = entries_.find(key); found != entries_.end()) return found->second;
  if (entries_.size() >= kMaxEntries) entries_.clear();
  const auto [m, n, k, with_bias] = key;
  using Desc = dnnl::memory::desc;
  constexpr auto kAb = dnnl::memory::format_tag::ab;
  Entry e;
  e.x = Desc({dim(m), dim(k)}, kType, kAb);
  e.y = Desc({dim(m), dim(n)}, dnnl::memory::data_type::f32, kAb);
  e.bias = Desc({1, dim(n)}, dnnl::memory::data_type::f32, kAb);
  const dnnl::matmul::desc matmul =
      with_bias ? dnnl::matmul::desc(e.x, weight, e.bias, e.y) : dnnl::matmul::desc(e.x, weight, e.y);
  const dnnl::matmul::primitive_desc chosen(matmul, engine_);
  e.impl = chosen.impl_info_str();
  e.primitive = dnnl::matmul(chosen);
  return entries_.emplace(key, std::move(e)).first->second;
}

const std::string& OneDnn::run(const void* x, const dnnl::memory& packed, const float* bias, float* y, std::size_t m,
                               std::size_t n, std::size_t k) {
  const TeamSize team(threads_);
  const Entry& e = entry({m, n, k, bias != nullptr}, packed.get_desc());
  std::unordered_map<int, dnnl::memory> args{{DNNL_ARG_SRC, dnnl::memory(e.x, engine_, const_cast<void*>(x))},
                                             {DNNL_ARG_WEIGHTS, packed},
                                             {DNNL_ARG_DST, dnnl::memory(e.y, engine_, y)}};
  if (bias) args.emplace(DNNL_ARG_BIAS, dnnl::memory(e.bias, engine_, const_cast<float*>(bias)));
  e.primitive.execute(stream_, args);
  stream_.wait();
  return e.impl;
}

}  // namespace cpu
