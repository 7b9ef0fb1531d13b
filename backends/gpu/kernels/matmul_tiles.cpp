// Tensor cores: F16 or BF16 activations with a weight of the same type, int8 or int4, as tiles of 16 x 16 x 16 in
// shared memory. int8 numbers and int4 numbers less their zero point are small integers, exact in both types (up to
// 256), and are multiplied as such; their scales come in afterwards, in float32: int8's at the end, int4's with the sum
// of each group. Sums of the matrix instructions are added to the total in float32 after each group, or every 128
// inputs. Few output tiles: K is divided among several blocks, whose sums another kernel adds in order. The division
// follows from the shape alone.
#include <cstdio>

#include "gpu/kernels/matmul.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned
    kSegment = 16,
    kSlice = 32,
    kFlush = 128;  // inputs: that a thread loads at once; that lie in one group of int4; between additions to the total
constexpr unsigned kTogether = 16;

// Tokens x outputs of a block, inputs of a slab, threads, how warps share the tokens.
template <unsigned kTokens_, unsigned kOutputs_, unsigned kDepth_, unsigned kThreads_, unsigned kTokenWarps_>
struct Shape {
  static constexpr unsigned kTokens = kTokens_, kOutputs = kOutputs_, kDepth = kDepth_, kThreads = kThreads_,
                            kTokenWarps = kTokenWarps_;
  static constexpr unsigned kStride = kDepth + 8, kSlices = kDepth / kSlice;
};
using Wide = Shape<128, 128, 32, 256, 2>;
using Narrow = Shape<32, 64, 64, 128, 1>;
constexpr unsigned kNarrowTokens = 64;  // up to here

template <class X, class S>
struct Slabs {
  alignas(16) X x[2][S::kTokens * S::kStride];
  alignas(16) X w[2][S::kOutputs * S::kStride];
  float scale[2][S::kSlices][S::kOutputs];
};

// 16 numbers of the activations' type, two in a word.
struct Segment {
  std::uint32_t v[8];

  GPU_DEVICE void store(void* to) const {
    Bytes16* out = static_cast<Bytes16*>(to);
    out[0] = {{v[0], v[1], v[2], v[3]}}, out[1] = {{v[4], v[5], v[6], v[7]}};
  }
  GPU_DEVICE void keep(unsigned count) {  // the others become 0
    for (unsigned i = 0; i < 8; ++i) v[i] = 2 * i + 1 < count ? v[i] : 2 * i < count ? v[i] & 0xffffu : 0u;
  }
};

template <class X>
GPU_DEVICE std::uint32_t pair_of(float low, float high);  // small integers
template <>
GPU_DEVICE std::uint32_t pair_of<BF16>(float low, float high) {
  return float_to_bits(low) >> 16 | (float_to_bits(high) & 0xffff0000u);
}
template <>
GPU_DEVICE std::uint32_t pair_of<F16>(float low, float high) {
  return from_float<F16>(low).bits | std::uint32_t{from_float<F16>(high).bits} << 16;
}

GPU_DEVICE void load_tokens(Segment& s, const Matmul& p, unsigned token, unsigned k) {
  s = {};
  if (token >= p.tokens || k >= p.inputs) return;
  const auto* from = reinterpret_cast<const std::uint16_t*>(p.x) + std::uint64_t{token} * p.inputs + k;
  if (p.aligned && k + kSegment <= p.inputs) {
    const Bytes16 low = load16(from), high = load16(from + 8);
    for (unsigned i = 0; i < 4; ++i) s.v[i] = low.v[i], s.v[4 + i] = high.v[i];
    return;
  }
  for (unsigned i = 0; i < kSegment; ++i)
    if (k + i < p.inputs) s.v[i / 2] |= std::uint32_t{from[i]} << (16 * (i % 2));
}

// What a thread fetches of the weight, as stored, and how it becomes a segment. Rows and inputs that are not there
// count as 0.
template <class X>
struct SameType {
  static constexpr bool kGrouped = false;
  Segment s;
  GPU_DEVICE void load(const Matmul& p, unsigned output, unsigned k) {
    s = {};
    if (output >= p.outputs || k >= p.inputs) return;
    const std::byte* from = p.weight + output * p.pitch + std::uint64_t{k} * 2;
    const Bytes16 low = load16(from);
    Bytes16 high{};
    if (k + 8 < p.inputs) high = load16(from + 16);
    for (unsigned i = 0; i < 4; ++i) s.v[i] = low.v[i], s.v[4 + i] = high.v[i];
    if (k + kSegment > p.inputs)
      s.keep(p.inputs - k);  // the padding of a row may hold anything; that of integers meets zeros of x
  }
  GPU_DEVICE Segment numbers() const { return s; }
  GPU_DEVICE float scale() const { return 1.0f; }
};
template <class X>
struct Int8 {
  static constexpr bool kGrouped = false;
  Bytes16 bytes;
  GPU_DEVICE void load(const Matmul& p, unsigned output, unsigned k) {
    bytes = {};
    if (output < p.outputs && k < p.inputs) bytes = load16(p.weight + output * p.pitch + k);
  }
  GPU_DEVICE Segment numbers() const {
    Segment s;
    for (unsigned i = 0; i < 8; ++i)
      s.v[i] = pair_of<X>(int8_of(bytes.v[i / 2], i % 2 * 2), int8_of(bytes.v[i / 2], i % 2 * 2 + 1));
    return s;
  }
  GPU_DEVICE float scale() const { return 1.0f; }
};
template <class X>
struct Int4 {
  static constexpr bool kGrouped = true;
  std::uint32_t word[2];
  std::uint16_t scale_bits;
  unsigned zero;
  GPU_DEVICE void load(const Matmul& p, unsigned output, unsigned k) {
    word[0] = word[1] = 0, scale_bits = 0, zero = 0;
    if (output >= p.outputs || k >= p.inputs) return;
    struct alignas(8) Words {
      std::uint32_t v[2];
    };
    const Words words = *reinterpret_cast<const Words*>(p.weight + output * p.pitch + k / 2);
    const unsigned group = k / p.group;
    word[0] = words.v[0], word[1] = words.v[1];
    zero = zero_at(p, output, group), scale_bits = p.scales[std::uint64_t{output} * p.groups + group];
  }
  GPU_DEVICE Segment numbers() const {
    Segment s;
    for (unsigned i = 0; i < 8; ++i)
      s.v[i] = pair_of<X>(int4_of(word[i / 4], i % 4 * 2, zero), int4_of(word[i / 4], i % 4 * 2 + 1, zero));
    return s;
  }
  GPU_DEVICE float scale() const { return to_float(F16{scale_bits}); }
};

// A slab on its way from memory: the segments of one thread.
template <class X, class W, class S>
struct Fetch {
  static constexpr unsigned kAcross = S::kDepth / kSegment;  // segments of a row
  static constexpr unsigned kX = (S::kTokens * kAcross + S::kThreads - 1) / S::kThreads,
                            kW = S::kOutputs * kAcross / S::kThreads;
  static_assert(S::kTokens * kAcross % S::kThreads == 0 && S::kOutputs * kAcross % S::kThreads == 0);
  Segment x[kX];
  W w[kW];

  GPU_DEVICE void load(const Matmul& p, TilePlace at, unsigned k) {
    for (unsigned i = 0; i < kX; ++i) load_tokens(x[i], p, at.token + row(i), k + column(i));
    for (unsigned i = 0; i < kW; ++i) w[i].load(p, at.output + row(i), k + column(i));
  }
  GPU_DEVICE void store(Slabs<X, S>& slabs, unsigned buffer) const {
    for (unsigned i = 0; i < kX; ++i) x[i].store(slabs.x[buffer] + row(i) * S::kStride + column(i));
    for (unsigned i = 0; i < kW; ++i) {
      w[i].numbers().store(slabs.w[buffer] + row(i) * S::kStride + column(i));
      if (W::kGrouped && column(i) % kSlice == 0) slabs.scale[buffer][column(i) / kSlice][row(i)] = w[i].scale();
    }
  }

 private:
  GPU_DEVICE static unsigned row(unsigned i) { return (thread() + i * S::kThreads) / kAcross; }
  GPU_DEVICE static unsigned column(unsigned i) { return (thread() + i * S::kThreads) % kAcross * kSegment; }
};

// The part of a block's product that one warp has, for warps of kWidth lanes. Its sums stay in registers only if every
// loop over them is unrolled.
template <class X, class W, class S, unsigned kWidth>
struct Part {
  static constexpr unsigned kElements = 256 / kWidth, kOutputWarps = S::kThreads / kWidth / S::kTokenWarps;
  static constexpr unsigned kDown = S::kTokens / kTile / S::kTokenWarps, kAcross = S::kOutputs / kTile / kOutputWarps;
  static_assert(kDown * S::kTokenWarps * kTile == S::kTokens && kAcross * kOutputWarps * kTile == S::kOutputs);
  TileSum now[kDown][kAcross], total[kDown][kAcross];

  GPU_DEVICE static unsigned token() { return warp() / kOutputWarps * kDown * kTile; }
  GPU_DEVICE static unsigned output() { return warp() % kOutputWarps * kAcross * kTile; }

  GPU_DEVICE void multiply(const Slabs<X, S>& slabs, unsigned buffer, unsigned k) {
    TileOperand<X> a[kDown], b[kAcross];
    GPU_UNROLL
    for (unsigned i = 0; i < kDown; ++i)
      load_tile(a[i], slabs.x[buffer] + (token() + i * kTile) * S::kStride + k, S::kStride);
    GPU_UNROLL
    for (unsigned j = 0; j < kAcross; ++j)
      load_tile(b[j], slabs.w[buffer] + (output() + j * kTile) * S::kStride + k, S::kStride);
    GPU_UNROLL
    for (unsigned i = 0; i < kDown; ++i) GPU_UNROLL
    for (unsigned j = 0; j < kAcross; ++j) multiply_tiles(now[i][j], a[i], b[j]);
  }
  GPU_DEVICE void flush(const float* scale) {
    GPU_UNROLL
    for (unsigned i = 0; i < kDown; ++i) GPU_UNROLL
    for (unsigned j = 0; j < kAcross; ++j) GPU_UNROLL
    for (unsigned e = 0; e < kElements; ++e) {
      float &sum = total[i][j].v[e], &part = now[i][j].v[e];
      sum = W::kGrouped ? fused(part, scale[output() + j * kTile + tile_col(e)], sum) : sum + part;
      part = 0.0f;
    }
  }
  GPU_DEVICE void store(const Matmul& p, TilePlace at) const {
    GPU_UNROLL
    for (unsigned i = 0; i < kDown; ++i) GPU_UNROLL
    for (unsigned j = 0; j < kAcross; ++j) GPU_UNROLL
    for (unsigned e = 0; e < kElements; ++e) {
      const unsigned t = at.token + token() + i * kTile + tile_row(e),
                     o = at.output + output() + j * kTile + tile_col(e);
      if (t >= p.tokens || o >= p.outputs) continue;
      if (p.partial)
        p.partial[(std::uint64_t{block_y()} * p.tokens + t) * p.outputs + o] = total[i][j].v[e];
      else
        finish<X>(p, t, o, total[i][j].v[e]);
    }
  }
};

template <class X, class W, class S, unsigned kWidth>
GPU_DEVICE void product(const Matmul& p, Slabs<X, S>& slabs) {
  const TilePlace at = tile_place(p, S::kTokens, S::kOutputs, kTogether, block());
  const unsigned first = block_y() * p.split_inputs,
                 end = p.inputs - first < p.split_inputs ? p.inputs : first + p.split_inputs;
  Part<X, W, S, kWidth> part;
  Fetch<X, W, S> fetch;
  fetch.load(p, at, first);
  fetch.store(slabs, 0);
  sync();
  unsigned buffer = 0;
  for (unsigned k = first; k < end; k += S::kDepth, buffer ^= 1) {
    const bool more = k + S::kDepth < end;
    if (more) fetch.load(p, at, k + S::kDepth);
    GPU_UNROLL
    for (unsigned slice = 0; slice < S::kSlices; ++slice) {
      part.multiply(slabs, buffer, slice * kSlice);
      part.multiply(slabs, buffer, slice * kSlice + kTile);
      const unsigned here = k + (slice + 1) * kSlice;
      if (here >= end || here % (W::kGrouped ? p.group : kFlush) == 0) part.flush(slabs.scale[buffer][slice]);
    }
    if (more) fetch.store(slabs, buffer ^ 1);  // the other one: who still reads it came to the last barrier
    sync();
  }
  part.store(p, at);
}

template <class X, class W, class S>
GPU_KERNEL GPU_BOUNDS(S::kThreads) tiles(Matmul p) {
  if constexpr (kTilesCompiled) {
    using Room = Slabs<X, S>;
    GPU_SHARED(Room, slabs);
    if constexpr (kTileWidth != 0)
      product<X, W, S, kTileWidth>(p, slabs);
    else if (warp_width() == 64)
      product<X, W, S, 64>(p, slabs);
    else
      product<X, W, S, 32>(p, slabs);
  }
}

// Blocks that share the inputs of a tile: so many that a GPU is busy, but none with fewer than 512 inputs.
template <class S>
unsigned splits_of(const Matmul& p) {
  const unsigned blocks = ceil_div(p.tokens, S::kTokens) * ceil_div(p.outputs, S::kOutputs);
  const unsigned wanted = S::kTokens > kNarrowTokens ? 256 : 512, most = S::kTokens > kNarrowTokens ? 4 : 8;
  unsigned splits = 1;
  while (splits < most && blocks * splits * 2 <= wanted && p.inputs / (splits * 2) >= 512) splits *= 2;
  return splits;
}

template <class X, class W, class S>
concord_status run(Context& c, Matmul p) {
  p.splits = splits_of<S>(p);
  p.split_inputs = (ceil_div(p.inputs, p.splits) + kFlush - 1) / kFlush * kFlush;
  p.splits = ceil_div(p.inputs, p.split_inputs);
  if (p.splits > 1) {
    void* partial = nullptr;
    const std::uint64_t bytes = std::uint64_t{p.splits} * p.tokens * p.outputs * sizeof(float);
    if (const auto s = scratch(c.device, kSlotPartial, bytes, c.stream, &partial, c.err); s != CONCORD_OK) return s;
    p.partial = static_cast<float*>(partial);
  }
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel,
                "matmul: %s tiles %ux%ux%u, %s x %s weights, K in %u parts, wave%u", kTarget, S::kTokens, S::kOutputs,
                S::kDepth, form_name(p.dtype), form_name(p.weight_dtype), p.splits, c.device.properties.warp);
  const unsigned blocks = ceil_div(p.tokens, S::kTokens) * ceil_div(p.outputs, S::kOutputs);
  const Error e = GPU_LAUNCH((tiles<X, W, S>), blocks, p.splits, S::kThreads, 0, c.stream, p);
  return c.done(e != kSuccess || p.splits == 1 ? e : finish_sums(p, p.partial, CONCORD_F32, c.stream));
}

template <class X, class W>
concord_status by_tokens(Context& c, const Matmul& p) {
  return p.tokens <= kNarrowTokens ? run<X, W, Narrow>(c, p) : run<X, W, Wide>(c, p);
}
template <class X>
concord_status by_weight(Context& c, const Matmul& p) {
  if (p.weight_dtype == CONCORD_I8) return by_tokens<X, Int8<X>>(c, p);
  return p.weight_dtype == CONCORD_U4 ? by_tokens<X, Int4<X>>(c, p) : by_tokens<X, SameType<X>>(c, p);
}

}  // namespace

bool tiles_take(const Matmul& p) {
  if (p.dtype != CONCORD_F16 && p.dtype != CONCORD_BF16) return false;
  return p.weight_dtype == p.dtype || p.weight_dtype == CONCORD_I8 ||
         (p.weight_dtype == CONCORD_U4 && p.group % kSlice == 0);
}

concord_status matmul_tiles(Context& c, const Matmul& p) {
  return p.dtype == CONCORD_F16 ? by_weight<F16>(c, p) : by_weight<BF16>(c, p);
}

}  // namespace CONCORD_GPU
