// Reads a capture. Nothing in it is trusted before it is checked; the states themselves may hold anything, NaN too.
#include "capture/capture.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "capture/format.hpp"
#include "checkpoint/parse.hpp"

namespace concord {
namespace {

// The safetensors container, its tensors by name.
struct Container {
  ParsedFile parsed;
  std::map<std::string, const TensorInfo*> tensors;
  std::span<const std::byte> bytes;

  std::span<const std::byte> data(const TensorInfo& t) const {
    return bytes.subspan(static_cast<std::size_t>(t.offset), static_cast<std::size_t>(t.bytes));
  }
};

Result<Container> read_container(std::span<const std::byte> bytes, const std::string& file) {
  Container out;
  out.bytes = bytes;
  CONCORD_TRY(out.parsed, parse_safetensors(bytes, file));
  for (const TensorInfo& tensor : out.parsed.tensors) out.tensors.emplace(tensor.name, &tensor);
  return out;
}

// A tensor by name, of the expected type and rank.
Result<const TensorInfo*> find_tensor(const Container& container, const std::string& name, std::string_view dtype,
                                      std::size_t rank, const std::string& file) {
  const auto it = container.tensors.find(name);
  if (it == container.tensors.end())
    return bad_input("capture.missing_tensor", fmt::format("tensor \"{}\" is missing", name), file);
  if (it->second->type != dtype)
    return bad_input("capture.dtype_mismatch",
                     fmt::format("tensor \"{}\" must be {}, found {}", name, dtype, it->second->type), file);
  if (it->second->shape.size() != rank)
    return bad_input("capture.bad_shape",
                     fmt::format("tensor \"{}\" must have {} dimensions, found shape {}", name, rank,
                                 shape_string(it->second->shape)),
                     file);
  return it->second;
}

Result<std::vector<std::int32_t>> read_integers(const Container& container, const std::string& name,
                                                const std::string& file) {
  CONCORD_TRY(const TensorInfo* tensor, find_tensor(container, name, "I32", 1, file));
  if (tensor->shape[0] > kMaxTokens)
    return bad_input(
        "capture.bad_size",
        fmt::format("tensor \"{}\" may have at most {} elements, found {}", name, kMaxTokens, tensor->shape[0]), file);
  const std::span<const std::byte> data = container.data(*tensor);
  std::vector<std::int32_t> out(static_cast<std::size_t>(tensor->shape[0]));
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint32_t v = 0;
    for (std::size_t b = 0; b < 4; ++b) v |= std::to_integer<std::uint32_t>(data[4 * i + b]) << (8 * b);
    out[i] = static_cast<std::int32_t>(v);
  }
  return out;
}

// Every tensor the metadata announces is there, and none besides.
Status check_tensors(const Container& container, const std::vector<std::int64_t>& layers, std::int64_t announced,
                     const std::string& file) {
  std::set<std::string> expected{"tokens", "positions"};
  for (const std::int64_t layer : layers) expected.insert(state_name(layer));
  if (announced != static_cast<std::int64_t>(layers.size()) + 2)
    return bad_input(
        "capture.tensor_count",
        fmt::format("{} layers make {} tensors, the metadata expects {}", layers.size(), layers.size() + 2, announced),
        file);
  for (const auto& [name, tensor] : container.tensors)
    if (!expected.contains(name))
      return bad_input("capture.unexpected_tensor", fmt::format("tensor \"{}\" is not announced", printable(name)),
                       file);
  for (const std::string& name : expected)
    if (!container.tensors.contains(name))
      return bad_input("capture.missing_tensor",
                       fmt::format("{} tensors are announced, {} came; \"{}\" is missing", announced,
                                   container.tensors.size(), name),
                       file);
  return {};
}

}  // namespace

Result<Capture> Capture::open(const std::filesystem::path& path) {
  CONCORD_TRY(MappedFile file, MappedFile::open(path));
  const auto shared = std::make_shared<const MappedFile>(std::move(file));
  CONCORD_TRY(Capture capture, from_bytes(shared->bytes(), path.string()));
  capture.file_ = shared;
  return capture;
}

Result<Capture> Capture::from_bytes(std::span<const std::byte> bytes, const std::string& file) {
  CONCORD_TRY(const Container container, read_container(bytes, file));
  CONCORD_TRY(const DecodedMetadata metadata, decode_metadata(container.parsed.metadata, file));
  Capture capture;
  capture.path_ = file;
  capture.root_ = metadata.root;
  CaptureHeader& header = capture.header_ = metadata.header;
  CONCORD_CHECK(check_tensors(container, header.layers, metadata.expected_tensors, file));
  CONCORD_TRY(header.tokens, read_integers(container, "tokens", file));
  CONCORD_TRY(header.positions, read_integers(container, "positions", file));
  CONCORD_CHECK(check_plan(header, file));
  CONCORD_CHECK(check_tokens(header.tokens, file));
  const Shape expected{static_cast<std::int64_t>(header.positions.size()), header.hidden};
  for (const std::int64_t layer : header.layers) {
    CONCORD_TRY(const TensorInfo* tensor, find_tensor(container, state_name(layer), dtype_name(header.dtype), 2, file));
    if (tensor->shape != expected)
      return bad_input("capture.bad_shape",
                       fmt::format("tensor \"{}\" must have shape {}, found {}", state_name(layer),
                                   shape_string(expected), shape_string(tensor->shape)),
                       file);
    capture.states_.push_back(container.data(*tensor));
  }
  return capture;
}

std::span<const std::byte> Capture::states(std::int64_t layer) const {
  const auto it = std::ranges::lower_bound(header_.layers, layer);
  if (it == header_.layers.end() || *it != layer) return {};
  return states_[static_cast<std::size_t>(it - header_.layers.begin())];
}

std::size_t Capture::chunks() const { return chunk_count(header_); }

std::span<const std::byte> Capture::chunk(std::int64_t layer, std::size_t chunk) const {
  const std::span<const std::byte> rows = states(layer);
  if (rows.empty() || chunk >= chunks()) return {};
  return rows.subspan(chunk * kChunkPositions * row_bytes(header_), chunk_rows(header_, chunk) * row_bytes(header_));
}

std::vector<Sha256> Capture::leaves() const {
  std::vector<Sha256> out(leaf_count(header_));
  out[0] = context_leaf(header_);
  // Leaves are independent, so the order in which threads take them cannot show in the result.
  tbb::parallel_for(std::size_t{0}, out.size() - 1, [&](std::size_t i) {
    const std::int64_t layer = header_.layers[i / chunks()];
    out[1 + i] = data_leaf(static_cast<std::uint32_t>(layer), static_cast<std::uint32_t>(i % chunks()),
                           chunk(layer, i % chunks()));
  });
  return out;
}

Status Capture::verify() const {
  const Sha256 computed = merkle_root(leaves());
  if (computed == root_) return {};
  return bad_input("capture.root_mismatch",
                   fmt::format("the file states Merkle root {}, its contents give {}: it was changed after it "
                               "was written",
                               hex(root_), hex(computed)),
                   path_);
}

}  // namespace concord
