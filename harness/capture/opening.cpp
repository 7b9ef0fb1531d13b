// Openings: one leaf of a capture, or its context alone, with the proof that it lies under the root. Every opening
// carries the context leaf and its own proof, because only the context says how many leaves there are and which
// positions, dtype and width the bytes of a data leaf have.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/text.hpp"
#include "capture/base64.hpp"
#include "capture/capture.hpp"
#include "capture/format.hpp"

namespace concord {
namespace {

constexpr const char* kOpeningSchema = "concord.opening/1";
constexpr std::size_t kMaxProof = 64;  // a tree of 2^64 leaves

OrderedJson proof_json(std::span<const Sha256> leaves, std::size_t index) {
  OrderedJson out = OrderedJson::array();
  for (const Sha256& hash : merkle_proof(leaves, index)) out.push_back(hex(hash));
  return out;
}

OrderedJson context_json(const CaptureHeader& h, std::span<const Sha256> leaves) {
  return {{"workload_digest", h.workload_digest},
          {"nonce", h.nonce},
          {"weights_digest", h.weights_digest},
          {"dtype", std::string(dtype_name(h.dtype))},
          {"hidden", h.hidden},
          {"layers", h.layers},
          {"positions", h.positions},
          {"tokens", h.tokens},
          {"proof", proof_json(leaves, 0)}};
}

Result<OrderedJson> begin_opening(const Capture& capture, std::span<const Sha256> leaves) {
  const Sha256 computed = merkle_root(leaves);
  if (computed != capture.root())
    return bad_input("capture.root_mismatch",
                     fmt::format("the file states Merkle root {}, its contents give {}: nothing in it can be opened",
                                 hex(capture.root()), hex(computed)),
                     capture.path());
  return OrderedJson{{"schema", kOpeningSchema},           {"leaf_rule", kLeafRule},
                     {"chunk_positions", kChunkPositions}, {"root", hex(computed)},
                     {"leaf_count", leaves.size()},        {"context", context_json(capture.header(), leaves)}};
}

Result<Sha256> read_hash(const JsonFields& fields, const std::string& key) {
  CONCORD_TRY(const std::string text, fields.string(key));
  const auto hash = sha256_from_hex(text);
  if (!hash)
    return fields.error("bad_field",
                        fmt::format("\"{}\" must be 64 hexadecimal digits, found {}", key, printable(text)));
  return *hash;
}

Result<std::vector<Sha256>> read_proof(const JsonFields& fields) {
  CONCORD_TRY(const auto texts, fields.strings("proof"));
  std::vector<Sha256> out;
  for (const std::string& text : texts) {
    const auto hash = sha256_from_hex(text);
    if (!hash || out.size() == kMaxProof)
      return fields.error(
          "bad_field", fmt::format("\"proof\" must be at most {} hashes of 64 hexadecimal digits, found {}", kMaxProof,
                                   printable(text)));
    out.push_back(*hash);
  }
  return out;
}

// The context as the part of a capture's header that leaf 0 binds, checked as a capture's header is.
Result<CaptureHeader> read_context(const JsonFields& fields) {
  CONCORD_CHECK(fields.only(
      {"workload_digest", "nonce", "weights_digest", "dtype", "hidden", "layers", "positions", "tokens", "proof"}));
  CaptureHeader h;
  CONCORD_TRY(h.workload_digest, fields.string("workload_digest"));
  CONCORD_TRY(h.nonce, fields.string("nonce"));
  CONCORD_TRY(h.weights_digest, fields.string("weights_digest"));
  CONCORD_TRY(const std::string dtype, fields.string("dtype"));
  const auto known = dtype_from_name(dtype);
  if (!known)
    return fields.error("bad_field",
                        fmt::format("\"context.dtype\" must be F32, F16 or BF16, found {}", printable(dtype)));
  h.dtype = *known;
  CONCORD_TRY(h.hidden, fields.integer("hidden", 1, kMaxHidden));
  CONCORD_TRY(h.layers, fields.integers("layers", 0, kMaxModelLayers));
  CONCORD_TRY(const auto positions, fields.integers("positions", 0, kMaxTokens));
  CONCORD_TRY(const auto tokens, fields.integers("tokens", 0, INT32_MAX));
  h.positions.assign(positions.begin(), positions.end());
  h.tokens.assign(tokens.begin(), tokens.end());
  h.model_layers = kMaxModelLayers;  // not part of the context
  if (const Status status = check_plan(h, fields.file()); !status)
    return fields.error("bad_field", "context: " + status.error().message);
  return h;
}

// What an opening claims, before any hash is compared.
struct Claim {
  CaptureHeader context;
  Sha256 root{};
  std::vector<Sha256> context_proof, leaf_proof;
  std::optional<Sha256> leaf;  // absent in an opening of the context alone
  std::size_t leaf_index = 0;
};

Status read_leaf(const JsonFields& fields, Claim& claim) {
  const CaptureHeader& h = claim.context;
  CONCORD_CHECK(fields.only({"layer", "chunk", "index", "positions", "bytes", "proof"}));
  CONCORD_TRY(const std::int64_t layer, fields.integer("layer", 0, kMaxModelLayers));
  CONCORD_TRY(const std::int64_t chunk, fields.integer("chunk", 0, static_cast<std::int64_t>(chunk_count(h)) - 1));
  CONCORD_TRY(const std::int64_t index, fields.integer("index", 1));
  CONCORD_TRY(const auto positions, fields.integers("positions", 0, kMaxTokens));
  CONCORD_TRY(const std::string text, fields.string("bytes"));
  CONCORD_TRY(claim.leaf_proof, read_proof(fields));
  const auto at = std::ranges::find(h.layers, layer);
  if (at == h.layers.end())
    return fields.error("bad_field", fmt::format("layer {} is not among the context's layers", layer));
  const auto chunk_index = static_cast<std::size_t>(chunk);
  claim.leaf_index = 1 + static_cast<std::size_t>(at - h.layers.begin()) * chunk_count(h) + chunk_index;
  if (static_cast<std::uint64_t>(index) != claim.leaf_index)
    return fields.error("bad_field", fmt::format("layer {}, chunk {} is leaf {}, found index {}", layer, chunk,
                                                 claim.leaf_index, index));
  const auto expected = std::span(h.positions).subspan(chunk_index * kChunkPositions, chunk_rows(h, chunk_index));
  if (!std::ranges::equal(positions, expected))
    return fields.error("bad_field", "the positions are not those of the context's chunk");
  const auto bytes = from_base64(text);
  if (!bytes) return fields.error("bad_field", "\"bytes\" is not strict base64");
  if (bytes->size() != expected.size() * row_bytes(h))
    return fields.error("bad_field",
                        fmt::format("the chunk has {} bytes, found {}", expected.size() * row_bytes(h), bytes->size()));
  claim.leaf = data_leaf(static_cast<std::uint32_t>(layer), static_cast<std::uint32_t>(chunk), *bytes);
  return {};
}

Result<Claim> read_claim(const JsonFields& fields) {
  CONCORD_CHECK(fields.schema(kOpeningSchema));
  CONCORD_CHECK(fields.only({"schema", "leaf_rule", "chunk_positions", "root", "leaf_count", "context", "leaf"}));
  Claim claim;
  CONCORD_TRY(const std::string rule, fields.string("leaf_rule"));
  CONCORD_TRY(const std::int64_t chunk, fields.integer("chunk_positions"));
  if (rule != kLeafRule || chunk != kChunkPositions)
    return fields.error("bad_field", fmt::format("expected leaf rule {} with {} positions in a chunk, found {} with {}",
                                                 kLeafRule, kChunkPositions, printable(rule), chunk));
  CONCORD_TRY(claim.root, read_hash(fields, "root"));
  CONCORD_TRY(const JsonFields context, fields.object("context"));
  CONCORD_TRY(claim.context, read_context(context));
  CONCORD_TRY(claim.context_proof, read_proof(context));
  CONCORD_TRY(const std::int64_t count, fields.integer("leaf_count", 1));
  if (static_cast<std::uint64_t>(count) != leaf_count(claim.context))
    return fields.error(
        "bad_field", fmt::format("the context makes {} leaves, found leaf_count {}", leaf_count(claim.context), count));
  if (!fields.has("leaf")) return claim;
  CONCORD_TRY(const JsonFields leaf, fields.object("leaf"));
  CONCORD_CHECK(read_leaf(leaf, claim));
  return claim;
}

}  // namespace

Result<OrderedJson> make_context_opening(const Capture& capture) { return begin_opening(capture, capture.leaves()); }

Result<OrderedJson> make_opening(const Capture& capture, std::int64_t layer, std::size_t chunk) {
  const CaptureHeader& h = capture.header();
  const std::span<const std::byte> bytes = capture.chunk(layer, chunk);
  if (bytes.empty())
    return fail(ErrorKind::kUsage, "opening.no_such_leaf",
                fmt::format("the capture has hidden-state indices [{}] with chunks 0 to {}; found layer {}, chunk {}",
                            fmt::join(h.layers, ", "), capture.chunks() - 1, layer, chunk),
                capture.path());
  const std::vector<Sha256> leaves = capture.leaves();
  CONCORD_TRY(OrderedJson out, begin_opening(capture, leaves));
  const auto layer_index = static_cast<std::size_t>(std::ranges::lower_bound(h.layers, layer) - h.layers.begin());
  const std::size_t index = 1 + layer_index * capture.chunks() + chunk;
  const auto positions = std::span(h.positions).subspan(chunk * kChunkPositions, chunk_rows(h, chunk));
  out["leaf"] = {{"layer", layer},
                 {"chunk", chunk},
                 {"index", index},
                 {"positions", std::vector(positions.begin(), positions.end())},
                 {"bytes", to_base64(bytes)},
                 {"proof", proof_json(leaves, index)}};
  return out;
}

Status check_opening(const Json& opening, const Sha256& root, const std::string& file) {
  CONCORD_TRY(const JsonFields fields, JsonFields::from(opening, file, "opening"));
  CONCORD_TRY(const Claim claim, read_claim(fields));
  if (claim.root != root)
    return fields.error("wrong_root",
                        fmt::format("the opening is for root {}, expected {}", hex(claim.root), hex(root)));
  const std::size_t count = leaf_count(claim.context);
  if (!merkle_verify(context_leaf(claim.context), 0, count, claim.context_proof, root))
    return fields.error("bad_proof", "the context does not lie under the root: it or its proof was changed");
  if (claim.leaf && !merkle_verify(*claim.leaf, claim.leaf_index, count, claim.leaf_proof, root))
    return fields.error(
        "bad_proof",
        fmt::format("leaf {} does not lie under the root: its bytes or its proof were changed", claim.leaf_index));
  return {};
}

}  // namespace concord
