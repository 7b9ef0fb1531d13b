// Errors as values. Data and environment can fail: functions return Result<T>. Programmer mistakes are asserts.
// Only harness/cli prints an Error and turns its kind into an exit code.
#pragma once
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace concord {

// What went wrong, coarsely. exit_code() maps it to the process exit code documented in docs/exit-codes.md.
enum class ErrorKind {
  kUsage,           // wrong argument or combination of arguments
  kBadInput,        // a file that is malformed, hostile, contradictory or of an unknown version
  kIo,              // the operating system said no: missing file, permission, full disk
  kMissingDevice,   // a required backend or device is not there
  kUnsupported,     // a well-formed request that this backend or build cannot serve
  kConformance,     // a result that contradicts its expectation
  kNothingRun,      // nothing, or less than required, was executed
  kInterrupted,     // SIGINT or SIGTERM; what was finished is on disk
  kInternal,        // a defect in Concord or in a plug-in
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string code;     // stable machine-readable name, for example "safetensors.duplicate_key"
  std::string message;  // one sentence: what was expected, what was found, what to do
  std::string file;     // the file concerned; empty where there is none
  std::optional<std::uint64_t> offset;  // byte position in `file` [bytes]

  // "FILE: byte 123: CODE: message", leaving out what is not known.
  std::string to_string() const;
};

template <class T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// fail(kind, code, message): the error side of any Result.
inline std::unexpected<Error> fail(ErrorKind kind, std::string_view code, std::string message, std::string file = {},
                                   std::optional<std::uint64_t> offset = {}) {
  return std::unexpected(Error{kind, std::string(code), std::move(message), std::move(file), offset});
}
inline std::unexpected<Error> bad_input(std::string_view code, std::string message, std::string file = {},
                                        std::optional<std::uint64_t> offset = {}) {
  return fail(ErrorKind::kBadInput, code, std::move(message), std::move(file), offset);
}

// The process exit code of an error kind (0 is never returned).
int exit_code(ErrorKind kind);

// Exit codes by name; docs/exit-codes.md says when each is used.
namespace exit_codes {
inline constexpr int kOk = 0, kConformance = 1, kBadInput = 2, kMissingDevice = 3, kRegression = 4, kNothingRun = 5,
                     kInconclusive = 6, kInternal = 70, kSkipped = 77, kInterrupted = 130;
}  // namespace exit_codes

}  // namespace concord

// CONCORD_TRY(var, expr): var = value of expr, or return its error. CONCORD_CHECK(expr): return the error of a Status.
#define CONCORD_CAT2(a, b) a##b
#define CONCORD_CAT(a, b) CONCORD_CAT2(a, b)
#define CONCORD_TRY(var, expr) CONCORD_TRY_IMPL(CONCORD_CAT(concord_try_, __LINE__), var, expr)
#define CONCORD_TRY_IMPL(tmp, var, expr)                        \
  auto tmp = (expr);                                            \
  if (!tmp) return std::unexpected(std::move(tmp).error());     \
  var = std::move(tmp).value()
#define CONCORD_CHECK(expr) CONCORD_CHECK_IMPL(CONCORD_CAT(concord_status_, __LINE__), expr)
#define CONCORD_CHECK_IMPL(tmp, expr) \
  if (auto tmp = (expr); !tmp) return std::unexpected(std::move(tmp).error())
