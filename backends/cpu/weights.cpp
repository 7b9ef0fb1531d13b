#include "weights.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace cpu {
namespace {

constexpr std::size_t kBlock = std::size_t{16} << 20, kHuge = std::size_t{2} << 20;  // [bytes]

std::shared_ptr<std::byte> map_block(std::size_t bytes) {
  const std::size_t size = (bytes + kHuge - 1) / kHuge * kHuge, reserved = size + kHuge;
  void* raw = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  auto* aligned = reinterpret_cast<std::byte*>((address + kHuge - 1) / kHuge * kHuge);
  ::madvise(aligned, size, MADV_HUGEPAGE);  // a hint: without huge pages everything works, more slowly
  return {aligned, [raw, reserved](std::byte*) { ::munmap(raw, reserved); }};
}

float value_of(const concord_weight_desc& d, std::size_t i) {
  const auto* p = static_cast<const std::byte*>(d.data);
  switch (d.dtype) {
    case CONCORD_F16:
      return concord_abi::f16_to_f32(concord_abi::load_as<std::uint16_t>(p, i));
    case CONCORD_BF16:
      return concord_abi::bf16_to_f32(concord_abi::load_as<std::uint16_t>(p, i));
    case CONCORD_I8:
      return static_cast<float>(concord_abi::load_as<std::int8_t>(p, i));
    default:
      return concord_abi::load_as<float>(p, i);
  }
}

unsigned nibble_of(const concord_weight_desc& d, std::size_t r, std::size_t c) {
  const std::size_t stride = (static_cast<std::size_t>(d.cols) + 1) / 2;
  const auto byte = std::to_integer<unsigned>(static_cast<const std::byte*>(d.data)[r * stride + c / 2]);
  return c % 2 ? byte >> 4 : byte & 15u;
}

// A U4 weight whose groups do not fit the blocks of eight, as a number: exact in float32 (a 5-bit times an 11-bit one).
float dequantised(const PackCall& call, std::size_t r, std::size_t c) {
  const concord_weight_desc& d = call.desc;
  const std::size_t g = r * call.bytes.groups + c / d.group;
  const int zero = d.zeros ? d.zeros[g] : 8;
  const auto scale = concord_abi::f16_to_f32(concord_abi::load_as<std::uint16_t>(static_cast<const std::byte*>(d.scales), g));
  return static_cast<float>(static_cast<int>(nibble_of(d, r, c)) - zero) * scale;
}

bool holds_minus_128(const PackCall& call) {
  const auto* q = static_cast<const std::int8_t*>(call.desc.data);
  return std::find(q, q + call.bytes.data, std::int8_t{-128}) != q + call.bytes.data;
}

Form form_of(const PackCall& call) {
  const bool bf16 = call.tiles.bf16;
  switch (call.desc.dtype) {
    case CONCORD_U4:
      if (call.desc.group % 8 == 0) return kU4;
      return bf16 ? kBf16Pairs : kF32;
    case CONCORD_I8:
      if (!bf16) return kI8;
      return holds_minus_128(call) ? kBf16Pairs : kI8Quads;
    case CONCORD_F16:
      return bf16 ? kBf16Pairs : kF16;
    case CONCORD_BF16:
      return bf16 ? kBf16Pairs : kBf16;
    default:
      return bf16 ? kBf16Pairs : kF32;
  }
}

struct PanelRows {  // what a panel takes from the description
  std::size_t first, count, w;
};

template <class T, class Value>
void fill_plain(std::byte* out, const PanelRows& p, std::size_t cols, const Value& value) {
  auto* to = reinterpret_cast<T*>(out);
  for (std::size_t k = 0; k < cols; ++k, to += p.w)
    for (std::size_t l = 0; l < p.count; ++l) to[l] = value(p.first + l, k);
}

template <class Value>
void fill_pairs(std::byte* out, const PanelRows& p, std::size_t cols, const Value& bits) {
  auto* to = reinterpret_cast<std::uint16_t*>(out);
  for (std::size_t k = 0; k < cols; ++k)
    for (std::size_t l = 0; l < p.count; ++l) to[(k / 2 * p.w + l) * 2 + k % 2] = bits(p.first + l, k);
}

void fill_quads(std::byte* out, const PanelRows& p, const concord_weight_desc& d) {
  const auto cols = static_cast<std::size_t>(d.cols);
  const auto* q = static_cast<const std::byte*>(d.data);
  for (std::size_t l = 0; l < p.count; ++l)
    for (std::size_t k = 0; k < cols; ++k) {
      const std::size_t vector = (k / 4 * p.w + l / 16 * 16) * 4, lane = l % 16, input = k % 4;
      out[vector + lane / 4 * 16 + input / 2 * 8 + lane % 4 * 2 + input % 2] = q[(p.first + l) * cols + k];
    }
}

void fill_nibbles(std::byte* out, const PanelRows& p, const concord_weight_desc& d) {
  auto* to = reinterpret_cast<std::uint32_t*>(out);
  const auto cols = static_cast<std::size_t>(d.cols);
  for (std::size_t l = 0; l < p.count; ++l)
    for (std::size_t k = 0; k < cols; ++k) {
      const std::size_t j = k % 8;
      to[k / 8 * p.w + l] |= nibble_of(d, p.first + l, k) << ((j % 2) * 16 + j / 2 * 4);
    }
}

void fill_scales(const PackCall& call, PackedWeight& w, std::size_t panel, const PanelRows& p) {
  const auto* scales = static_cast<const std::byte*>(call.desc.scales);
  for (std::size_t l = 0; l < p.count; ++l)
    for (std::size_t g = 0; g < w.groups; ++g) {
      const std::size_t to = panel * w.groups * w.width + g * p.w + l, from = (p.first + l) * w.groups + g;
      w.scales[to] = concord_abi::load_as<std::uint16_t>(scales, from);
      if (w.has_zeros) w.zeros[to] = call.desc.zeros[from];
    }
}

}  // namespace

std::shared_ptr<std::byte> WeightArena::take(std::size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes >= kBlock / 2) return map_block(bytes);
  if (!block_ || size_ - used_ < bytes || block_.use_count() == 1) block_ = map_block(kBlock), used_ = 0, size_ = kBlock;
  std::byte* at = block_.get() + used_;
  used_ += bytes;
  return {block_, at};
}

PackedWeight lay_out(const PackCall& call) {
  const concord_weight_desc& d = call.desc;
  PackedWeight w;
  w.form = form_of(call);
  w.rows = static_cast<std::size_t>(d.rows), w.cols = static_cast<std::size_t>(d.cols);
  w.width = kPanelVectors * call.tiles.lanes;
  if (w.form == kU4) w.group = d.group, w.groups = call.bytes.groups, w.has_zeros = d.zeros != nullptr;
  if (d.dtype == CONCORD_I8) {
    const auto* s = static_cast<const std::byte*>(d.scales);
    for (std::size_t r = 0; r < w.rows; ++r) w.row_scales.push_back(concord_abi::load_as<float>(s, r));
  }
  const std::size_t last = w.panel_count() - 1;
  const auto all = [&](std::size_t full, std::size_t narrow) {
    return (last * full + (w.panel_width(last) == w.width ? full : narrow) + 63) / 64 * 64;
  };
  const std::size_t data = all(panel_bytes(w.form, w.width, w.cols), panel_bytes(w.form, w.width / 2, w.cols));
  const std::size_t entries = all(w.groups * w.width, w.groups * w.width / 2);
  w.memory = call.arena.take(data + entries * (w.has_zeros ? 3 : 2));
  w.panels = w.memory.get();
  if (w.group) w.scales = reinterpret_cast<std::uint16_t*>(w.panels + data);
  if (w.has_zeros) w.zeros = reinterpret_cast<std::uint8_t*>(w.panels + data + entries * 2);
  return w;
}

void pack_panel(const PackCall& call, PackedWeight& w, std::size_t p) {
  const concord_weight_desc& d = call.desc;
  const PanelRows rows{p * w.width, std::min(w.width, w.rows - p * w.width), w.panel_width(p)};
  std::byte* out = w.panels + p * panel_bytes(w.form, w.width, w.cols);
  const std::size_t cols = w.cols;
  const auto* raw = static_cast<const std::byte*>(d.data);
  const auto number = [&](std::size_t r, std::size_t k) {
    return d.dtype == CONCORD_U4 ? dequantised(call, r, k) : value_of(d, r * cols + k);
  };
  const auto single = [&](std::size_t r, std::size_t k) { return concord_abi::load_as<float>(raw, r * cols + k); };
  const auto half = [&](std::size_t r, std::size_t k) { return concord_abi::load_as<std::uint16_t>(raw, r * cols + k); };
  switch (w.form) {
    case kF32:
      return d.dtype == CONCORD_F32 ? fill_plain<float>(out, rows, cols, single) : fill_plain<float>(out, rows, cols, number);
    case kF16:
    case kBf16:
      return fill_plain<std::uint16_t>(out, rows, cols, half);
    case kI8:
      return fill_plain<std::int8_t>(out, rows, cols,
                                     [&](std::size_t r, std::size_t k) { return concord_abi::load_as<std::int8_t>(raw, r * cols + k); });
    case kBf16Pairs:
      if (d.dtype == CONCORD_BF16) return fill_pairs(out, rows, cols, half);
      if (d.dtype == CONCORD_F32)
        return fill_pairs(out, rows, cols, [&](std::size_t r, std::size_t k) { return concord_abi::f32_to_bf16(single(r, k)); });
      return fill_pairs(out, rows, cols, [&](std::size_t r, std::size_t k) { return concord_abi::f32_to_bf16(number(r, k)); });
    case kI8Quads:
      return fill_quads(out, rows, d);
    default:
      fill_nibbles(out, rows, d);
      fill_scales(call, w, p, rows);
  }
}

void unpack_row(const PackedWeight& w, std::size_t r, float* out) {
  const std::size_t p = r / w.width, l = r % w.width, width = w.panel_width(p);
  const std::byte* panel = w.panel(p);
  const float row_scale = w.row_scales.empty() ? 1.0f : w.row_scales[r];
  for (std::size_t k = 0; k < w.cols; ++k) {
    switch (w.form) {
      case kF32:
        out[k] = concord_abi::load_as<float>(panel, k * width + l);
        break;
      case kF16:
        out[k] = concord_abi::f16_to_f32(concord_abi::load_as<std::uint16_t>(panel, k * width + l));
        break;
      case kBf16:
        out[k] = concord_abi::bf16_to_f32(concord_abi::load_as<std::uint16_t>(panel, k * width + l));
        break;
      case kI8:
        out[k] = static_cast<float>(concord_abi::load_as<std::int8_t>(panel, k * width + l)) * row_scale;
        break;
      case kBf16Pairs:
        out[k] = concord_abi::bf16_to_f32(concord_abi::load_as<std::uint16_t>(panel, (k / 2 * width + l) * 2 + k % 2));
        if (!w.row_scales.empty()) out[k] *= row_scale;
        break;
      case kI8Quads: {
        const std::size_t lane = l % 16, input = k % 4, vector = (k / 4 * width + l / 16 * 16) * 4;
        const std::size_t at = vector + lane / 4 * 16 + input / 2 * 8 + lane % 4 * 2 + input % 2;
        out[k] = static_cast<float>(concord_abi::load_as<std::int8_t>(panel, at)) * row_scale;
        break;
      }
      default: {
        const std::size_t j = k % 8, g = k / w.group * width + l;
        const auto word = concord_abi::load_as<std::uint32_t>(panel, k / 8 * width + l);
        const int q = static_cast<int>(word >> ((j % 2) * 16 + j / 2 * 4) & 15u);
        const int zero = w.has_zeros ? w.panel_zeros(p)[g] : 8;
        out[k] = static_cast<float>(q - zero) * concord_abi::f16_to_f32(w.panel_scales(p)[g]);
      }
    }
  }
}

}  // namespace cpu
