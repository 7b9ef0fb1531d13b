// Element types and bit-exact conversions between them.
// Every narrowing conversion is one round-to-nearest-even from the source value; NaN stays NaN; nothing is flushed.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace concord {

// The element types of safetensors and of the running arithmetic. Quantised block formats (GGUF) are decoded on reading.
enum class DType : std::uint8_t {
  kBool, kU8, kI8, kU16, kI16, kU32, kI32, kU64, kI64, kF16, kBF16, kF32, kF64, kC64,
  kF8E4M3, kF8E5M2, kF8E8M0, kF8E4M3FNUZ, kF8E5M2FNUZ, kF4, kF6E2M3, kF6E3M2,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // the safetensors token
  unsigned bits;          // bits per element
};
inline constexpr std::array<DTypeInfo, 22> kDTypes{{
    {DType::kBool, "BOOL", 8},       {DType::kU8, "U8", 8},           {DType::kI8, "I8", 8},
    {DType::kU16, "U16", 16},        {DType::kI16, "I16", 16},        {DType::kU32, "U32", 32},
    {DType::kI32, "I32", 32},        {DType::kU64, "U64", 64},        {DType::kI64, "I64", 64},
    {DType::kF16, "F16", 16},        {DType::kBF16, "BF16", 16},      {DType::kF32, "F32", 32},
    {DType::kF64, "F64", 64},        {DType::kC64, "C64", 64},        {DType::kF8E4M3, "F8_E4M3", 8},
    {DType::kF8E5M2, "F8_E5M2", 8},  {DType::kF8E8M0, "F8_E8M0", 8},  {DType::kF8E4M3FNUZ, "F8_E4M3FNUZ", 8},
    {DType::kF8E5M2FNUZ, "F8_E5M2FNUZ", 8}, {DType::kF4, "F4", 4},    {DType::kF6E2M3, "F6_E2M3", 6},
    {DType::kF6E3M2, "F6_E3M2", 6},
}};
constexpr unsigned dtype_bits(DType d) { return kDTypes[static_cast<std::size_t>(d)].bits; }
constexpr std::string_view dtype_name(DType d) { return kDTypes[static_cast<std::size_t>(d)].name; }
std::optional<DType> dtype_from_name(std::string_view name);  // exact safetensors token, case-sensitive

// --- scalar conversions ------------------------------------------------------------------------------------------
inline float bf16_to_f32(std::uint16_t b) { return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16); }
inline std::uint16_t f32_to_bf16(float f) {
  std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x0040u);  // quiet the NaN
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float f16_to_f32(std::uint16_t h);
std::uint16_t f32_to_f16(float f);
// One rounding from double, never double -> float -> half (which rounds twice).
std::uint16_t f64_to_f16(double d);
std::uint16_t f64_to_bf16(double d);

// --- whole arrays ------------------------------------------------------------------------------------------------
// True for F16, BF16, F32 and F64, the types that arithmetic runs in.
constexpr bool is_float(DType d) {
  return d == DType::kF16 || d == DType::kBF16 || d == DType::kF32 || d == DType::kF64;
}
// Element i of a float array as double (exact). `data` need not be aligned.
double load_as_f64(DType d, const std::byte* data, std::size_t i);
// Stores v into element i, rounding once to d.
void store_from_f64(DType d, std::byte* data, std::size_t i, double v);
// Converts n float elements from one type to another; exact where the target is wider, else rounded once.
void convert_floats(DType from, const std::byte* src, DType to, std::byte* dst, std::size_t n);

}  // namespace concord
