#include "model/decoder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace concord {
namespace {
constexpr std::int64_t kLogitRows = 64;  // rows of logits computed at once: bounds the buffer at 64 * vocab
constexpr std::int64_t kMaxSequences = 4096;
}

Result<Decoder> Decoder::create(Device& device, const LoadedModel& model, std::int64_t capacity, std::int64_t max_step,
                                std::int64_t sequences) {
  const bool fits = sequences >= 1 && sequences <= kMaxSequences && capacity >= 1 && capacity <= model.spec().max_positions;
  if (!fits || max_step < 1 || max_step > capacity * sequences)
    return bad_input("decoder.bad_step",
                     fmt::format("expected 1 <= capacity <= {} positions, 1 to {} sequences and a step of at most all their "
                                 "positions, found step {}, capacity {} and {} sequences",
                                 model.spec().max_positions, kMaxSequences, max_step, capacity, sequences));
  Decoder decoder(device, model);
  decoder.capacity_ = capacity;
  decoder.max_step_ = max_step;
  decoder.sequences_ = sequences;
  for (auto* list : {&decoder.host_ids_, &decoder.host_positions_, &decoder.host_rows_})
    list->reserve(static_cast<std::size_t>(max_step));
  CONCORD_CHECK(decoder.allocate());
  CONCORD_CHECK(decoder.upload_rope_tables());
  return decoder;
}

Result<Buffer> Decoder::buffer(std::int64_t elements, DType dtype) {
  const auto bytes = static_cast<std::uint64_t>(elements) * dtype_bits(dtype) / 8;
  buffer_bytes_ += bytes;
  return device_->allocate(bytes);
}

Status Decoder::allocate() {
  const ModelSpec& s = model_->spec();
  const DType act = model_->precision().activations, kv = model_->precision().kv_cache;
  const std::int64_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  const std::tuple<Buffer*, std::int64_t, DType> plan[] = {
      {&ids_, max_step_, DType::kI32},           {&positions_, max_step_, DType::kI32},
      {&rows_, max_step_, DType::kI32},
      {&x_, max_step_ * s.hidden, act},          {&normed_, max_step_ * s.hidden, act},
      {&q_, max_step_ * q_width, act},           {&k_, max_step_ * kv_width, act},
      {&v_, max_step_ * kv_width, act},          {&attended_, max_step_ * q_width, act},
      {&gate_, max_step_ * s.intermediate, act}, {&logits_, std::min(max_step_, kLogitRows) * s.vocab, act}};
  for (const auto& [target, elements, dtype] : plan) {
    CONCORD_TRY(*target, buffer(elements, dtype));
  }
  if (device_->copies_beside_work()) {
    CONCORD_TRY(middle_, buffer(max_step_ * s.hidden, act));
    copies_.emplace(max_step_, static_cast<std::uint64_t>(s.hidden) * dtype_bits(act) / 8, sequences_);
  }
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::int64_t cache_rows = sequences_ * capacity_;
    CONCORD_TRY(k_cache_.emplace_back(), buffer(cache_rows * kv_width, kv));
    CONCORD_TRY(v_cache_.emplace_back(), buffer(cache_rows * kv_width, kv));
    if (kv != DType::kI8) continue;
    CONCORD_TRY(k_scale_.emplace_back(), buffer(cache_rows * s.kv_heads, DType::kF32));
    CONCORD_TRY(v_scale_.emplace_back(), buffer(cache_rows * s.kv_heads, DType::kF32));
  }
  return {};
}

// cos and sin in float64 from float64 frequencies, rounded once to what the operator reads: the angle's error then does not grow with the position.
Status Decoder::upload_rope_tables() {
  const ModelSpec& s = model_->spec();
  const std::vector<double> frequencies = s.rope.inverse_frequencies(s.head_dim);
  const DType dtype = model_->precision().activations == DType::kF64 ? DType::kF64 : DType::kF32;
  const std::size_t half = frequencies.size(), width = dtype_bits(dtype) / 8;
  std::vector<std::byte> cosines(static_cast<std::size_t>(capacity_) * half * width), sines(cosines.size());
  for (std::size_t i = 0; i < static_cast<std::size_t>(capacity_) * half; ++i) {
    const double angle = static_cast<double>(i / half) * frequencies[i % half];
    store_from_f64(dtype, cosines.data(), i, std::cos(angle) * s.rope.attention_factor);
    store_from_f64(dtype, sines.data(), i, std::sin(angle) * s.rope.attention_factor);
  }
  CONCORD_TRY(cos_, buffer(capacity_ * static_cast<std::int64_t>(half), dtype));
  CONCORD_TRY(sin_, buffer(capacity_ * static_cast<std::int64_t>(half), dtype));
  CONCORD_CHECK(device_->upload(cos_, 0, cosines));
  return device_->upload(sin_, 0, sines);
}

concord_tensor Decoder::activations(const Buffer& b, std::initializer_list<std::int64_t> dims) const {
  return tensor_of(model_->precision().activations, dims, b);
}

concord_call Decoder::call(concord_op op) const {
  concord_call c = make_call(op);
  c.accumulate = model_->precision().activations == DType::kF64 ? CONCORD_F64 : CONCORD_F32;
  return c;
}

Status Decoder::norm(const Buffer& x, const Buffer& gain, const Buffer& y, std::int64_t rows, std::int64_t width) {
  concord_call c = call(CONCORD_OP_RMSNORM);
  c.n_in = 2, c.n_out = 1;
  c.in[0] = activations(x, {rows, width});
  c.in[1] = tensor_of(DType::kF32, {width}, gain);
  c.out[0] = activations(y, {rows, width});
  c.eps = model_->spec().rms_norm_eps;
  return device_->run(c);
}

Status Decoder::linear(const Buffer& x, const Weight& weight, const Buffer& bias, const Buffer& z, const Buffer& y,
                       std::int64_t rows, std::int64_t in, std::int64_t out, std::uint32_t flag) {
  concord_call c = call(CONCORD_OP_MATMUL);
  c.n_in = flag ? 3 : bias.size() > 0 ? 2 : 1, c.n_out = 1;
  c.in[0] = activations(x, {rows, in});
  if (bias.size() > 0) c.in[1] = tensor_of(DType::kF32, {out}, bias);
  c.weight = weight.get();
  c.out[0] = activations(y, {rows, out});
  if (flag) c.in[2] = activations(z, {rows, out}), c.flags = flag;
  return device_->run(c);
}

Status Decoder::rotate(const Buffer& x, std::int64_t rows, std::int64_t heads) {
  const std::int64_t d = model_->spec().head_dim;
  const DType table = model_->precision().activations == DType::kF64 ? DType::kF64 : DType::kF32;
  concord_call c = call(CONCORD_OP_ROPE);
  c.n_in = 4, c.n_out = 1;
  c.in[0] = activations(x, {rows, heads, d});
  c.in[1] = tensor_of(table, {capacity_, d / 2}, cos_);
  c.in[2] = tensor_of(table, {capacity_, d / 2}, sin_);
  c.in[3] = tensor_of(DType::kI32, {rows}, positions_);
  c.out[0] = c.in[0];
  return device_->run(c);
}

Status Decoder::append_to_cache(std::size_t layer, std::int64_t rows) {
  const ModelSpec& s = model_->spec();
  const DType kv = model_->precision().kv_cache;
  const std::int64_t cache_rows = sequences_ * capacity_;
  concord_call c = call(CONCORD_OP_KV_APPEND);
  c.n_in = 3, c.n_out = kv == DType::kI8 ? 4 : 2;
  c.in[0] = activations(k_, {rows, s.kv_heads, s.head_dim});
  c.in[1] = activations(v_, {rows, s.kv_heads, s.head_dim});
  c.in[2] = tensor_of(DType::kI32, {rows}, rows_);
  c.out[0] = tensor_of(kv, {cache_rows, s.kv_heads, s.head_dim}, k_cache_[layer]);
  c.out[1] = tensor_of(kv, {cache_rows, s.kv_heads, s.head_dim}, v_cache_[layer]);
  if (kv == DType::kI8) {
    c.out[2] = tensor_of(DType::kF32, {cache_rows, s.kv_heads}, k_scale_[layer]);
    c.out[3] = tensor_of(DType::kF32, {cache_rows, s.kv_heads}, v_scale_[layer]);
  }
  return device_->run(c);
}

Status Decoder::attend(std::size_t layer, std::int64_t rows) {
  const ModelSpec& s = model_->spec();
  const DType kv = model_->precision().kv_cache;
  const std::int64_t cache_rows = sequences_ * capacity_;
  concord_call c = call(CONCORD_OP_ATTENTION);
  c.n_in = kv == DType::kI8 ? 6 : 4, c.n_out = 1;
  c.in[0] = activations(q_, {rows, s.heads, s.head_dim});
  c.in[1] = tensor_of(kv, {cache_rows, s.kv_heads, s.head_dim}, k_cache_[layer]);
  c.in[2] = tensor_of(kv, {cache_rows, s.kv_heads, s.head_dim}, v_cache_[layer]);
  c.in[3] = tensor_of(DType::kI32, {rows}, rows_);
  if (kv == DType::kI8) {
    c.in[4] = tensor_of(DType::kF32, {cache_rows, s.kv_heads}, k_scale_[layer]);
    c.in[5] = tensor_of(DType::kF32, {cache_rows, s.kv_heads}, v_scale_[layer]);
  }
  c.sequence_rows = capacity_;
  c.out[0] = activations(attended_, {rows, s.heads, s.head_dim});
  c.scale = 1.0 / std::sqrt(static_cast<double>(s.head_dim));
  return device_->run(c);
}

Status Decoder::attention_block(std::size_t layer, std::int64_t rows) {
  const ModelSpec& s = model_->spec();
  const LayerWeights& w = model_->layers()[layer];
  const std::int64_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  CONCORD_CHECK(norm(x_, w.input_norm, normed_, rows, s.hidden));
  CONCORD_CHECK(linear(normed_, w.q, w.q_bias, q_, rows, s.hidden, q_width));
  CONCORD_CHECK(linear(normed_, w.k, w.k_bias, k_, rows, s.hidden, kv_width));
  CONCORD_CHECK(linear(normed_, w.v, w.v_bias, v_, rows, s.hidden, kv_width));
  if (s.qk_norm) {
    CONCORD_CHECK(norm(q_, w.q_norm, q_, rows * s.heads, s.head_dim));
    CONCORD_CHECK(norm(k_, w.k_norm, k_, rows * s.kv_heads, s.head_dim));
  }
  CONCORD_CHECK(rotate(q_, rows, s.heads));
  CONCORD_CHECK(rotate(k_, rows, s.kv_heads));
  CONCORD_CHECK(append_to_cache(layer, rows));
  CONCORD_CHECK(attend(layer, rows));
  return linear(attended_, w.o, w.o_bias, x_, middle(), rows, q_width, s.hidden, CONCORD_PLUS);
}

Status Decoder::mlp_block(std::size_t layer, std::int64_t rows) {
  const ModelSpec& s = model_->spec();
  const LayerWeights& w = model_->layers()[layer];
  CONCORD_CHECK(norm(middle(), w.post_norm, normed_, rows, s.hidden));
  CONCORD_CHECK(linear(normed_, w.gate, w.gate_bias, gate_, rows, s.hidden, s.intermediate));
  CONCORD_CHECK(linear(normed_, w.up, w.up_bias, gate_, rows, s.hidden, s.intermediate, CONCORD_GATED));
  if (copies_) {
    CONCORD_CHECK(copies_->before_overwrite(*device_));  // the states before this layer may still be on their way
  }
  return linear(gate_, w.down, w.down_bias, middle(), x_, rows, s.intermediate, s.hidden, CONCORD_PLUS);
}

Status Decoder::emit(const HiddenSink* sink, std::int64_t layer, const Buffer& from, std::int64_t start, std::int64_t first_row,
                     std::int64_t rows) {
  if (!sink || !sink->wants(layer)) return {};
  if (copies_) return copies_->copy(*device_, *sink, layer, from, start, first_row, rows);
  const auto row = static_cast<std::uint64_t>(model_->spec().hidden) * dtype_bits(model_->precision().activations) / 8;
  for (std::int64_t at = start; at < start + rows;) {
    CONCORD_TRY(const HiddenBlock block, sink->open(layer, at, start + rows - at));
    if (block.rows == 0) break;
    CONCORD_CHECK(device_->download(from, static_cast<std::uint64_t>(first_row + block.first_position - start) * row, block.bytes));
    CONCORD_CHECK(sink->submit(layer, block));
    at = block.first_position + block.rows;
  }
  return {};
}

Status Decoder::emit(std::span<const DecoderStep> steps, std::int64_t layer, const Buffer& from) {
  if (copies_) {
    CONCORD_CHECK(copies_->next_layer(*device_));
  }
  std::int64_t row = 0;
  for (const DecoderStep& step : steps) {
    const auto rows = static_cast<std::int64_t>(step.tokens.size());
    CONCORD_CHECK(emit(step.sink, layer, from, step.start, row, rows));
    row += rows;
  }
  return {};
}

Status Decoder::check(std::span<const DecoderStep> steps) const {
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const DecoderStep& s = steps[i];
    const auto count = static_cast<std::int64_t>(s.tokens.size());
    const bool known = s.sequence >= 0 && s.sequence < sequences_ &&
                       std::none_of(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(i),
                                    [&](const DecoderStep& other) { return other.sequence == s.sequence; });
    if (!known || count < 1 || s.start < 0 || s.start > capacity_ - count)
      return bad_input("decoder.bad_step",
                       fmt::format("cannot run {} tokens at position {} of sequence {}: there are {} sequences of {} positions, "
                                   "and each may come once",
                                   count, s.start, s.sequence, sequences_, capacity_));
    rows += count;
  }
  if (rows >= 1 && rows <= max_step_) return {};
  return bad_input("decoder.bad_step", fmt::format("cannot run {} tokens in one step, expected 1 to {}", rows, max_step_));
}

// Sends token ids, positions and cache rows to the device.
Status Decoder::place(std::span<const DecoderStep> steps, std::int64_t rows) {
  for (auto* list : {&host_ids_, &host_positions_, &host_rows_}) list->clear();
  for (const DecoderStep& s : steps)
    for (std::size_t i = 0; i < s.tokens.size(); ++i) {
      const std::int64_t position = s.start + static_cast<std::int64_t>(i);
      host_ids_.push_back(s.tokens[i]);
      host_positions_.push_back(static_cast<std::int32_t>(position));
      host_rows_.push_back(static_cast<std::int32_t>(s.sequence * capacity_ + position));
    }
  last_rows_ = rows;
  CONCORD_CHECK(device_->upload(ids_, 0, std::as_bytes(std::span<const std::int32_t>(host_ids_))));
  CONCORD_CHECK(device_->upload(positions_, 0, std::as_bytes(std::span<const std::int32_t>(host_positions_))));
  return device_->upload(rows_, 0, std::as_bytes(std::span<const std::int32_t>(host_rows_)));
}

Status Decoder::forward(std::span<const DecoderStep> steps) {
  CONCORD_CHECK(check(steps));
  std::int64_t rows = 0;
  bool watched = false;
  for (const DecoderStep& step : steps) {
    rows += static_cast<std::int64_t>(step.tokens.size());
    watched = watched || step.sink;
  }
  CONCORD_CHECK(place(steps, rows));
  Status status = run_layers(steps, rows);
  if (!copies_) return status;
  if (status && watched) status = copies_->finish(*device_);
  if (!status) copies_->abandon(*device_);
  return status;
}

Status Decoder::run_layers(std::span<const DecoderStep> steps, std::int64_t rows) {
  const ModelSpec& s = model_->spec();
  concord_call c = call(CONCORD_OP_EMBEDDING);
  c.n_in = 1, c.n_out = 1;
  c.in[0] = tensor_of(DType::kI32, {rows}, ids_);
  c.weight = model_->embedding().get();
  c.out[0] = activations(x_, {rows, s.hidden});
  CONCORD_CHECK(device_->run(c));
  CONCORD_CHECK(emit(steps, 0, x_));
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    CONCORD_CHECK(attention_block(static_cast<std::size_t>(layer), rows));
    CONCORD_CHECK(mlp_block(static_cast<std::size_t>(layer), rows));
    if (layer + 1 < s.layers) {
      CONCORD_CHECK(emit(steps, layer + 1, x_));
    }
  }
  CONCORD_CHECK(norm(x_, model_->final_norm(), normed_, rows, s.hidden));
  return emit(steps, s.layers, normed_);
}

// Grows to what was asked for at most, and stays.
Result<std::span<std::byte>> Decoder::logits_memory(std::size_t bytes) {
  if (!device_->has_host_memory()) {
    staging_.resize(std::max(staging_.size(), bytes));
    return std::span(staging_).first(bytes);
  }
  if (logits_block_.bytes().size() < bytes) {
    CONCORD_TRY(logits_block_, device_->allocate_host(bytes));
  }
  return logits_block_.bytes().first(bytes);
}

Result<std::vector<float>> Decoder::logits(std::int64_t first, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, max_step_) * model_->spec().vocab));
  CONCORD_CHECK(logits(first, count, out));
  return out;
}

Status Decoder::logits(std::int64_t first, std::int64_t count, std::span<float> out) {
  const ModelSpec& s = model_->spec();
  if (first < 0 || count < 1 || first + count > last_rows_ || out.size() != static_cast<std::size_t>(count * s.vocab))
    return bad_input("decoder.bad_step", fmt::format("logits of rows {} to {} asked for, the last step had {}", first,
                                                     first + count - 1, last_rows_));
  const DType act = model_->precision().activations;
  const std::size_t width = dtype_bits(act) / 8;
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t rows = std::min({count - done, kLogitRows, max_step_});
    concord_call c = call(CONCORD_OP_MATMUL);
    c.n_in = 1, c.n_out = 1;
    c.in[0] = tensor_of(act, {rows, s.hidden}, normed_, static_cast<std::uint64_t>((first + done) * s.hidden) * width);
    c.weight = model_->lm_head().get();
    c.out[0] = activations(logits_, {rows, s.vocab});
    CONCORD_CHECK(device_->run(c));
    const auto part = out.subspan(static_cast<std::size_t>(done * s.vocab), static_cast<std::size_t>(rows * s.vocab));
    CONCORD_TRY(const std::span<std::byte> memory, logits_memory(part.size() * width));
    CONCORD_CHECK(device_->download(logits_, 0, memory));
    CONCORD_CHECK(device_->synchronize());  // a copy into page-locked memory need not wait, nor say what went wrong before it
    convert_floats(act, memory.data(), DType::kF32, std::as_writable_bytes(part).data(), part.size());
    done += rows;
  }
  return {};
}

}  // namespace concord
