// Captures from hostile bytes: opening must refuse or succeed, never crash, and what opens can be hashed, measured and
// opened leaf by leaf. The same bytes are also read as an opening. Links concord_capture (with checkpoint, digest,
// base).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "capture/capture.hpp"
#include "capture/statistics.hpp"

namespace {

// A property that holds for every input; a breach is reported as a crash.
void require(bool holds) {
  if (!holds) std::abort();
}

void use(const concord::Capture& capture) {
  const auto leaves = capture.leaves();
  require(leaves.size() == 1 + capture.header().layers.size() * capture.chunks());
  const std::int64_t layer = capture.header().layers.back();
  const std::size_t chunk = capture.chunks() - 1;
  require(!capture.chunk(layer, chunk).empty());
  require(concord::layer_statistics(capture, layer).row_rms.size() == capture.header().positions.size());
  const bool intact = capture.verify().has_value();
  const auto opening = concord::make_opening(capture, layer, chunk);
  require(intact == opening.has_value());
  if (opening)
    require(concord::check_opening(concord::Json::parse(opening->dump()), capture.root(), "fuzz").has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto capture = concord::Capture::from_bytes(bytes, "fuzz"); capture) use(*capture);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto json = concord::parse_json(text, "fuzz", "opening"); json)
    require(!concord::check_opening(*json, {}, "fuzz").has_value());  // nobody knows a tree whose root is zero
  return 0;
}
