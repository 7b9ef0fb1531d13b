// oneDNN's float32 matmul with weights packed once: another library's arithmetic beside our own.
#pragma once
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>

namespace cpu {

std::string onednn_version();  // of the loaded library, "2.6.3"

// Matmuls of one device: y[M,N] (f32) = x[M,K] (f32) * packed weight + bias. Not thread-safe.
class OneDnn {
 public:
  explicit OneDnn(int threads) : threads_(threads) {}
  OneDnn(const OneDnn&) = delete;
  OneDnn& operator=(const OneDnn&) = delete;
  ~OneDnn();  // leaves no worker threads behind

  // Packs W [n, k] (row-major f32) into the layout that the library prefers.
  dnnl::memory pack(const void* w, std::size_t n, std::size_t k);
  // The inverse: W [n, k] row-major into `out`.
  void unpack(const dnnl::memory& packed, std::size_t n, std::size_t k, void* out);

  // bias may be NULL. Returns the library's name of the implementation that ran.
  const std::string& run(const void* x, const dnnl::memory& packed, const float* bias, float* y, std::size_t m,
                         std::size_t n, std::size_t k);

 private:
  struct Entry {
    dnnl::matmul primitive;
    dnnl::memory::desc x, y, bias;
    std::string impl;
  };
  using Key = std::tuple<std::size_t, std::size_t, std::size_t, bool>;
  const Entry& entry(const Key& key, const dnnl::memory::desc& weight);
  dnnl::memory::desc plain(std::size_t n, std::size_t k) const;

  int threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, Entry> entries_;
};

}  // namespace cpu
