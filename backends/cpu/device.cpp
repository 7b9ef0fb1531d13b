#include "device.hpp"

#include <thread>

concord_device::concord_device(const cpu::Variant& v, int thread_count)
    : variant(v),
      kernels(*v.kernels),
      threads(thread_count),
      // More workers than processors gain nothing here, and the sums do not depend on their number.
      arena(std::min(thread_count, std::max(1, static_cast<int>(std::thread::hardware_concurrency())))) {
  if (v.onednn)
    onednn = std::make_unique<cpu::OneDnn>(v.bf16_matmul ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32,
                                           threads);
}

namespace cpu {

float* scratch(int slot, std::size_t n) {
  thread_local std::vector<float> slots[4];
  if (slots[slot].size() < n) slots[slot].resize(n);
  return slots[slot].data();
}

}  // namespace cpu
