// Reading model files: safetensors (single, sharded) and GGUF. Memory-mapped; nothing is trusted before it is checked.
// Knows tensors by name, not what a model does with them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "base/tensor.hpp"

namespace concord {

// One tensor of a checkpoint.
struct TensorInfo {
  std::string name;
  std::string type;  // "F32", "BF16", "Q4_K", ...: safetensors token or ggml type name
  Shape shape;       // row-major, slowest axis first (GGUF's reversed order is undone here)
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;   // stored size [bytes]
  std::uint64_t offset = 0;  // position of the first byte in its file [bytes]
  std::uint32_t file = 0;    // index into Checkpoint::files()
  bool decodable = false;    // read() can turn it into floats
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // FILE.safetensors, FILE.gguf, a folder (with model.safetensors.index.json or model.safetensors or exactly one of
  // *.safetensors / *.gguf), or an index file itself. The format is taken from the content, not the name.
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& path);

  virtual std::string format() const = 0;  // "safetensors", "safetensors (sharded)", "gguf v3"
  const std::vector<std::string>& files() const { return files_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in name order
  const TensorInfo* find(const std::string& name) const;               // nullptr when absent
  // safetensors: __metadata__ (of all shards together); GGUF: every key with its typed value, arrays included. Floats
  // may be non-finite, and strings of GGUF are the stored bytes, UTF-8 or not: dump() with
  // Json::error_handler_t::replace.
  const Json& metadata() const { return metadata_; }

  // The stored bytes, valid as long as the checkpoint.
  virtual std::span<const std::byte> raw(const TensorInfo& tensor) const = 0;

  // Elements [begin, begin + count) in row-major order, decoded bit-exactly into float32 (every supported stored type
  // fits: F64 is rounded once). `out` has room for count floats. begin and count must be multiples of the block size
  // for block types (see block_size()). Error checkpoint.not_decodable names the type; checkpoint.bad_range is a
  // caller's mistake. Safe to call from several threads.
  virtual Status read_f32(const TensorInfo& tensor, std::uint64_t begin, std::uint64_t count, float* out) const = 0;
  virtual std::uint64_t block_size(const TensorInfo& tensor) const = 0;  // elements per stored block; 1 for plain types

  // The stored bytes of this tensor are not needed soon: their memory goes back to the page cache, so that a mapped
  // file does not count as this program's. They may still be read, at the price of mapping them again. Thread-safe.
  virtual void release(const TensorInfo&) const {}

  // checkpoint.file_changed when a file was changed, replaced or removed since it was mapped: what was read may then be
  // a mixture. A file that shrinks while it is being read still raises SIGBUS; this narrows the window and tells apart
  // a replaced file from a broken run.
  virtual Status unchanged() const = 0;

 protected:
  std::vector<std::string> files_;
  std::vector<TensorInfo> tensors_;
  Json metadata_ = Json::object();
};

// A checkpoint over the bytes of one file that the caller keeps alive; `name` stands for the file in errors.
Result<std::unique_ptr<Checkpoint>> open_checkpoint_bytes(std::span<const std::byte> bytes, const std::string& name);

// A matrix found by HfTensors, whose rows come in Hugging Face's order. Valid as long as the checkpoint.
class HfMatrix {
 public:
  const TensorInfo& info() const { return *info_; }
  // Rows [begin, end) as float32. Error: checkpoint.not_decodable. Safe to call from several threads.
  Status read_rows(std::int64_t begin, std::int64_t end, float* out) const;
  // All stored bytes; empty where the file has the rows in another order.
  std::span<const std::byte> stored_in_order() const;

 private:
  friend class HfTensors;
  const Checkpoint* checkpoint_ = nullptr;
  const TensorInfo* info_ = nullptr;
  std::int64_t heads_ = 0;  // of a permuted matrix, else 0
};

// Access by Hugging Face names whatever the file: for GGUF, "model.layers.3.self_attn.q_proj.weight" is found as
// "blk.3.attn_q.weight", and the row permutation that llama.cpp's converter applies to Q and K (weights and biases) of
// `llama`-architecture files is undone.
class HfTensors {
 public:
  // `heads` and `kv_heads` are needed to undo the permutation; they are ignored for other files.
  HfTensors(const Checkpoint& checkpoint, std::int64_t heads, std::int64_t kv_heads);

  bool has(const std::string& hf_name) const;
  // The stored tensor behind a Hugging Face name, or nullptr.
  const TensorInfo* info(const std::string& hf_name) const;
  // The whole tensor as float32, row-major, shape checked against `expected`. Errors: checkpoint.missing_tensor,
  // checkpoint.shape_mismatch (both shapes named), checkpoint.not_decodable, checkpoint.bad_heads (rows that `heads`
  // does not divide evenly), checkpoint.file_changed.
  Result<std::vector<float>> read(const std::string& hf_name, const Shape& expected) const;
  // The same for a matrix, to be read a few rows at a time. Errors as read(), but for checkpoint.not_decodable.
  Result<HfMatrix> matrix(const std::string& hf_name, const Shape& expected) const;

 private:
  Result<const TensorInfo*> find(const std::string& hf_name, const Shape& expected) const;
  // Heads of a tensor whose rows are permuted in the file, 0 where they are not.
  Result<std::int64_t> permuted_heads(const std::string& hf_name, const TensorInfo& tensor) const;

  const Checkpoint& checkpoint_;
  std::int64_t heads_, kv_heads_;
  bool gguf_ = false;
  bool permuted_ = false;  // GGUF with general.architecture == "llama"
};

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; empty when there is no counterpart.
std::string gguf_name(const std::string& hf_name);

}  // namespace concord
