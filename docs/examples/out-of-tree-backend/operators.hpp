// The operators of example:scalar. Calls were checked before they come here. Float32, one loop after the other, every
// sum from its first term to its last.
#pragma once
#include "abi/concord_host.hpp"

namespace sdk = concord_abi;

struct concord_weight {
  sdk::StoredWeight stored;
};

namespace example {
using Run = void (*)(const concord_call& call);
// In the order of concord_op; NULL is an operator that this device does not have.
extern const Run kOperators[CONCORD_OP_COUNT];
}  // namespace example
