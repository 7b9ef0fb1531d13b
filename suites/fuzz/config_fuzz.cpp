// config.json from hostile bytes: parsed, or refused with a code; what is accepted must be usable.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.hpp"
#include "model/spec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = concord::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz", "config");
  if (!json) return 0;
  const auto spec = concord::spec_from_hf_config(*json, "fuzz");
  if (!spec) {
    if (spec.error().code.empty() || spec.error().message.empty()) std::abort();
    return 0;
  }
  if (spec->heads % spec->kv_heads != 0 || spec->head_dim % 2 != 0 || spec->parameters() <= 0) std::abort();
  for (const double f : spec->rope.inverse_frequencies(spec->head_dim))
    if (!std::isfinite(f)) std::abort();
  return 0;
}
