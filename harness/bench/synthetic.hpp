// Two captures of invented states for measuring the comparison: b is Gaussian, a = b * (1 + noise * another), both rounded
// once to the dtype.
#pragma once
#include <cstdint>
#include <filesystem>

#include "base/dtype.hpp"
#include "base/error.hpp"

namespace concord::bench {

// A folder of its own under the system's temporary folder; removed, with what is in it, by the destructor.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> create();  // bench.temporary_folder
  TemporaryFolder(TemporaryFolder&& o) noexcept : path_(std::move(o.path_)) { o.path_.clear(); }
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

inline constexpr std::int64_t kSyntheticLayers =
    8;  // hidden states 8, 16, ..., 64: every one is judged by `paper` and by `seed`

struct SyntheticSpec {
  std::int64_t elements = 0;  // rounded up to whole positions of kSyntheticLayers * hidden
  std::int64_t hidden = 4096;
  DType dtype = DType::kF32;
  std::uint64_t seed = 1;
  double noise = 1e-3;  // relative standard deviation of a from b; 0: a = b
  std::int64_t positions() const;
  std::int64_t unit() const { return kSyntheticLayers * hidden; }
};

// Four Gaussian numbers (Box-Muller over one Philox block) for counter `index` of `stream`.
std::array<float, 4> gaussian4(std::uint64_t seed, std::uint32_t stream, std::uint64_t index);

// Writes FOLDER/subject and FOLDER/reference.
Status write_synthetic(const SyntheticSpec& spec, const std::filesystem::path& folder);

}  // namespace concord::bench
