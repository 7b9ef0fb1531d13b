// Workload files and tokenizer.json from hostile bytes: parsed, or refused with a code.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.hpp"
#include "model/tokens_parse.hpp"
#include "model/workload.hpp"

namespace {

void try_workload(std::string_view text) {
  const auto workloads = concord::parse_workloads(text, "fuzz");
  if (!workloads) {
    if (workloads.error().code.empty()) std::abort();
    return;
  }
  concord::ModelSpec spec;
  spec.vocab = 256;
  spec.max_positions = 4096;
  for (concord::Workload w : *workloads) {
    if (!concord::bind_workload(w, spec, concord::TokenTable::bytes())) continue;
    if (w.tokens.empty() || w.digest().size() != 64) std::abort();
  }
}

void try_tokens(std::string_view text) {
  const auto json = concord::parse_json(text, "fuzz", "tokens");
  if (!json) return;
  const auto stored = concord::tokens_from_json(*json, "fuzz");
  if (stored && concord::TokenTable::from_stored(*stored).size() != stored->tokens.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_workload(text);
  try_tokens(text);
  return 0;
}
