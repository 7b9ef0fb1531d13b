// The reference device as a plug-in.
#include "abi/concord_validate.hpp"
#include "reference.hpp"

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t host_major,
                                                                                               std::uint32_t host_minor,
                                                                                               concord_error* err) {
  if (host_major == CONCORD_ABI_MAJOR) return &reference::table();
  concord_abi::refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "plug-in serves ABI %u.%u, the host asks for %u.%u",
                      CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, host_major, host_minor);
  return nullptr;
}
