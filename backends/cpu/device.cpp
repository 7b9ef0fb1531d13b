#include "device.hpp"

#include <thread>

concord_device::concord_device(const cpu::Variant& v, int thread_count)
    : variant(v),
      kernels(*v.kernels),
      threads(thread_count),
      // More workers than processors gain nothing here, and the sums do not depend on their number.
      arena(std::min(thread_count, std::max(1, static_cast<int>(std::thread::hardware_concurrency())))) {
  if (!v.tiles) onednn = std::make_unique<cpu::OneDnn>(threads);
}

namespace cpu {

float* scratch(int slot, std::size_t n) {
  thread_local std::vector<float> slots[4];
  if (slots[slot].size() < n) slots[slot].resize(n);
  return slots[slot].data();
}

std::unique_ptr<concord_weight> prepare_weight(concord_device& device, const concord_weight_desc& desc,
                                               const concord_abi::WeightBytes& bytes) {
  auto w = std::make_unique<concord_weight>();
  if (!device.onednn) {
    w->packed = pack({desc, bytes, *device.variant.tiles, device.weights},
                     [&](std::size_t n, const auto& body) {
                       device.spread(n, bytes.data / n, [&](std::size_t begin, std::size_t end) {
                         for (std::size_t p = begin; p < end; ++p) body(p);
                       });
                     });
    return w;
  }
  concord_abi::StoredWeight stored;
  stored.assign(desc, bytes);
  w->packed.rows = stored.rows, w->packed.cols = stored.cols;
  std::vector<float> plain(stored.rows * stored.cols);
  device.parallel(stored.rows, stored.cols, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) concord_abi::weight_row(stored, r, plain.data() + r * stored.cols);
  });
  w->onednn = device.onednn->pack(plain.data(), stored.rows, stored.cols);
  return w;
}

void weight_row(concord_device& device, concord_weight& w, std::size_t r, float* out) {
  if (!device.onednn) return unpack_row(w.packed, r, out);
  const std::size_t cols = w.packed.cols;
  if (w.plain.empty()) {
    std::vector<float> plain(w.packed.rows * cols);
    device.onednn->unpack(w.onednn, w.packed.rows, cols, plain.data());
    w.plain = std::move(plain);
  }
  std::memcpy(out, w.plain.data() + r * cols, cols * sizeof(float));
}

}  // namespace cpu
