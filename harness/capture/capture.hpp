// The capture file: hidden states of one workload under one configuration, in one safetensors file, committed to by a
// Merkle root. Format in docs/captures.md. Knows nothing of how the states were computed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "digest/digest.hpp"

namespace concord {

inline constexpr std::int64_t kChunkPositions = 32;  // positions pooled in one Merkle leaf and one comparison chunk
inline constexpr const char* kCaptureSchema = "concord.capture/1";

// Everything a capture says about itself besides the states. All of it goes into the safetensors __metadata__ (values
// are strings, structured ones JSON).
struct CaptureHeader {
  std::string workload_id;      // informative
  std::string workload_digest;  // Workload::digest()
  std::string model;            // informative: name of the model
  std::string weights_digest;   // hex; of the weights as loaded, in the running precision
  std::string source_digest;    // hex; framed model digest of the checkpoint's own stored tensors
  std::string nonce;            // hex; chosen by the verifier side before the run, binds states to one request
  std::string role;             // "prover" or "verifier"
  OrderedJson configuration;    // device, variant, precisions, threads, chunking: docs/captures.md
  OrderedJson provenance;     // machine, program version, build flags, date, kernels (the witness), fallbacks, timings
  std::int64_t hidden = 0;    // elements per position
  DType dtype = DType::kF32;  // F32, F16 or BF16: the declared dtype of the states
  std::int64_t model_layers = 0;        // number of transformer layers L; hidden-state indices run 0..L
  std::int64_t prompt_tokens = 0;       // how many of `tokens` are the prompt
  std::vector<std::int64_t> layers;     // hidden-state indices captured, ascending (0: embedding output, L: final norm)
  std::vector<std::int32_t> positions;  // token positions captured, ascending, the same for every layer
  std::vector<std::int32_t> tokens;     // prompt and generated ids
};

// The leaves: leaf 0 binds the context, then one leaf per (layer, chunk) in order of layer, then chunk.
//   context leaf = SHA-256(00 | "concord.context/1" | text(workload digest) | text(nonce) | text(weights digest) |
//                          u8 dtype tag | u64 hidden | list(layers) | list(positions) | list(tokens))
//   data leaf    = SHA-256(00 | "concord.leaf/1" | u32 hidden-state index | u32 chunk index | u64 bytes |
//                          bytes of the chunk, row-major, little-endian)
//   node         = SHA-256(01 | left | right)
// text(s) is a u32 length and the characters, list(v) a u64 count and u32 values, all little-endian. The left subtree
// holds the largest power of two of leaves smaller than n (RFC 6962, section 2.1).
Sha256 context_leaf(const CaptureHeader& header);
Sha256 data_leaf(std::uint32_t layer, std::uint32_t chunk, std::span<const std::byte> bytes);
Sha256 merkle_root(std::span<const Sha256> leaves);                                   // at least one leaf
std::vector<Sha256> merkle_proof(std::span<const Sha256> leaves, std::size_t index);  // siblings from the leaf upwards
bool merkle_verify(const Sha256& leaf, std::size_t index, std::size_t leaf_count, std::span<const Sha256> proof,
                   const Sha256& root);

// Writes a capture while the states arrive: rows may come in any order, each exactly once, and go to disk at once
// (nothing is held but hashes of complete chunks and the chunks still open). finish() refuses (capture.incomplete) when
// fewer rows came than the header announced. The tokens may be set later than the layout, because a prover learns them
// while it runs; their number is fixed by the header (tokens.size()).
class CaptureWriter {
 public:
  // header.tokens needs only its final size here; layers, positions, hidden, dtype are fixed. Errors: those of
  // Capture::open that concern the header (capture.bad_size, .bad_layers, .bad_positions, .bad_digest, ...),
  // capture.header_overflow, file.create.
  static Result<CaptureWriter> create(const std::filesystem::path& path, CaptureHeader header);
  CaptureWriter(CaptureWriter&&) noexcept;
  CaptureWriter& operator=(CaptureWriter&&) noexcept;
  ~CaptureWriter();

  // One row: hidden-state index `layer`, index into header.positions, hidden * dtype bytes. Errors:
  // capture.duplicate_row, capture.unknown_row, capture.bad_row (wrong number of bytes), file.write. A row that failed
  // to be written counts as missing. Not to be called from two threads at once.
  Status put(std::int64_t layer, std::size_t position_index, std::span<const std::byte> row);
  // The same for `count` rows that follow each other in header.positions: one check, one write, one hash update for
  // each chunk. All of them or none.
  Status put_rows(std::int64_t layer, std::size_t first_index, std::size_t count, std::span<const std::byte> rows);
  // Completes the file: final tokens and provenance, Merkle root, fsync, rename. Returns the root.
  // Errors: capture.incomplete (how many rows are missing, and the first), capture.bad_tokens, capture.header_overflow
  // (provenance longer than the room kept for it), file.write, file.commit. Nothing appears under the final name then,
  // and the call may be repeated.
  Result<Sha256> finish(std::vector<std::int32_t> tokens, OrderedJson provenance);

  const CaptureHeader& header() const;
  const std::string& path() const;

 private:
  struct Impl;
  explicit CaptureWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A capture opened for reading, mapped. Structure, schema, counts and shapes are checked on opening; the Merkle root is
// recomputed by verify(). Errors of open: those of the safetensors reader and, all starting with "capture.":
// schema_version, missing_metadata, bad_metadata, bad_digest, bad_json, unknown_rule, tensor_count, missing_tensor,
// unexpected_tensor, dtype_mismatch, bad_shape, bad_dtype, bad_size, bad_layers, bad_positions, bad_prompt, bad_tokens.
// docs/captures.md says what each means.
class Capture {
 public:
  static Result<Capture> open(const std::filesystem::path& path);
  // The same from bytes that the caller keeps alive; `file` is the name that errors carry.
  static Result<Capture> from_bytes(std::span<const std::byte> bytes, const std::string& file);
  const CaptureHeader& header() const { return header_; }
  const std::string& path() const { return path_; }
  const Sha256& root() const { return root_; }  // as stated in the file
  // All rows of one hidden-state index: positions.size() * hidden elements of header().dtype.
  std::span<const std::byte> states(std::int64_t layer) const;
  std::size_t chunks() const;  // per layer
  // The rows of one chunk of one hidden-state index; empty where there is none.
  std::span<const std::byte> chunk(std::int64_t layer, std::size_t chunk) const;
  std::vector<Sha256> leaves() const;  // recomputed from the bytes
  Status verify() const;               // capture.root_mismatch names what was stated and what was computed

 private:
  std::shared_ptr<const MappedFile> file_;
  CaptureHeader header_;
  std::string path_;
  Sha256 root_{};
  std::vector<std::span<const std::byte>> states_;  // in the order of header_.layers
};

// An opened leaf: the chunk's bytes with its inclusion proof, as a JSON file (schema "concord.opening/1") that a third
// party can check against the root alone. It carries the context (leaf 0) with a proof of its own, which ties the chunk
// to workload, nonce, weights, positions and dtype. make_opening reads a capture (opening.no_such_leaf;
// capture.root_mismatch when the file was changed); make_context_opening opens leaf 0 alone. check_opening needs only
// the JSON and the root the prover committed to. Its errors: opening.schema_version, opening.missing_field,
// .wrong_type, .out_of_range, .unknown_field, opening.bad_field (ill-formed, or against the context),
// opening.wrong_root, opening.bad_proof.
Result<OrderedJson> make_opening(const Capture& capture, std::int64_t layer, std::size_t chunk);
Result<OrderedJson> make_context_opening(const Capture& capture);
Status check_opening(const Json& opening, const Sha256& root, const std::string& file);

}  // namespace concord
