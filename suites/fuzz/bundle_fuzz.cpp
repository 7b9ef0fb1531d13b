// Manifests of bundles: any bytes must give a manifest or a named error, and what was read must write back to a
// manifest that reads the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "conformance/bundle/bundle.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using concord::conformance::BundleManifest;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = BundleManifest::parse(text, "fuzz");
  if (!manifest) {
    if (manifest.error().code.empty()) std::abort();
    return 0;
  }
  for (const auto& file : manifest->files)
    if (!concord::conformance::is_bundle_path(file.path) || file.path.contains("/.") || file.path.starts_with('/'))
      std::abort();
  const auto again = BundleManifest::parse(manifest->to_text(), "fuzz");
  if (!again || again->to_text() != manifest->to_text()) std::abort();
  return 0;
}
