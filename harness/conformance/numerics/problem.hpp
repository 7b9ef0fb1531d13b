// A case as operands in memory: which tensors, where they lie, and the call without its buffers. A pure function of the case, so that the process that
// judges and the process that holds the device agree without talking about it. Knows no device and no tolerance.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/concord_backend.h"
#include "conformance/suite/case.hpp"

namespace concord::conformance {

inline constexpr std::uint64_t kGuardBytes = 4096;  // sentinels before and behind each output
inline constexpr std::uint64_t kAlignment = 4096;   // of operands in the arenas

enum class Role { kActivation, kParameter, kTable, kIndex, kCache, kScale, kSum };  // kSum: matmul's z

struct Operand {
  std::string name;  // as in concord_backend.h: "x", "kc"
  Role role = Role::kActivation;
  std::uint32_t slot = 0;  // index into concord_call.in or .out
  std::uint32_t dtype = CONCORD_F32;
  std::vector<std::int64_t> dims;
  bool by_row = false;       // dims[0] counts tokens (or rows) that are computed independently: a slice of it is a call of its own
  std::uint64_t offset = 0;  // an input's bytes in the input arena; an output's first byte (behind its guard) in the output arena
  std::uint64_t bytes = 0;   // exact size, without guards
  // Outputs that an operator writes only in part (KV_APPEND): their contents before the call, in the input arena. In place: the operand is in[0] too.
  std::optional<std::uint64_t> initial;
};

// The bytes of a weight in the input arena, in the form of concord_weight_desc.
struct WeightOperand {
  concord_weight_desc desc{};  // pointers NULL
  std::uint64_t data = 0, scales = 0, zeros = 0;                    // offsets
  std::uint64_t data_bytes = 0, scale_bytes = 0, zero_bytes = 0;    // 0: absent
};

struct Problem {
  CaseSpec spec;
  concord_call call{};  // everything but buffers and the weight's handle; tensors have dims, dtype and rank
  std::vector<Operand> inputs, outputs;
  std::optional<WeightOperand> weight;
  bool in_place = false;        // out[0] is the very tensor in[0] (matmul: z, in[2])
  bool expect_refusal = false;  // an extent is 0: the ABI wants CONCORD_INVALID and untouched outputs
  std::uint64_t input_bytes = 0, output_bytes = 0;  // sizes of the arenas
  const Operand& input(const std::string& name) const;  // programmer mistake when there is none
};

// Errors: case.unknown_operator, case.missing_key, case.unknown_key, case.bad_value, case.too_large (more than 64 GiB).
Result<Problem> make_problem(const CaseSpec& spec);

// The weight's description with pointers into an arena.
concord_weight_desc weight_desc(const WeightOperand& weight, std::span<const std::byte> arena);

// Fills every input, weight and initial content. Philox by (seed of case and run, tensor, index): the same bits on every host, for every number of threads.
// `seed` is the run's; 0 is what required-case lists mean. arena.size() == problem.input_bytes.
void fill_inputs(const Problem& problem, std::uint64_t seed, std::span<std::byte> arena);
std::uint64_t case_seed(const CaseSpec& spec, std::uint64_t seed);

// What the output area holds before a call: guards around every output, and poison in it (or the initial contents). Repetition 0 poisons with NaN (or a large
// integer), 1 with finite numbers, and so on, so that what was left from before never looks like a result.
void fill_outputs(const Problem& problem, unsigned repetition, std::span<const std::byte> input_arena, std::span<std::byte> output_arena);

}  // namespace concord::conformance
