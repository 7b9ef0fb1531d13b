// model.safetensors.index.json: {"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: SHARD, ...}}.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.hpp"
#include "checkpoint/parse.hpp"

namespace concord {
namespace {

// A shard lies beside its index or below it. A symbolic link is fine (download caches are made of them), a path that
// leads elsewhere is not.
bool stays_below(const std::string& path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/') return false;
  if (std::ranges::any_of(path, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\'; }))
    return false;
  if (path.find("//") != std::string::npos) return false;  // a second spelling of the same file
  for (const auto& part : std::filesystem::path(path))
    if (part == ".." || part == "." || part.empty()) return false;
  return true;
}

Status read_total_size(const Json& root, const std::string& file, std::optional<std::uint64_t>& out) {
  if (!root.contains("metadata") || root["metadata"].is_null()) return {};
  if (!root["metadata"].is_object()) return bad_input("index.bad_metadata", "metadata must be an object", file);
  if (!root["metadata"].contains("total_size")) return {};
  const Json& size = root["metadata"]["total_size"];
  // Some writers store a whole number as 1.0.
  if (size.is_number_float() && size.get<double>() >= 0 && size.get<double>() < 0x1p53 &&
      size.get<double>() == static_cast<double>(static_cast<std::uint64_t>(size.get<double>()))) {
    out = static_cast<std::uint64_t>(size.get<double>());
    return {};
  }
  if (!size.is_number_unsigned())
    return bad_input("index.bad_metadata",
                     "metadata.total_size must be a number of bytes, found " + printable(size.dump(-1, ' ', true)),
                     file);
  out = size.get<std::uint64_t>();
  return {};
}

}  // namespace

Result<ShardIndex> parse_shard_index(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() > checkpoint_limits::kIndexBytes)
    return bad_input("index.too_large",
                     fmt::format("{} bytes, at most {} are read", bytes.size(), checkpoint_limits::kIndexBytes), file);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (const auto zero = text.find('\0');
      zero != std::string_view::npos)  // the JSON parser would stop there and see no more
    return bad_input("index.syntax", "zero byte in the index", file, zero);
  CONCORD_TRY(const Json root,
              parse_json(text, file, "index", {.max_depth = 16, .max_values = checkpoint_limits::kTensors + 10'000}));
  if (!root.is_object() || !root.contains("weight_map"))
    return bad_input("index.missing_weight_map", "a shard index must be an object with a weight_map", file);
  const Json& map = root["weight_map"];
  if (!map.is_object() || map.empty())
    return bad_input("index.bad_weight_map", "weight_map must be an object that is not empty", file);
  ShardIndex out;
  std::map<std::string, std::uint32_t> shards;
  for (const auto& [tensor, shard] : map.items()) {
    if (!shard.is_string())
      return bad_input("index.bad_weight_map", fmt::format("weight_map \"{}\" must name a file", printable(tensor)),
                       file);
    const auto& path = shard.get_ref<const std::string&>();
    if (!stays_below(path))
      return bad_input(
          "index.path_escape",
          fmt::format("weight_map \"{}\": \"{}\" is not a path below the index", printable(tensor), printable(path)),
          file);
    shards.emplace(path, 0);
  }
  if (shards.size() > checkpoint_limits::kShards)
    return bad_input("index.too_many_shards",
                     fmt::format("{} shards, at most {} are read", shards.size(), checkpoint_limits::kShards), file);
  for (auto& [path, number] : shards) {
    number = static_cast<std::uint32_t>(out.shards.size());
    out.shards.push_back(path);
  }
  for (const auto& [tensor, shard] : map.items())
    out.weight_map.emplace_back(tensor, shards[shard.get_ref<const std::string&>()]);
  CONCORD_CHECK(read_total_size(root, file, out.total_size));
  return out;
}

Status check_index(const ShardIndex& index, std::span<const TensorInfo> tensors, const std::string& index_file) {
  const auto refuse = [&](std::string_view code, std::string text) {
    return bad_input(code, std::move(text), index_file);
  };
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    total += tensors[i].bytes;  // each is at most the size of a mapped file
    if (i > 0 && tensors[i].name == tensors[i - 1].name)
      return refuse("index.duplicate_tensor",
                    fmt::format("tensor \"{}\" is in two shards, \"{}\" and \"{}\"", printable(tensors[i].name),
                                index.shards[tensors[i - 1].file], index.shards[tensors[i].file]));
  }
  auto entry = index.weight_map.begin();  // both lists are in name order
  for (const TensorInfo& t : tensors) {
    if (entry != index.weight_map.end() && entry->first < t.name) break;
    if (entry == index.weight_map.end() || entry->first != t.name)
      return refuse("index.tensor_not_in_index", fmt::format("tensor \"{}\" of shard \"{}\" is not in the index",
                                                             printable(t.name), index.shards[t.file]));
    if (entry->second != t.file)
      return refuse("index.tensor_not_in_shard",
                    fmt::format("the index places \"{}\" in \"{}\", it is in \"{}\"", printable(t.name),
                                index.shards[entry->second], index.shards[t.file]));
    ++entry;
  }
  if (entry != index.weight_map.end())
    return refuse("index.tensor_not_in_shard", fmt::format("tensor \"{}\" is not in shard \"{}\"",
                                                           printable(entry->first), index.shards[entry->second]));
  if (index.total_size && *index.total_size != total)
    return refuse("index.total_size",
                  fmt::format("metadata.total_size is {}, the tensors take {} bytes", *index.total_size, total));
  return {};
}

}  // namespace concord
