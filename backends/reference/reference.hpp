// The reference device as a table of the C ABI. The plug-in exports it; the harness's oracle has it built in, so that no search path can put another one in its
// place.
#pragma once
#include "abi/concord_backend.h"

namespace reference {
const concord_backend& table();
}  // namespace reference
