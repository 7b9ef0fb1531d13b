// The operators' operands as a table, and what fills output arenas before a call. Internal to the numerics of operator
// conformance.
#pragma once
#include <array>
#include <cstring>
#include <string_view>

#include "conformance/numerics/problem.hpp"

namespace concord::conformance {

enum class Type { kActivation, kF32, kAngle, kIndex, kCache, kScale };  // which dtype an operand has
enum class When { kAlways, kBias, kFused, kInt8Cache };                 // in which cases it is there

// dims: letters of the case's axes; h is D/2, C the S*P rows of a cache. "" is no operand.
struct OperandRow {
  const char* name = "";
  const char* dims = "";
  Type type = Type::kActivation;
  Role role = Role::kActivation;
  bool by_row = false;
  When when = When::kAlways;
};
struct OpLayout {
  const char* op;
  concord_op code;
  const char* axes;      // "MNK"
  const char* options;   // besides x and in, separated by blanks
  const char* families;  // words of in
  const char* weight;    // two letters, or ""
  std::array<OperandRow, CONCORD_MAX_IN> in;
  std::array<OperandRow, CONCORD_MAX_OUT> out;
};
const std::array<OpLayout, CONCORD_OP_COUNT>& layouts();
const OpLayout* layout_of(const std::string& op);               // NULL: no such operator
bool is_one_of(std::string_view words, std::string_view word);  // words separated by blanks
std::string word_or(const CaseSpec& spec, const char* key,
                    const char* other);  // the option, or `other` where it is not

// Bytes of guards depend on where they are, so that a guard that was copied to another place is seen.
inline std::byte guard_byte(std::uint64_t position) {
  return static_cast<std::byte>((position * 0x9e3779b97f4a7c15u + 0x5bd1e995u) >> 56);
}
// One element of poison, little-endian, in the first bytes. Even repetitions: a NaN whose payload no arithmetic makes
// (or a large integer); odd ones: a finite number.
std::array<std::byte, 8> poison(std::uint32_t dtype, unsigned repetition);
// The arena around an output belongs to its guards: [begin, offset) and [offset + bytes, end).
struct Fence {
  std::uint64_t begin, end;
};
Fence fence_of(const Operand& output);

}  // namespace concord::conformance
