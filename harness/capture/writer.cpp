// Writes a capture while its rows arrive. A row goes to its place in the file at once. A row that is next in its chunk
// is hashed at once too; one that comes early is held until the rows before it have come, so memory is bounded by the
// chunks that are open and out of order.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "capture/capture.hpp"
#include "capture/format.hpp"

namespace concord {
namespace {

constexpr std::size_t kHeaderReserve = 64u << 10;  // room for the provenance that is only known at the end [bytes]
constexpr std::size_t kHeaderAlignment = 64;       // the states start on a cache line [bytes]
constexpr std::size_t kMaxHeader = 64u << 20;      // safetensors readers refuse headers above 100 MB

// Where each part of the file lies. Offsets are relative to the end of the header.
struct Layout {
  std::uint64_t header = 0;  // 8 + length of the JSON with its padding
  std::uint64_t states = 0, tokens = 0, positions = 0, state_bytes = 0;
};

// States first. Only when they end on an odd half word do the int32 tensors go before them: safetensors allows no hole
// for alignment.
Layout lay_out(const CaptureHeader& h) {
  Layout layout;
  layout.state_bytes = h.positions.size() * row_bytes(h);
  const std::uint64_t all_states = layout.state_bytes * h.layers.size();
  const std::uint64_t integers = 4 * (h.tokens.size() + h.positions.size());
  layout.states = all_states % 4 == 0 ? 0 : integers;
  layout.tokens = all_states % 4 == 0 ? all_states : 0;
  layout.positions = layout.tokens + 4 * h.tokens.size();
  return layout;
}

void add_tensor(OrderedJson& header, const std::string& name, std::string_view dtype, Shape shape, std::uint64_t begin,
                std::uint64_t bytes) {
  header[name] = {{"dtype", std::string(dtype)}, {"shape", shape}, {"data_offsets", {begin, begin + bytes}}};
}

// The safetensors header, without length and padding.
std::string header_json(const CaptureHeader& h, const Layout& layout, const Sha256& root) {
  OrderedJson header;
  header["__metadata__"] = encode_metadata(h, root);
  const auto rows = static_cast<std::int64_t>(h.positions.size()), tokens = static_cast<std::int64_t>(h.tokens.size());
  for (std::size_t i = 0; i < h.layers.size(); ++i)
    add_tensor(header, state_name(h.layers[i]), dtype_name(h.dtype), {rows, h.hidden},
               layout.states + i * layout.state_bytes, layout.state_bytes);
  add_tensor(header, "tokens", "I32", {tokens}, layout.tokens, 4 * h.tokens.size());
  add_tensor(header, "positions", "I32", {rows}, layout.positions, 4 * h.positions.size());
  return header.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::vector<std::byte> little_endian(const std::vector<std::int32_t>& values) {
  std::vector<std::byte> out;
  out.reserve(4 * values.size());
  for (const std::int32_t v : values)
    for (unsigned shift = 0; shift < 32; shift += 8)
      out.push_back(static_cast<std::byte>(static_cast<std::uint32_t>(v) >> shift));
  return out;
}

// A chunk some of whose rows have come.
struct OpenChunk {
  Hasher hasher;
  std::size_t next = 0;                                 // the row that is hashed next
  std::map<std::size_t, std::vector<std::byte>> early;  // rows that came before their turn
};

}  // namespace

struct CaptureWriter::Impl {
  CaptureHeader header;
  std::string path;
  AtomicFile file;
  Layout layout;
  std::vector<Sha256> leaves;             // [0] is the context leaf, set at the end
  std::vector<std::uint32_t> received;    // per data leaf, one bit per row
  std::map<std::size_t, OpenChunk> open;  // by data leaf
  bool finished = false;

  std::size_t data_leaf_index(std::size_t layer_index, std::size_t chunk) const {
    return layer_index * chunk_count(header) + chunk;
  }
  void feed(std::size_t leaf, std::size_t row, std::span<const std::byte> bytes);
  Status check_complete() const;
  Result<std::string> final_header(const Sha256& root) const;
};

static_assert(kChunkPositions == 32, "`received` keeps one bit per row of a chunk");

void CaptureWriter::Impl::feed(std::size_t leaf, std::size_t row, std::span<const std::byte> bytes) {
  const std::size_t chunk = leaf % chunk_count(header), rows = chunk_rows(header, chunk);
  const auto [it, fresh] = open.try_emplace(leaf);
  OpenChunk& state = it->second;
  if (fresh)
    begin_data_leaf(state.hasher, static_cast<std::uint32_t>(header.layers[leaf / chunk_count(header)]),
                    static_cast<std::uint32_t>(chunk), rows * row_bytes(header));
  if (row != state.next) {
    state.early.emplace(row, std::vector<std::byte>(bytes.begin(), bytes.end()));
    return;
  }
  state.hasher.update(bytes);
  ++state.next;
  while (!state.early.empty() && state.early.begin()->first == state.next) {
    state.hasher.update(state.early.begin()->second);
    state.early.erase(state.early.begin());
    ++state.next;
  }
  if (state.next < rows) return;
  leaves[1 + leaf] = state.hasher.finish();
  open.erase(it);
}

Status CaptureWriter::Impl::check_complete() const {
  std::size_t missing = 0;
  std::string first;
  for (std::size_t leaf = 0; leaf < received.size(); ++leaf) {
    const std::size_t chunk = leaf % chunk_count(header), rows = chunk_rows(header, chunk);
    for (std::size_t row = 0; row < rows; ++row) {
      if (received[leaf] >> row & 1u) continue;
      if (++missing <= 3)
        first +=
            fmt::format("{}layer {} position {}", first.empty() ? "" : ", ", header.layers[leaf / chunk_count(header)],
                        header.positions[chunk * kChunkPositions + row]);
    }
  }
  if (missing == 0) return {};
  return bad_input("capture.incomplete",
                   fmt::format("{} of {} rows are missing: {}{}", missing,
                               header.layers.size() * header.positions.size(), first, missing > 3 ? ", ..." : ""),
                   path);
}

// The header as it goes to the file. It is read back by the reader's own rules first, so that nothing is written that
// opening would refuse.
Result<std::string> CaptureWriter::Impl::final_header(const Sha256& root) const {
  std::string json = header_json(header, layout, root);
  if (json.size() + 8 > layout.header)
    return bad_input("capture.header_overflow",
                     fmt::format("the header needs {} bytes, {} were reserved; shorten the provenance", json.size(),
                                 layout.header - 8),
                     path);
  CONCORD_TRY(const Json parsed, parse_json(json, path, "capture"));
  CONCORD_TRY(const DecodedMetadata decoded, decode_metadata(parsed.at("__metadata__"), path));
  json.resize(layout.header - 8, ' ');
  std::string out;
  for (unsigned shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(json.size() >> shift));
  return out + json;
}

CaptureWriter::CaptureWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CaptureWriter::CaptureWriter(CaptureWriter&&) noexcept = default;
CaptureWriter& CaptureWriter::operator=(CaptureWriter&&) noexcept = default;
CaptureWriter::~CaptureWriter() = default;

Result<CaptureWriter> CaptureWriter::create(const std::filesystem::path& path, CaptureHeader header) {
  CONCORD_CHECK(check_plan(header, path.string()));
  Layout layout = lay_out(header);
  const std::string draft = header_json(header, layout, {});
  CONCORD_TRY(const Json parsed, parse_json(draft, path.string(), "capture"));
  CONCORD_TRY(const DecodedMetadata decoded, decode_metadata(parsed.at("__metadata__"), path.string()));
  layout.header = (8 + draft.size() + kHeaderReserve + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
  if (layout.header > kMaxHeader)
    return bad_input(
        "capture.header_overflow",
        fmt::format("the header needs {} bytes, at most {} are allowed", draft.size(), kMaxHeader - kHeaderReserve),
        path.string());
  CONCORD_TRY(AtomicFile file, AtomicFile::create(path));
  auto impl =
      std::make_unique<Impl>(Impl{std::move(header), path.string(), std::move(file), layout, {}, {}, {}, false});
  impl->leaves.resize(leaf_count(impl->header));
  impl->received.resize(impl->leaves.size() - 1);
  return CaptureWriter(std::move(impl));
}

Status CaptureWriter::put(std::int64_t layer, std::size_t position_index, std::span<const std::byte> row) {
  Impl& w = *impl_;
  const auto& layers = w.header.layers;
  const auto it = std::ranges::lower_bound(layers, layer);
  if (w.finished)
    return fail(ErrorKind::kInternal, "capture.finished", "a row came after the capture was finished", w.path);
  if (it == layers.end() || *it != layer || position_index >= w.header.positions.size())
    return bad_input("capture.unknown_row",
                     fmt::format("layer {}, row {} is not in the plan of {} layers and {} positions", layer,
                                 position_index, layers.size(), w.header.positions.size()),
                     w.path);
  if (row.size() != row_bytes(w.header))
    return bad_input("capture.bad_row", fmt::format("a row has {} bytes, found {}", row_bytes(w.header), row.size()),
                     w.path);
  const auto layer_index = static_cast<std::size_t>(it - layers.begin());
  const std::size_t leaf = w.data_leaf_index(layer_index, position_index / kChunkPositions);
  const std::uint32_t bit = 1u << (position_index % kChunkPositions);
  if (w.received[leaf] & bit)
    return bad_input("capture.duplicate_row",
                     fmt::format("layer {}, position {} came twice", layer, w.header.positions[position_index]),
                     w.path);
  const std::uint64_t offset = w.layout.states + layer_index * w.layout.state_bytes + position_index * row.size();
  CONCORD_CHECK(w.file.write_at(w.layout.header + offset, row));
  w.received[leaf] |= bit;
  w.feed(leaf, position_index % kChunkPositions, row);
  return {};
}

Result<Sha256> CaptureWriter::finish(std::vector<std::int32_t> tokens, OrderedJson provenance) {
  Impl& w = *impl_;
  if (w.finished) return fail(ErrorKind::kInternal, "capture.finished", "the capture was finished before", w.path);
  if (tokens.size() != w.header.tokens.size())
    return bad_input("capture.bad_tokens",
                     fmt::format("{} tokens were announced, {} came", w.header.tokens.size(), tokens.size()), w.path);
  CONCORD_CHECK(check_tokens(tokens, w.path));
  CONCORD_CHECK(w.check_complete());
  w.header.tokens = std::move(tokens);
  w.header.provenance = std::move(provenance);
  w.leaves[0] = context_leaf(w.header);
  const Sha256 root = merkle_root(w.leaves);
  CONCORD_TRY(const std::string header, w.final_header(root));
  CONCORD_CHECK(w.file.write_at(w.layout.header + w.layout.tokens, little_endian(w.header.tokens)));
  CONCORD_CHECK(w.file.write_at(w.layout.header + w.layout.positions, little_endian(w.header.positions)));
  CONCORD_CHECK(w.file.write_at(0, std::as_bytes(std::span(header.data(), header.size()))));
  CONCORD_CHECK(w.file.commit());
  w.finished = true;
  return root;
}

}  // namespace concord
