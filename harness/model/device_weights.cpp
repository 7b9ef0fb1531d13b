#include "model/device_weights.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace concord {
namespace {

std::unexpected<Error> differs(const Device& device, const std::string& tensor, const Sha256& given,
                               const Sha256& held) {
  return fail(ErrorKind::kConformance, "model.weights_differ_on_device",
              fmt::format("{} holds other bytes than it was given as {}: digest {} in device memory, {} on the host",
                          device.facts().id, tensor, hex(held), hex(given)));
}

}  // namespace

Result<DeviceWeightCheck> GivenWeights::check(Device& device) const {
  DeviceWeightCheck out{.offered = device.has_weight_digest(), .matrices = matrices_.size()};
  for (const Matrix& m : matrices_) {
    CONCORD_TRY(const std::optional<Sha256> held, device.weight_digest(*m.weight));
    if (!held) continue;
    if (*held != m.digest) return differs(device, m.name, m.digest, *held);
    ++out.digests;
  }
  std::vector<std::byte> back;
  for (const Vector& v : vectors_) {
    const auto given = std::as_bytes(std::span(v.values));
    back.assign(given.size(), std::byte{0xa5});
    CONCORD_CHECK(device.download(*v.buffer, 0, back));
    if (!std::ranges::equal(back, given)) return differs(device, v.name, sha256(given), sha256(back));
    ++out.vectors;
  }
  return out;
}

}  // namespace concord
