#include "conformance/run/saved_outputs.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "base/file.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace fs = std::filesystem;
namespace {
constexpr std::uint64_t kMaxFile = std::uint64_t{64} << 20, kMaxRun = std::uint64_t{1} << 30;  // [bytes]
}

Result<OrderedJson> OutputSaver::save(const std::string& key, const Problem& problem,
                                      std::span<const std::byte> outputs) {
  std::uint64_t bytes = 0;
  for (const Operand& o : problem.outputs) bytes += o.bytes;
  if (bytes > kMaxFile || written_ + bytes > kMaxRun)
    return OrderedJson{
        {"file", nullptr},
        {"why", fmt::format("{} bytes; at most {} are kept of a case and {} of a run", bytes, kMaxFile, kMaxRun)}};
  const std::string name = "outputs/" + sha256_hex(key).substr(0, 32) + ".bin";
  const fs::path path = fs::path(folder_) / name;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return fail(ErrorKind::kIo, "file.create", error.message(), path.parent_path().string());
  CONCORD_TRY(AtomicFile file, AtomicFile::create(path));
  OrderedJson parts = OrderedJson::array();
  std::uint64_t at = 0;
  for (const Operand& o : problem.outputs) {
    CONCORD_CHECK(file.append(outputs.subspan(o.offset, o.bytes)));
    parts.push_back({{"name", o.name}, {"dtype", o.dtype}, {"dims", o.dims}, {"offset", at}, {"bytes", o.bytes}});
    at += o.bytes;
  }
  CONCORD_CHECK(file.commit());
  written_ += bytes;
  return OrderedJson{{"file", name}, {"outputs", parts}};
}

}  // namespace concord::conformance
