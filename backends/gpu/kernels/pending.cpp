// Operators that are not written yet. A definition elsewhere takes the place of the one here.
#include "gpu/device.hpp"

namespace CONCORD_GPU {
namespace {
concord_status missing(Context& c) {
  return concord_abi::refuse(c.err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_IMPLEMENTED, "%s", concord_abi::op_name(c.call.op));
}
}  // namespace
#define PENDING(op) \
  __attribute__((weak)) concord_status op(Context& c) { return missing(c); }
PENDING(embedding) PENDING(rmsnorm) PENDING(layernorm) PENDING(matmul) PENDING(rope) PENDING(kv_append) PENDING(attention)
PENDING(swiglu) PENDING(gelu) PENDING(add) PENDING(softmax) PENDING(topk_routing) PENDING(argmax)
__attribute__((weak)) const char* attention_refuses(const concord_call&) { return nullptr; }
__attribute__((weak)) concord_status weight_digest(concord_device&, const concord_weight&, std::uint8_t*, concord_error* err) {
  return concord_abi::refuse(err, CONCORD_UNSUPPORTED, CONCORD_WHY_NOT_IMPLEMENTED, "weight_digest");
}
}  // namespace CONCORD_GPU
