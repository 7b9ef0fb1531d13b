// The decoder-only transformer as a sequence of backend operators. One implementation for every device; the device decides how an operator is computed.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "device/device.hpp"
#include "model/hidden_copies.hpp"
#include "model/hidden_sink.hpp"
#include "model/loaded_model.hpp"

namespace concord {

// One sequence's part of a forward pass: `tokens` at positions start, start + 1, ... of sequence `sequence`.
struct DecoderStep {
  std::span<const std::int32_t> tokens;
  std::int64_t start = 0;
  std::int64_t sequence = 0;
  const HiddenSink* sink = nullptr;  // NULL: hidden states are not asked for
};

class Decoder {
 public:
  // capacity: positions of one sequence that the KV cache holds. max_step: most tokens in one forward(), of all sequences together (buffers are
  // allocated once, for it). sequences: how many have a place in the cache. The device and the model must outlive the decoder.
  static Result<Decoder> create(Device& device, const LoadedModel& model, std::int64_t capacity, std::int64_t max_step, std::int64_t sequences = 1);

  // Runs every step's tokens against everything cached before its start (the cache beyond is overwritten), so that prefill, chunked prefill, decode
  // and batches of them are the same call. A sequence may come once in a call. Where a step has a sink, everything is computed and handed over when this
  // returns; without one a device may still be at work, and logits() or Device::synchronize() wait for it. Errors: decoder.bad_step, and the device's.
  Status forward(std::span<const DecoderStep> steps);
  Status forward(std::span<const std::int32_t> tokens, std::int64_t start, const HiddenSink* sink = nullptr) {
    const DecoderStep step{tokens, start, 0, sink};
    return forward(std::span(&step, 1));
  }

  // Logits of rows [first, first + count) of the last forward(), count * vocab floats, row-major. Rows are counted through its steps in their order.
  Result<std::vector<float>> logits(std::int64_t first, std::int64_t count);
  Status logits(std::int64_t first, std::int64_t count, std::span<float> out);  // the same without an allocation

  std::int64_t capacity() const { return capacity_; }
  std::int64_t max_step() const { return max_step_; }
  std::int64_t sequences() const { return sequences_; }
  std::uint64_t buffer_bytes() const { return buffer_bytes_; }  // KV cache and activations [bytes]

 private:
  Decoder(Device& device, const LoadedModel& model) : device_(&device), model_(&model) {}
  Status allocate();
  Status upload_rope_tables();
  Status attention_block(std::size_t layer, std::int64_t rows);
  Status mlp_block(std::size_t layer, std::int64_t rows);
  Status norm(const Buffer& x, const Buffer& gain, const Buffer& y, std::int64_t rows, std::int64_t width);
  // flag 0: y = x W^T + bias; CONCORD_PLUS and CONCORD_GATED: added to y, or gated by it.
  Status linear(const Buffer& x, const Weight& weight, const Buffer& bias, const Buffer& y, std::int64_t rows, std::int64_t in, std::int64_t out,
                std::uint32_t flag = 0) {
    return linear(x, weight, bias, y, y, rows, in, out, flag);
  }
  Status linear(const Buffer& x, const Weight& weight, const Buffer& bias, const Buffer& z, const Buffer& y, std::int64_t rows, std::int64_t in,
                std::int64_t out, std::uint32_t flag);  // z: what is added to or gated
  Status rotate(const Buffer& x, std::int64_t rows, std::int64_t heads);
  Status append_to_cache(std::size_t layer, std::int64_t rows);
  Status attend(std::size_t layer, std::int64_t rows);
  Status check(std::span<const DecoderStep> steps) const;
  Status place(std::span<const DecoderStep> steps, std::int64_t rows);
  Status run_layers(std::span<const DecoderStep> steps, std::int64_t rows);
  Status emit(std::span<const DecoderStep> steps, std::int64_t layer, const Buffer& from);
  Status emit(const HiddenSink* sink, std::int64_t layer, const Buffer& from, std::int64_t start, std::int64_t first_row, std::int64_t rows);
  Result<Buffer> buffer(std::int64_t elements, DType dtype);
  Result<std::span<std::byte>> logits_memory(std::size_t bytes);
  // Where the sum after the attention goes: a second buffer where x_ is still being copied, else x_ itself.
  const Buffer& middle() const { return middle_.size() > 0 ? middle_ : x_; }
  concord_tensor activations(const Buffer& b, std::initializer_list<std::int64_t> dims) const;
  concord_call call(concord_op op) const;

  Device* device_;
  const LoadedModel* model_;
  std::int64_t capacity_ = 0, max_step_ = 0, sequences_ = 1, last_rows_ = 0;
  std::uint64_t buffer_bytes_ = 0;
  Buffer ids_, positions_, rows_, cos_, sin_;                                  // rows_: where each token goes in the cache
  Buffer x_, middle_, normed_, q_, k_, v_, attended_, gate_, logits_;          // [max_step, ...]; middle_ only with copies_
  std::vector<Buffer> k_cache_, v_cache_;                                      // per layer [sequences * capacity, kv_heads, head_dim]
  std::vector<Buffer> k_scale_, v_scale_;                                      // int8 caches: per layer [sequences * capacity, kv_heads]
  HostBlock logits_block_;                                                     // host copy of one step's logits, page-locked
  std::vector<std::byte> staging_;                                             // the same where the device has no such memory
  std::optional<HiddenCopies> copies_;                                         // where the device copies beside its work
  std::vector<std::int32_t> host_ids_, host_positions_, host_rows_;
};

}  // namespace concord
