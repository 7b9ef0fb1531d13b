// What is not written yet. A definition elsewhere takes the place of the one here.
#include "gpu/device.hpp"

namespace CONCORD_GPU {
__attribute__((weak)) concord_status weight_digest(concord_device&, const concord_weight&, std::uint8_t*, concord_error* err) {
  return concord_abi::refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_IMPLEMENTED, "weight_digest");
}
}  // namespace CONCORD_GPU
