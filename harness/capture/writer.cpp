// Writes a capture while its rows arrive. Rows go to their place in the file at once. Rows that are next in their chunk
// are hashed at once too; those that come early are held until the rows before them have come, so memory is bounded by
// the chunks that are open and out of order. Rows in order allocate nothing once the hashers exist.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
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
  std::map<std::size_t, std::vector<std::byte>> early;  // runs that came before their turn, by their first row
};

// A run of rows within one chunk.
struct Run {
  std::size_t leaf = 0;              // data leaf
  std::size_t first = 0, count = 0;  // rows of the chunk
  std::span<const std::byte> bytes;
  std::uint32_t mask() const { return (count == 32 ? ~0u : (1u << count) - 1u) << first; }
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

  std::vector<std::map<std::size_t, OpenChunk>::node_type> spare;  // chunks done with, for their memory
  OpenChunk& chunk(std::size_t leaf);
  void feed(const Run& run);
  template <class Visit>
  Status each_run(std::size_t layer_index, std::size_t first, std::span<const std::byte> rows, Visit visit) const;
  Status check_complete() const;
  Result<std::string> final_header(const Sha256& root) const;
};

static_assert(kChunkPositions == 32, "`received` keeps one bit per row of a chunk");

OpenChunk& CaptureWriter::Impl::chunk(std::size_t leaf) {
  if (const auto it = open.find(leaf); it != open.end()) return it->second;
  if (!spare.empty()) {
    spare.back().key() = leaf;
    open.insert(std::move(spare.back()));
    spare.pop_back();
  }
  OpenChunk& fresh = open[leaf];
  const std::size_t index = leaf % chunk_count(header);
  fresh.next = 0;
  begin_data_leaf(fresh.hasher, static_cast<std::uint32_t>(header.layers[leaf / chunk_count(header)]),
                  static_cast<std::uint32_t>(index), chunk_rows(header, index) * row_bytes(header));
  return fresh;
}

void CaptureWriter::Impl::feed(const Run& run) {
  OpenChunk& state = chunk(run.leaf);
  if (run.first != state.next) {
    state.early.emplace(run.first, std::vector<std::byte>(run.bytes.begin(), run.bytes.end()));
    return;
  }
  state.hasher.update(run.bytes);
  state.next += run.count;
  while (!state.early.empty() && state.early.begin()->first == state.next) {
    const std::vector<std::byte>& held = state.early.begin()->second;
    state.hasher.update(held);
    state.next += held.size() / row_bytes(header);
    state.early.erase(state.early.begin());
  }
  if (state.next < chunk_rows(header, run.leaf % chunk_count(header))) return;
  leaves[1 + run.leaf] = state.hasher.finish();
  spare.push_back(open.extract(run.leaf));
}

// Cuts rows [first, ...) of one layer where chunks end.
template <class Visit>
Status CaptureWriter::Impl::each_run(std::size_t layer_index, std::size_t first, std::span<const std::byte> rows,
                                     Visit visit) const {
  const std::size_t row = row_bytes(header), end = first + rows.size() / row;
  for (std::size_t at = first; at < end;) {
    const std::size_t in_chunk = at % kChunkPositions,
                      count = std::min<std::size_t>(kChunkPositions - in_chunk, end - at);
    CONCORD_CHECK(visit(Run{layer_index * chunk_count(header) + at / kChunkPositions, in_chunk, count,
                            rows.subspan((at - first) * row, count * row)}));
    at += count;
  }
  return {};
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
      std::make_unique<Impl>(Impl{std::move(header), path.string(), std::move(file), layout, {}, {}, {}, false, {}});
  impl->leaves.resize(leaf_count(impl->header));
  impl->received.resize(impl->leaves.size() - 1);
  return CaptureWriter(std::move(impl));
}

const CaptureHeader& CaptureWriter::header() const { return impl_->header; }
const std::string& CaptureWriter::path() const { return impl_->path; }

Status CaptureWriter::put(std::int64_t layer, std::size_t position_index, std::span<const std::byte> row) {
  return put_rows(layer, position_index, 1, row);
}

Status CaptureWriter::put_rows(std::int64_t layer, std::size_t first_index, std::size_t count,
                               std::span<const std::byte> rows) {
  Impl& w = *impl_;
  const auto& layers = w.header.layers;
  const auto it = std::ranges::lower_bound(layers, layer);
  const std::size_t positions = w.header.positions.size();
  if (w.finished)
    return fail(ErrorKind::kInternal, "capture.finished", "a row came after the capture was finished", w.path);
  if (it == layers.end() || *it != layer || count < 1 || first_index >= positions || count > positions - first_index)
    return bad_input("capture.unknown_row",
                     fmt::format("layer {}, rows {} to {} are not in the plan of {} layers and {} positions", layer,
                                 first_index, first_index + count - 1, layers.size(), positions),
                     w.path);
  if (rows.size() != count * row_bytes(w.header))
    return bad_input("capture.bad_row",
                     fmt::format("{} rows have {} bytes, found {}", count, count * row_bytes(w.header), rows.size()),
                     w.path);
  const auto layer_index = static_cast<std::size_t>(it - layers.begin());
  CONCORD_CHECK(w.each_run(layer_index, first_index, rows, [&](const Run& run) -> Status {
    const std::uint32_t twice = w.received[run.leaf] & run.mask();
    if (twice == 0) return {};
    const std::size_t row = run.leaf % chunk_count(w.header) * kChunkPositions + std::countr_zero(twice);
    return bad_input("capture.duplicate_row",
                     fmt::format("layer {}, position {} came twice", layer, w.header.positions[row]), w.path);
  }));
  const std::uint64_t offset = w.layout.states + layer_index * w.layout.state_bytes + first_index * row_bytes(w.header);
  CONCORD_CHECK(w.file.write_at(w.layout.header + offset, rows));
  return w.each_run(layer_index, first_index, rows, [&](const Run& run) -> Status {
    w.received[run.leaf] |= run.mask();
    w.feed(run);
    return {};
  });
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
