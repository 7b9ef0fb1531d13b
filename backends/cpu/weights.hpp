// Weight matrices as a CPU device holds them: panels (tiles.hpp) in the width they are stored in, written once.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "abi/concord_host.hpp"
#include "tiles.hpp"

namespace cpu {

// Memory for weights: large blocks, so that the processor may map them with huge pages, and many weights in one block.
// A block goes back when the last weight in it is gone. Not thread-safe.
class WeightArena {
 public:
  // `bytes` of memory, 64-byte aligned, zero-filled; returned when the last copy of the pointer is gone.
  std::shared_ptr<std::byte> take(std::size_t bytes);

 private:
  std::shared_ptr<std::byte> block_;
  std::size_t used_ = 0, size_ = 0;
};

struct PackedWeight {
  Form form = kF32;
  std::size_t rows = 0, cols = 0, width = 0;  // width: rows of a full panel
  std::size_t group = 0, groups = 0;          // kU4: inputs of one scale; else 0
  bool has_zeros = false;
  std::shared_ptr<std::byte> memory;
  std::byte* panels = nullptr;
  std::uint16_t* scales = nullptr;  // kU4: f16, per panel [group][w]
  std::uint8_t* zeros = nullptr;    // the same; where has_zeros
  std::vector<float> row_scales;    // I8

  std::size_t panel_count() const { return (rows + width - 1) / width; }
  // Rows that panel p has room for: `width`, half of it in the last one where that is enough.
  std::size_t panel_width(std::size_t p) const { return rows - p * width <= width / 2 ? width / 2 : width; }
  const std::byte* panel(std::size_t p) const { return panels + p * panel_bytes(form, width, cols); }
  const std::uint16_t* panel_scales(std::size_t p) const { return scales ? scales + p * groups * width : nullptr; }
  const std::uint8_t* panel_zeros(std::size_t p) const { return has_zeros ? zeros + p * groups * width : nullptr; }
};

// Packs a description that was checked; `bytes` is what check_weight() found. `each(n, body)` runs body(0) .. body(n - 1),
// in parallel or not.
struct PackCall {
  const concord_weight_desc& desc;
  const concord_abi::WeightBytes& bytes;
  const TileSet& tiles;
  WeightArena& arena;
};
template <class Each>
PackedWeight pack(const PackCall& call, const Each& each);

// The parts of pack() that do not depend on how it is run.
PackedWeight lay_out(const PackCall& call);
void pack_panel(const PackCall& call, PackedWeight& w, std::size_t p);

template <class Each>
PackedWeight pack(const PackCall& call, const Each& each) {
  PackedWeight w = lay_out(call);
  each(w.panel_count(), [&](std::size_t p) { pack_panel(call, w, p); });
  return w;
}

// Row r as float32: exact, but for I8, where the product with the scale is rounded once.
void unpack_row(const PackedWeight& w, std::size_t r, float* out);

}  // namespace cpu
