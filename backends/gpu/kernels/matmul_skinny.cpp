// Up to eight tokens: what counts is to read the weight once, at the memory's speed. A team of 32 threads has four
// outputs and all tokens; its members read 16 bytes of each of the four rows side by side, the next 16 while these are
// multiplied. Several teams share a row's chunks and add their sums in the end. Teams have 32 members on every GPU,
// whatever its warps are, and how many share a row follows from the weight alone: the order of a sum does not depend on
// the GPU or on the number of tokens.
#include <cstdio>

#include "gpu/kernels/matmul.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kThreads = 256, kTeam = 32, kTeams = kThreads / kTeam, kRows = 4, kMostTokens = 8;

// How 16 bytes of a row become numbers: kChunk of them, kUnit at a time. kScaled: the sum of a chunk is multiplied by a
// scale of its own.
struct WholeFloats {
  static constexpr unsigned kChunk = 4, kUnit = 4;
  static constexpr bool kScaled = false;
  GPU_DEVICE static void numbers(const Bytes16& b, unsigned, float (&out)[kUnit]) {
    for (unsigned i = 0; i < kUnit; ++i) out[i] = bits_to_float(b.v[i]);
  }
};
template <class T>
struct Halves {
  static constexpr unsigned kChunk = 8, kUnit = 8;
  static constexpr bool kScaled = false;
  GPU_DEVICE static void numbers(const Bytes16& b, unsigned, float (&out)[kUnit]) {
    for (unsigned i = 0; i < kUnit; ++i) out[i] = half_of<T>(b.v[i / 2], i % 2);
  }
};
struct Int8 {
  static constexpr unsigned kChunk = 16, kUnit = 8;
  static constexpr bool kScaled = false;
  GPU_DEVICE static void numbers(const Bytes16& b, unsigned unit, float (&out)[kUnit]) {
    for (unsigned i = 0; i < kUnit; ++i) out[i] = int8_of(b.v[unit * 2 + i / 4], i % 4);
  }
};
// A chunk lies in one group. A nibble at bit 4 i of a word is put into the bits of the float 2^(23 - 4 i), which makes
// it 2^(23 - 4 i) + nibble; `less` [i] is 2^(23 - 4 i) + zero. All of this is exact.
struct Int4 {
  static constexpr unsigned kChunk = 32, kUnit = 8;
  static constexpr bool kScaled = true;
  GPU_DEVICE static std::uint32_t base(unsigned i) { return (150u - 4 * i) << 23; }
  GPU_DEVICE static void numbers(const Bytes16& b, unsigned unit, const float (&less)[4], float (&out)[kUnit]) {
    for (unsigned half = 0; half < 2; ++half)
      for (unsigned i = 0; i < 4; ++i)
        out[half * 4 + i] = bits_to_float((b.v[unit] >> (16 * half) & 15u << (4 * i)) | base(i)) - less[i];
  }
};
// Four rows' next 16 bytes, and what goes with them.
template <class W>
struct Chunk {
  Bytes16 bytes[kRows];
  float scale[kRows], zero[kRows];

  GPU_DEVICE void load(const Matmul& p, const unsigned (&rows)[kRows], unsigned chunk) {
    for (unsigned r = 0; r < kRows; ++r)
      bytes[r] = load16_once(p.weight + rows[r] * p.pitch + std::uint64_t{chunk} * 16);
    if constexpr (W::kScaled) {
      const unsigned group = chunk * W::kChunk / p.group;
      for (unsigned r = 0; r < kRows; ++r)
        scale[r] = scale_at(p, rows[r], group), zero[r] = static_cast<float>(zero_at(p, rows[r], group));
    }
  }
};

template <class W>
GPU_DEVICE void numbers_of(const Matmul& p, const Chunk<W>& c, unsigned r, unsigned unit, unsigned k,
                           float (&out)[W::kUnit]) {
  if constexpr (W::kScaled) {
    float less[4];
    for (unsigned i = 0; i < 4; ++i) less[i] = bits_to_float(W::base(i)) + c.zero[r];
    W::numbers(c.bytes[r], unit, less, out);
  } else {
    W::numbers(c.bytes[r], unit, out);
  }
  if (k + W::kUnit > p.inputs)  // the padding of a row may hold anything
    for (unsigned i = 0; i < W::kUnit; ++i)
      if (k + i >= p.inputs) out[i] = 0.0f;
}

template <class X, class W, unsigned kTokens>
GPU_DEVICE void multiply(const Matmul& p, const Chunk<W>& c, unsigned chunk, float (&sums)[kRows * kTokens]) {
  float part[kRows * kTokens] = {};
  GPU_UNROLL
  for (unsigned unit = 0; unit < W::kChunk / W::kUnit; ++unit) {
    const unsigned k = chunk * W::kChunk + unit * W::kUnit;
    if (k >= p.inputs) break;
    float w[kRows][W::kUnit];
    GPU_UNROLL
    for (unsigned r = 0; r < kRows; ++r) numbers_of<W>(p, c, r, unit, k, w[r]);
    GPU_UNROLL
    for (unsigned t = 0; t < kTokens; ++t) {
      float x[W::kUnit];
      load_x<X>(p, t < p.tokens ? t : p.tokens - 1, k, x);
      GPU_UNROLL
      for (unsigned r = 0; r < kRows; ++r) {
        float& sum = W::kScaled ? part[r * kTokens + t] : sums[r * kTokens + t];
        GPU_UNROLL
        for (unsigned i = 0; i < W::kUnit; ++i) sum = fused(x[i], w[r][i], sum);
      }
    }
  }
  if constexpr (W::kScaled) GPU_UNROLL
  for (unsigned v = 0; v < kRows * kTokens; ++v) sums[v] = fused(part[v], c.scale[v / kTokens], sums[v]);
}

// Adds each of kCount values (a power of two, 4 to 32) over the team: members kMask = 16 apart first, then 8, and so
// on. As long as there are several values, each member goes on with half of them. Gives the sum of value member / (32 /
// kCount), the same to all members that share it.
template <unsigned kMask, unsigned kCount>
GPU_DEVICE float team_sum(const float (&v)[kCount], unsigned member) {
  if constexpr (kMask == 0) {
    return v[0];
  } else if constexpr (kCount == 1) {
    const float pair[1] = {v[0] + exchange_xor(v[0], kMask)};
    return team_sum<kMask / 2>(pair, member);
  } else {
    constexpr unsigned kHalf = kCount / 2;
    const bool upper = (member & kMask) != 0;
    float half[kHalf];
    GPU_UNROLL
    for (unsigned i = 0; i < kHalf; ++i) {
      const float low = v[i],
                  high = v[i + kHalf];  // as values: a choice between places would put the array into memory
      const float mine = upper ? high : low, other = upper ? low : high;
      half[i] = mine + exchange_xor(other, kMask);
    }
    return team_sum<kMask / 2>(half, member);
  }
}

template <class X, class W, unsigned kTokens>
GPU_KERNEL GPU_BOUNDS(kThreads) skinny(Matmul p, unsigned sharing) {
  constexpr unsigned kValues = kRows * kTokens;
  using Room = float[kTeams][kValues];
  GPU_SHARED(Room, room);
  const unsigned team = thread() / kTeam, member = thread() % kTeam, per_block = kTeams / sharing * kRows;
  const unsigned first = block() * per_block, chunks = (p.inputs + W::kChunk - 1) / W::kChunk, step = kTeam * sharing;
  unsigned rows[kRows];
  for (unsigned r = 0; r < kRows; ++r) {
    const unsigned row = first + team / sharing * kRows + r;
    rows[r] = row < p.outputs ? row : p.outputs - 1;
  }
  float sums[kValues] = {};
  unsigned chunk = team % sharing * kTeam + member;
  Chunk<W> now, next;
  if (chunk < chunks) now.load(p, rows, chunk);
  for (; chunk < chunks; chunk += step, now = next) {
    if (chunk + step < chunks) next.load(p, rows, chunk + step);
    multiply<X, W, kTokens>(p, now, chunk, sums);
  }
  constexpr unsigned kSame = kTeam / kValues;  // members that have the same sum
  const float sum = team_sum<kTeam / 2>(sums, member);
  if (member % kSame == 0) room[team][member / kSame] = sum;
  sync();
  for (unsigned i = thread(); i < kTeams / sharing * kValues; i += kThreads) {
    const unsigned which = i / kValues, value = i % kValues, token = value % kTokens,
                   row = first + which * kRows + value / kTokens;
    float all = room[which * sharing][value];
    for (unsigned s = 1; s < sharing; ++s) all = all + room[which * sharing + s][value];
    if (row < p.outputs && token < p.tokens) finish<X>(p, token, row, all);
  }
}

// Teams that share a row: more where there are few rows, but none without a chunk for each of its members.
unsigned sharing_of(const Matmul& p, unsigned chunk) {
  unsigned sharing = p.outputs <= 2048 ? 8 : p.outputs <= 8192 ? 4 : p.outputs <= 32768 ? 2 : 1;
  while (sharing > 1 && ceil_div(p.inputs, chunk) < sharing * kTeam) sharing /= 2;
  return sharing;
}

template <class X, class W, unsigned kTokens>
Error launch(const Matmul& p, Stream stream) {
  const unsigned sharing = sharing_of(p, W::kChunk);
  return GPU_LAUNCH((skinny<X, W, kTokens>), ceil_div(p.outputs, kTeams / sharing * kRows), 1, kThreads, 0, stream, p,
                    sharing);
}

template <class X, class W>
Error by_tokens(const Matmul& p, Stream stream) {
  return p.tokens == 1 ? launch<X, W, 1>(p, stream) : launch<X, W, kMostTokens>(p, stream);
}

template <class X>
Error by_weight(const Matmul& p, Stream stream) {
  switch (p.weight_dtype) {
    case CONCORD_F32:
      return by_tokens<X, WholeFloats>(p, stream);
    case CONCORD_F16:
      return by_tokens<X, Halves<F16>>(p, stream);
    case CONCORD_BF16:
      return by_tokens<X, Halves<BF16>>(p, stream);
    case CONCORD_I8:
      return by_tokens<X, Int8>(p, stream);
    default:
      return by_tokens<X, Int4>(p, stream);
  }
}

}  // namespace

bool skinny_takes(const Matmul& p) {
  return p.tokens <= kMostTokens && (p.weight_dtype != CONCORD_U4 || p.group % Int4::kChunk == 0);
}

concord_status matmul_skinny(Context& c, const Matmul& p) {
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel,
                "matmul: %s skinny f32 %u rows x %u threads, %s weights wave%u", kTarget, kRows, kTeam,
                form_name(p.weight_dtype), c.device.properties.warp);
  return c.done(on_float(p.dtype, [&](auto zero) { return by_weight<decltype(zero)>(p, c.stream); }));
}

}  // namespace CONCORD_GPU
