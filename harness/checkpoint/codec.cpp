// Block formats of ggml, decoded in ggml's own order of operations, so that the floats are the same bits that llama.cpp
// and the Python package `gguf` compute: the half-precision scales are widened first, then every product and sum is one
// float32 operation. The build switches contraction off, so no product is fused with a sum. Layouts: ggml-common.h and
// ggml-quants.c (dequantize_row_*) of ggml.
#include "checkpoint/codec.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/dtype.hpp"

namespace concord {
namespace {

static_assert(std::endian::native == std::endian::little, "model files are little-endian and read in place");

template <class T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
unsigned u8(const std::byte* p) { return static_cast<unsigned>(*p); }
float s8(const std::byte* p) { return static_cast<float>(static_cast<std::int8_t>(*p)); }

// Half to float with masks in place of branches and table, so that the array loop vectorises. No step makes a denormal
// float, so the result does not depend on the thread's flush-to-zero mode.
inline float half(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, rest = h & 0x7fffu;
  const std::uint32_t normal = (rest << 13) + (112u << 23);                               // exponent bias 15 -> 127
  const float mantissa = static_cast<float>(static_cast<std::int32_t>(rest)) * 0x1p-24f;  // exact; a subnormal's value
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(mantissa);
  const std::uint32_t tiny = 0u - static_cast<std::uint32_t>(rest < 0x0400u);      // all ones or all zeros
  const std::uint32_t special = 0u - static_cast<std::uint32_t>(rest >= 0x7c00u);  // infinity or NaN: largest exponent
  return std::bit_cast<float>(sign | (subnormal & tiny) | (normal & ~tiny) | (special & 0x7f800000u));
}
float half_at(const std::byte* p) { return half(load<std::uint16_t>(p)); }

// --- plain types ---------------------------------------------------------------------------------------------------
void decode_f32(const std::byte* src, std::uint64_t n, float* out) { std::memcpy(out, src, n * sizeof(float)); }
void decode_f16(const std::byte* src, std::uint64_t n, float* out) {
  for (std::uint64_t i = 0; i < n; ++i) out[i] = half(load<std::uint16_t>(src + 2 * i));
}
void decode_bf16(const std::byte* src, std::uint64_t n, float* out) {
  for (std::uint64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load<std::uint16_t>(src + 2 * i));
}
// F64 and integers: one rounding to the nearest float, ties to even.
template <class T>
void decode_number(const std::byte* src, std::uint64_t n, float* out) {
  for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(load<T>(src + sizeof(T) * i));
}
void decode_bool(const std::byte* src, std::uint64_t n, float* out) {
  for (std::uint64_t i = 0; i < n; ++i) out[i] = u8(src + i) != 0 ? 1.0f : 0.0f;
}

// --- blocks of 32 ----------------------------------------------------------------------------------------------------
void decode_q4_0(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 18, out += 32) {
    const float d = half_at(src);
    for (int j = 0; j < 16; ++j) {
      const int q = static_cast<int>(u8(src + 2 + j));
      out[j] = static_cast<float>((q & 15) - 8) * d;
      out[j + 16] = static_cast<float>((q >> 4) - 8) * d;
    }
  }
}

void decode_q4_1(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 20, out += 32) {
    const float d = half_at(src), m = half_at(src + 2);
    for (int j = 0; j < 16; ++j) {
      const int q = static_cast<int>(u8(src + 4 + j));
      out[j] = static_cast<float>(q & 15) * d + m;
      out[j + 16] = static_cast<float>(q >> 4) * d + m;
    }
  }
}

// The fifth bit of element j is bit j of a 32-bit word.
int five_bits(int nibble, std::uint32_t high, int j) { return nibble | static_cast<int>((high >> j & 1u) << 4); }

void decode_q5_0(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 22, out += 32) {
    const float d = half_at(src);
    const auto high = load<std::uint32_t>(src + 2);
    for (int j = 0; j < 16; ++j) {
      const int q = static_cast<int>(u8(src + 6 + j));
      out[j] = static_cast<float>(five_bits(q & 15, high, j) - 16) * d;
      out[j + 16] = static_cast<float>(five_bits(q >> 4, high, j + 16) - 16) * d;
    }
  }
}

void decode_q5_1(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 24, out += 32) {
    const float d = half_at(src), m = half_at(src + 2);
    const auto high = load<std::uint32_t>(src + 4);
    for (int j = 0; j < 16; ++j) {
      const int q = static_cast<int>(u8(src + 8 + j));
      out[j] = static_cast<float>(five_bits(q & 15, high, j)) * d + m;
      out[j + 16] = static_cast<float>(five_bits(q >> 4, high, j + 16)) * d + m;
    }
  }
}

void decode_q8_0(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 34, out += 32) {
    const float d = half_at(src);
    for (int j = 0; j < 32; ++j) out[j] = s8(src + 2 + j) * d;
  }
}

// --- blocks of 256 ---------------------------------------------------------------------------------------------------
// Q4_K and Q5_K: eight groups of 32, each with a 6-bit scale and a 6-bit minimum packed into 12 bytes.
struct ScaleMin {
  unsigned scale, min;
};
ScaleMin k_scale_min(const std::byte* q, int j) {
  if (j < 4) return {u8(q + j) & 63u, u8(q + j + 4) & 63u};
  return {(u8(q + j + 4) & 15u) | (u8(q + j - 4) >> 6 << 4), (u8(q + j + 4) >> 4) | (u8(q + j) >> 6 << 4)};
}

void decode_q4_k(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 144, out += 256) {
    const float d = half_at(src), dmin = half_at(src + 2);
    for (int group = 0; group < 8; ++group) {
      const ScaleMin s = k_scale_min(src + 4, group);
      const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
      const std::byte* q = src + 16 + 32 * (group / 2);
      const unsigned shift = group % 2 ? 4 : 0;
      for (int l = 0; l < 32; ++l) out[32 * group + l] = scale * static_cast<float>(u8(q + l) >> shift & 15u) - min;
    }
  }
}

void decode_q5_k(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 176, out += 256) {
    const float d = half_at(src), dmin = half_at(src + 2);
    for (int group = 0; group < 8; ++group) {
      const ScaleMin s = k_scale_min(src + 4, group);
      const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
      const std::byte *high = src + 16, *q = src + 48 + 32 * (group / 2);
      const unsigned shift = group % 2 ? 4 : 0;
      for (int l = 0; l < 32; ++l) {
        const unsigned value = (u8(q + l) >> shift & 15u) | ((u8(high + l) >> group & 1u) << 4);
        out[32 * group + l] = scale * static_cast<float>(value) - min;
      }
    }
  }
}

// Sixteen groups of 16 with an 8-bit scale; values are 4 low bits from ql and 2 high bits from qh, minus 32.
void decode_q6_k(const std::byte* src, std::uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, src += 210, out += 256) {
    const float d = half_at(src + 208);
    for (int group = 0; group < 16; ++group) {
      const int part = group / 8, row = group % 8 / 2, column = group % 2 * 16;  // halves of 128, four rows of 32
      const std::byte* low = src + 64 * part + 32 * (row % 2) + column;
      const std::byte* high = src + 128 + 32 * part + column;
      const float scale = d * s8(src + 192 + group);
      const unsigned shift = row < 2 ? 0 : 4;
      for (int l = 0; l < 16; ++l) {
        const unsigned value = (u8(low + l) >> shift & 15u) | ((u8(high + l) >> (2 * row) & 3u) << 4);
        out[16 * group + l] = scale * static_cast<float>(static_cast<int>(value) - 32);
      }
    }
  }
}

constexpr std::array<Codec, 21> kCodecs{{
    {"F32", 1, 4, decode_f32},
    {"F16", 1, 2, decode_f16},
    {"BF16", 1, 2, decode_bf16},
    {"F64", 1, 8, decode_number<double>},
    {"BOOL", 1, 1, decode_bool},
    {"U8", 1, 1, decode_number<std::uint8_t>},
    {"I8", 1, 1, decode_number<std::int8_t>},
    {"U16", 1, 2, decode_number<std::uint16_t>},
    {"I16", 1, 2, decode_number<std::int16_t>},
    {"U32", 1, 4, decode_number<std::uint32_t>},
    {"I32", 1, 4, decode_number<std::int32_t>},
    {"U64", 1, 8, decode_number<std::uint64_t>},
    {"I64", 1, 8, decode_number<std::int64_t>},
    {"Q4_0", 32, 18, decode_q4_0},
    {"Q4_1", 32, 20, decode_q4_1},
    {"Q5_0", 32, 22, decode_q5_0},
    {"Q5_1", 32, 24, decode_q5_1},
    {"Q8_0", 32, 34, decode_q8_0},
    {"Q4_K", 256, 144, decode_q4_k},
    {"Q5_K", 256, 176, decode_q5_k},
    {"Q6_K", 256, 210, decode_q6_k},
}};

}  // namespace

const Codec* find_codec(std::string_view type) {
  const auto it = std::ranges::find(kCodecs, type, &Codec::name);
  return it == kCodecs.end() ? nullptr : &*it;
}

}  // namespace concord
