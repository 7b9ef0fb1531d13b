// Evidence that can be judged again elsewhere: a folder with a run's records, what they were judged by, and a manifest
// with the digest of every file. The format is docs/bundles.md. Knows files and digests; what the records are worth is
// said by judge_bundle.hpp.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "conformance/suite/case.hpp"

namespace concord::conformance {

inline constexpr const char* kBundleSchema = "concord.bundle/1";
inline constexpr const char* kManifestFile = "manifest.json";

struct BundleFile {
  std::string path;  // relative: one name, or one of the known folders and a name
  std::uint64_t bytes = 0;
  std::string sha256;
};

// A required-case list that the bundle claims to be judged by.
struct BundleList {
  std::string name;
  std::vector<std::string> devices;
  std::uint64_t count = 0;
  std::string sha256;  // of its ids
};

struct BundleManifest {
  std::string statement, date;  // date: when the bundle was made, "2026-11-21T08:00:00Z"
  Json program;                 // version, commit, ... of the program that made it
  Tier tier = Tier::kSmoke;
  std::uint64_t seed = 0;
  std::vector<std::string> devices;
  std::vector<BundleList> lists;
  std::string definitions_sha256;  // definitions_digest() of ops/
  std::uint64_t records = 0, outputs = 0;
  std::vector<BundleFile> files;  // sorted by path, without the manifest

  const BundleFile* find(std::string_view path) const;
  std::string to_text() const;
  // Errors: bundle.* with the field: syntax, missing_field, unknown_field, wrong_type, out_of_range, schema_version,
  // path, digest, order, counts.
  static Result<BundleManifest> parse(std::string_view text, const std::string& file);
};

// Where a bundle may have files. Anything else is refused, in particular absolute paths, "..", names that begin with a
// dot and deeper folders.
bool is_bundle_path(std::string_view path);

// SHA-256 over the operator definitions among `files` (those in ops/): for each in byte order "NAME SHA256\n".
std::string definitions_digest(const std::vector<BundleFile>& files);

struct Bundle {
  std::string folder;
  BundleManifest manifest;
  std::string path_of(std::string_view path) const;  // of a file inside it
};

// Reads the manifest and checks the folder against it: every file is there with its size and digest, nothing else is,
// nothing is a link. Errors: bundle.* (exit 2) with the file. `progress` is told the bytes hashed so far and in all.
using BundleProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;
Result<Bundle> open_bundle(const std::string& folder, const BundleProgress& progress = {});

// Lists the files of a folder as a manifest has them (size and digest), and refuses what a bundle must not hold. The
// manifest itself is left out.
Result<std::vector<BundleFile>> scan_bundle(const std::string& folder);

}  // namespace concord::conformance
