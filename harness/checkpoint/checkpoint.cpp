// From a path to a checkpoint: what the bytes are, and which file of a folder is meant.
#include "checkpoint/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "checkpoint/mapped_checkpoint.hpp"
#include "checkpoint/parse.hpp"

namespace concord {
namespace {

namespace fs = std::filesystem;

// Files that are often found where weights should be, by how they begin.
struct Impostor {
  std::string_view start, code, message;
};
constexpr std::array<Impostor, 10> kImpostors{{
    {"version https://git-lfs", "checkpoint.lfs_pointer",
     "this is a Git LFS pointer, not the weights; run git lfs pull"},
    {"<!DOCTYPE", "checkpoint.html", "this is an HTML page (a failed download?), not weights"},
    {"<!doctype", "checkpoint.html", "this is an HTML page (a failed download?), not weights"},
    {"<html", "checkpoint.html", "this is an HTML page (a failed download?), not weights"},
    {"PK\x03\x04", "checkpoint.pickle",
     "this is a zip archive, probably a PyTorch checkpoint; loading one can run code, convert it to safetensors"},
    {"\x80\x02", "checkpoint.pickle", "this is a Python pickle; loading one can run code, convert it to safetensors"},
    {"lmgg", "checkpoint.old_ggml", "this is a ggml file from before GGUF; convert the model again"},
    {"tjgg", "checkpoint.old_ggml", "this is a ggjt file from before GGUF; convert the model again"},
    {"fmgg", "checkpoint.old_ggml", "this is a ggmf file from before GGUF; convert the model again"},
    {"algg", "checkpoint.old_ggml", "this is a ggla file from before GGUF; convert the model again"},
}};

std::string_view text_of(std::span<const std::byte> bytes, std::size_t at, std::size_t limit) {
  if (at >= bytes.size()) return {};
  return {reinterpret_cast<const char*>(bytes.data()) + at, std::min(limit, bytes.size() - at)};
}

// A JSON text never has zero bytes; the length in front of a safetensors header always ends in them.
bool looks_like_json(std::span<const std::byte> bytes) {
  const std::string_view start = text_of(bytes, 0, 64);
  const auto first = start.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && start[first] == '{' &&
         start.substr(0, 8).find('\0') == std::string_view::npos;
}

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) return true;  // says safetensors.too_small
  const std::string_view behind = text_of(bytes, 8, 64);
  const auto first = behind.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  const bool brace = first != std::string_view::npos && behind[first] == '{';
  return brace || text_of(bytes, 4, 4) == std::string_view("\0\0\0\0", 4);
}

bool has_extension(const fs::path& path, std::string_view extension) { return path.extension() == extension; }

// The file of a folder that is meant. Two answers are an error: the verdict must say which weights were judged.
Result<fs::path> choose_in_folder(const fs::path& folder) {
  std::vector<fs::path> main, tensors, ggufs;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    const fs::path& path = it->path();
    const std::string name = path.filename().string();
    if (name == "model.safetensors.index.json" || name == "model.safetensors" ||
        (name.starts_with("consolidated") && has_extension(path, ".safetensors")))
      main.push_back(path);
    else if (has_extension(path, ".safetensors"))
      tensors.push_back(path);
    else if (has_extension(path, ".gguf"))
      ggufs.push_back(path);
  }
  if (ec) return fail(ErrorKind::kIo, "checkpoint.folder", "cannot list the folder: " + ec.message(), folder.string());
  std::vector<fs::path> candidates = main.empty() ? tensors : main;
  candidates.insert(candidates.end(), ggufs.begin(), ggufs.end());
  std::ranges::sort(candidates);
  if (candidates.empty())
    return bad_input("checkpoint.no_model_file",
                     "the folder has no model.safetensors.index.json, *.safetensors or *.gguf", folder.string());
  if (candidates.size() == 1) return candidates[0];
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(candidates.size(), 6); ++i)
    names += (i ? ", " : "") + printable(candidates[i].filename().string());
  return bad_input("checkpoint.ambiguous_folder",
                   fmt::format("the folder has {} candidates ({}{}); name the file that is meant", candidates.size(),
                               names, candidates.size() > 6 ? ", ..." : ""),
                   folder.string());
}

Result<std::unique_ptr<Checkpoint>> open_index(std::span<const std::byte> bytes, const fs::path& path) {
  CONCORD_TRY(const ShardIndex index, parse_shard_index(bytes, path.string()));
  return MappedCheckpoint::open_shards(index, path);
}

}  // namespace

Result<Content> detect_content(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.empty()) return bad_input("checkpoint.empty_file", "the file is empty", file, 0);
  const std::string_view start = text_of(bytes, 0, 64);
  if (start.starts_with("GGUF")) return Content::kGguf;
  for (const Impostor& impostor : kImpostors)
    if (start.starts_with(impostor.start)) return bad_input(impostor.code, std::string(impostor.message), file, 0);
  if (looks_like_json(bytes)) return Content::kShardIndex;
  if (looks_like_safetensors(bytes)) return Content::kSafetensors;
  return bad_input("checkpoint.unknown_format",
                   fmt::format("neither safetensors nor GGUF nor a shard index; it begins with \"{}\"",
                               printable(start.substr(0, 16))),
                   file, 0);
}

Result<ParsedFile> parse_model_file(std::span<const std::byte> bytes, const std::string& file) {
  CONCORD_TRY(const Content content, detect_content(bytes, file));
  if (content == Content::kGguf) return parse_gguf(bytes, file);
  if (content == Content::kSafetensors) return parse_safetensors(bytes, file);
  return bad_input("checkpoint.unknown_format", "a JSON text, expected a file of tensors", file, 0);
}

Result<std::unique_ptr<Checkpoint>> open_checkpoint_bytes(std::span<const std::byte> bytes, const std::string& name) {
  CONCORD_TRY(ParsedFile parsed, parse_model_file(bytes, name));
  return MappedCheckpoint::over(bytes, std::move(parsed), name);
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const fs::path& path) {
  std::error_code ec;
  if (fs::is_directory(path, ec)) {
    CONCORD_TRY(const fs::path chosen, choose_in_folder(path));
    if (fs::is_directory(chosen, ec))
      return bad_input("file.not_regular", "expected a regular file, found a directory", chosen.string());
    return open(chosen);
  }
  {
    CONCORD_TRY(const MappedFile file, MappedFile::open(path));
    CONCORD_TRY(const Content content, detect_content(file.bytes(), path.string()));
    if (content == Content::kShardIndex) return open_index(file.bytes(), path);
  }
  return MappedCheckpoint::open_file(path);
}

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace concord
