// A plug-in's status and message as an Error of ours.
#pragma once
#include "abi/concord_backend.h"
#include "base/error.hpp"

namespace concord {

// An empty concord_error to hand to a plug-in.
concord_error blank_error();
// Codes: device.unsupported, device.invalid_call, device.out_of_memory, device.failed. `what` names the call and the
// device.
Error plugin_error(concord_status status, const concord_error& err, const std::string& what);
// Fixed-size text from a plug-in, which may have forgotten its terminator.
std::string bounded_text(const char* text, std::size_t size);
// How many operators a plug-in of this minor version has heard of: those before this number.
inline std::uint32_t operators_of(const concord_backend& table) {
  return table.abi_minor >= 1 ? CONCORD_OP_COUNT : CONCORD_OP_SAMPLE;
}

}  // namespace concord
