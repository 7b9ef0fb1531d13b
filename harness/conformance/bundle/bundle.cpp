#include "conformance/bundle/bundle.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "digest/digest.hpp"

namespace concord::conformance {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMaxManifest = 256u << 20;

// Hashed in pieces, so that pages of large outputs can leave again and the progress moves.
Result<std::string> digest_of(const MappedFile& file, const std::function<void(std::uint64_t)>& after) {
  constexpr std::size_t kPiece = 8u << 20;
  Hasher hasher;
  for (auto rest = file.bytes(); !rest.empty();) {
    const std::size_t n = std::min(kPiece, rest.size());
    hasher.update(rest.first(n));
    rest = rest.subspan(n);
    if (after) after(n);
  }
  return hex(hasher.finish());
}

Result<std::vector<std::string>> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code ec;
  for (fs::recursive_directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = fs::path(it->path()).lexically_relative(folder).generic_string();
    const fs::file_status status = it->symlink_status(ec);
    if (ec) break;
    if (it.depth() > 1)
      return bad_input("bundle.extra_file",
                       fmt::format("\"{}\" lies deeper than files of a bundle do", printable(name, 200)), folder);
    if (fs::is_directory(status)) continue;
    if (!fs::is_regular_file(status))
      return bad_input(
          "bundle.not_regular",
          fmt::format("\"{}\" is a link or a special file; a bundle holds regular files only", printable(name, 200)),
          folder);
    if (name != kManifestFile) names.push_back(name);
  }
  if (ec) return fail(ErrorKind::kIo, "file.list", "cannot list this folder: " + ec.message(), folder);
  std::ranges::sort(names);
  return names;
}

Status check_names(const std::vector<std::string>& names, const BundleManifest& manifest, const std::string& folder) {
  for (const std::string& name : names)
    if (!manifest.find(name))
      return bad_input("bundle.extra_file", fmt::format("\"{}\" is not in the manifest", printable(name, 200)), folder);
  for (const BundleFile& f : manifest.files)
    if (!std::ranges::binary_search(names, f.path))
      return bad_input("bundle.missing_file", fmt::format("\"{}\" is in the manifest and not in the folder", f.path),
                       folder);
  return {};
}

Status check_digests(const Bundle& bundle, const BundleProgress& progress) {
  std::uint64_t done = 0, total = 0;
  for (const BundleFile& f : bundle.manifest.files) total += f.bytes;
  const auto after = [&](std::uint64_t n) {
    done += n;
    if (progress) progress(done, total);
  };
  for (const BundleFile& f : bundle.manifest.files) {
    const std::string path = bundle.path_of(f.path);
    CONCORD_TRY(const MappedFile file, MappedFile::open(path));
    if (file.bytes().size() != f.bytes)
      return bad_input("bundle.size",
                       fmt::format("the manifest says {} bytes, the file has {}", f.bytes, file.bytes().size()), path);
    CONCORD_TRY(const std::string digest, digest_of(file, after));
    if (digest != f.sha256)
      return bad_input(
          "bundle.digest",
          fmt::format("the manifest says SHA-256 {}, the file has {}: it was changed after the bundle was made",
                      f.sha256, digest),
          path);
  }
  return {};
}

}  // namespace

std::string Bundle::path_of(std::string_view path) const { return (fs::path(folder) / path).string(); }

Result<std::vector<BundleFile>> scan_bundle(const std::string& folder) {
  CONCORD_TRY(const std::vector<std::string> names, names_in(folder));
  std::vector<BundleFile> files;
  for (const std::string& name : names) {
    if (!is_bundle_path(name))
      return bad_input("bundle.path", fmt::format("\"{}\" is no place for a file of a bundle", printable(name, 200)),
                       folder);
    CONCORD_TRY(const MappedFile file, MappedFile::open(fs::path(folder) / name));
    CONCORD_TRY(std::string digest, digest_of(file, {}));
    files.push_back({name, file.bytes().size(), std::move(digest)});
  }
  return files;
}

Result<Bundle> open_bundle(const std::string& folder, const BundleProgress& progress) {
  std::error_code ec;
  if (!fs::is_directory(folder, ec))
    return bad_input("bundle.not_a_folder",
                     "expected a bundle, a folder that concord submit made; unpack an archive first", folder);
  Bundle bundle{.folder = folder, .manifest = {}};
  const std::string file = bundle.path_of(kManifestFile);
  if (!fs::is_regular_file(fs::symlink_status(file, ec)))
    return bad_input("bundle.no_manifest",
                     fmt::format("no {} in it; concord submit makes bundles from run folders", kManifestFile), folder);
  CONCORD_TRY(const std::string text, read_text(file, kMaxManifest));
  CONCORD_TRY(bundle.manifest, BundleManifest::parse(text, file));
  CONCORD_TRY(const std::vector<std::string> names, names_in(folder));
  CONCORD_CHECK(check_names(names, bundle.manifest, folder));
  CONCORD_CHECK(check_digests(bundle, progress));
  return bundle;
}

}  // namespace concord::conformance
