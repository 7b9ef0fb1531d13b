#include "checkpoint/mapped_checkpoint.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "base/text.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/gguf_types.hpp"

namespace concord {

Result<MappedCheckpoint::Stamp> MappedCheckpoint::stamp(const std::string& path) {
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0)
    return bad_input("checkpoint.file_changed", "the file disappeared while it was in use", path);
  return Stamp{static_cast<std::uint64_t>(st.st_dev), static_cast<std::uint64_t>(st.st_ino),
               static_cast<std::uint64_t>(st.st_size), st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
}

Status MappedCheckpoint::map(const std::filesystem::path& path) {
  CONCORD_TRY(MappedFile file, MappedFile::open(path));
  CONCORD_TRY(const Stamp now, stamp(path.string()));
  if (now.size != file.bytes().size())
    return bad_input("checkpoint.file_changed", "the size changed while the file was opened", path.string());
  files_.push_back(path.string());
  bytes_.push_back(file.bytes());
  maps_.push_back(std::move(file));
  stamps_.push_back(now);
  return {};
}

void MappedCheckpoint::sort_tensors() { std::ranges::sort(tensors_, {}, &TensorInfo::name); }

Result<std::unique_ptr<Checkpoint>> MappedCheckpoint::open_file(const std::filesystem::path& path) {
  auto out = std::make_unique<MappedCheckpoint>();
  CONCORD_CHECK(out->map(path));
  CONCORD_TRY(ParsedFile parsed, parse_model_file(out->bytes_[0], out->files_[0]));
  out->tensors_ = std::move(parsed.tensors);
  out->metadata_ = std::move(parsed.metadata);
  out->format_ = std::move(parsed.format);
  out->sort_tensors();
  return out;
}

std::unique_ptr<MappedCheckpoint> MappedCheckpoint::over(std::span<const std::byte> bytes, ParsedFile parsed,
                                                         const std::string& name) {
  auto out = std::make_unique<MappedCheckpoint>();
  out->files_.push_back(name);
  out->bytes_.push_back(bytes);
  out->tensors_ = std::move(parsed.tensors);
  out->metadata_ = std::move(parsed.metadata);
  out->format_ = std::move(parsed.format);
  out->sort_tensors();
  return out;
}

Result<std::unique_ptr<Checkpoint>> MappedCheckpoint::open_shards(const ShardIndex& index,
                                                                  const std::filesystem::path& index_path) {
  const std::string index_file = index_path.string();
  auto out = std::make_unique<MappedCheckpoint>();
  out->format_ = "safetensors (sharded)";
  for (std::uint32_t s = 0; s < index.shards.size(); ++s) {
    const std::filesystem::path path = index_path.parent_path() / index.shards[s];
    if (auto mapped = out->map(path); !mapped) {
      if (mapped.error().code != "file.not_found") return std::unexpected(std::move(mapped).error());
      return bad_input("index.missing_shard", fmt::format("shard \"{}\" is not there", printable(index.shards[s])),
                       index_file);
    }
    CONCORD_TRY(const Content content,
                detect_content(out->bytes_[s], out->files_[s]));  // names a pointer or page in place of a shard
    if (content != Content::kSafetensors)
      return bad_input("index.bad_shard", "a shard must be a safetensors file", out->files_[s]);
    CONCORD_TRY(ParsedFile parsed, parse_safetensors(out->bytes_[s], out->files_[s]));
    for (TensorInfo& t : parsed.tensors) {
      t.file = s;
      out->tensors_.push_back(std::move(t));
    }
    out->metadata_.update(parsed.metadata);
  }
  out->sort_tensors();
  CONCORD_CHECK(check_index(index, out->tensors_, index_file));
  return out;
}

std::span<const std::byte> MappedCheckpoint::raw(const TensorInfo& tensor) const {
  return bytes_[tensor.file].subspan(tensor.offset, tensor.bytes);
}

std::uint64_t MappedCheckpoint::block_size(const TensorInfo& tensor) const {
  const auto it = std::ranges::find(kGgmlTypes, tensor.type, &GgmlType::name);
  return it == kGgmlTypes.end() ? 1 : it->elements;
}

void MappedCheckpoint::release(const TensorInfo& tensor) const {
  if (maps_.empty()) return;  // somebody else's bytes
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::span<const std::byte> bytes = raw(tensor);
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  // Only whole pages: what is left at either end belongs to the neighbours too.
  const std::uintptr_t first = (begin + page - 1) / page * page, last = (begin + bytes.size()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

Status MappedCheckpoint::read_f32(const TensorInfo& tensor, std::uint64_t begin, std::uint64_t count,
                                  float* out) const {
  const Codec* codec = find_codec(tensor.type);
  if (codec == nullptr)
    return fail(ErrorKind::kUnsupported, "checkpoint.not_decodable",
                fmt::format("tensor \"{}\" is stored as {}, which this build cannot turn into floats",
                            printable(tensor.name), tensor.type),
                files_[tensor.file], tensor.offset);
  const auto end = checked_add(begin, count);
  if (!end || *end > tensor.elements || begin % codec->elements != 0 || count % codec->elements != 0)
    return fail(
        ErrorKind::kInternal, "checkpoint.bad_range",
        fmt::format("elements [{}, {} + {}) of tensor \"{}\": outside its {} elements or not whole blocks of {}", begin,
                    begin, count, printable(tensor.name), tensor.elements, codec->elements),
        files_[tensor.file]);
  codec->decode(raw(tensor).data() + begin / codec->elements * codec->bytes, count / codec->elements, out);
  return {};
}

Status MappedCheckpoint::unchanged() const {
  for (std::size_t i = 0; i < stamps_.size(); ++i) {
    CONCORD_TRY(const Stamp now, stamp(files_[i]));
    if (now != stamps_[i])
      return bad_input("checkpoint.file_changed", "the file was changed or replaced after it was opened; start again",
                       files_[i]);
  }
  return {};
}

}  // namespace concord
