#include "base/error.hpp"

#include <fmt/format.h>

namespace concord {

std::string Error::to_string() const {
  std::string out;
  if (!file.empty()) out += file + ": ";
  if (offset) out += fmt::format("byte {}: ", *offset);
  if (!code.empty()) out += code + ": ";
  return out + message;
}

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kBadInput:
    case ErrorKind::kIo:
    case ErrorKind::kUnsupported: return exit_codes::kBadInput;
    case ErrorKind::kMissingDevice: return exit_codes::kMissingDevice;
    case ErrorKind::kConformance: return exit_codes::kConformance;
    case ErrorKind::kNothingRun: return exit_codes::kNothingRun;
    case ErrorKind::kInterrupted: return exit_codes::kInterrupted;
    case ErrorKind::kInternal: break;
  }
  return exit_codes::kInternal;
}

}  // namespace concord
