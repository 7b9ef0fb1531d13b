// A required-case list from hostile bytes: refused, or read in a way that writing gives the same bytes back.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "conformance/suite/required.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto list = concord::conformance::RequiredList::parse(text, "fuzz.lock");
  if (!list) {
    if (list.error().code.empty() || list.error().message.empty()) std::abort();
    return 0;
  }
  if (list->to_text() != text || list->ids.empty() || list->devices.empty()) std::abort();
  (void)list->covers("cpu:avx2");
  return 0;
}
