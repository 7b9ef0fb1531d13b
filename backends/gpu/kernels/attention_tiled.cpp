// Attention of many tokens through matrix instructions, for q and cache of one 16-bit type: four warps with 16 queries each, tiles of keys as large as a block's shared memory
// allows, an online softmax in float32. Scores are sums of exact products. The weights keep float32's precision: each is cut into three 16-bit numbers whose sum it is, and the
// values are multiplied with all three. What a tile adds is summed on its own and then added in float32, rounded to nearest, whatever the matrix instructions do inside.
#include <algorithm>
#include <cstdio>
#include <string_view>

#include "gpu/block.hpp"
#include "gpu/kernels/attention_prefill.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kWarps = kQueries / kTile, kElements = 8, kParts = 3;
constexpr unsigned kGroup = 4;  // tiles of the result that are summed side by side
#if defined(CONCORD_GPU_CUDA)
constexpr unsigned kMostThreads = kWarps * 32;
#else
constexpr unsigned kMostThreads = kWarps * 64;
#endif
constexpr std::size_t kMostShared = 96u << 10, kStaticShared = 512;  // [bytes]; the second: what the kernel has besides its dynamic memory

// How weights are cut: part 0 is the smallest. Sums over a part are multiplied with step() before the next larger part is added, in the end with last().
template <class T>
struct Cut;
template <>
struct Cut<BF16> {  // float32's range: parts of 8 bits as they are
  static constexpr std::uint32_t kSpecial = 0x7f80;  // exponent of infinities and NaN
  GPU_DEVICE static float step() { return 1.0f; }
  GPU_DEVICE static float last() { return 1.0f; }
  GPU_DEVICE static void cut(float w, BF16 (&part)[kParts]) {
    for (unsigned i = kParts; i-- > 0;) {
      part[i] = from_float<BF16>(w);
      w -= to_float(part[i]);
    }
  }
};
template <>
struct Cut<F16> {  // parts of 11 bits, the weight times 2^15, what is left times 2^11. Parts below the normal numbers, which some hardware takes as 0, go to the next part
  static constexpr std::uint32_t kSpecial = 0x7c00;
  GPU_DEVICE static float step() { return 0x1p-11f; }
  GPU_DEVICE static float last() { return 0x1p-15f; }
  GPU_DEVICE static void cut(float w, F16 (&part)[kParts]) {
    w *= 0x1p15f;
    for (unsigned i = kParts; i-- > 0;) {
      part[i] = from_float<F16>(i > 0 && fabsf(w) < 0x1p-14f ? 0.0f : w);
      w = (w - to_float(part[i])) * 0x1p11f;
    }
  }
};

// Shared memory of a block, in elements: rows are padded so that rows of a tile lie in different banks and begin on 16 bytes.
template <class T, unsigned kWidth, unsigned kKeys>
struct Room {
  static constexpr unsigned kRow = kWidth + 8, kColumn = kKeys + 8;
  static constexpr std::size_t kElementCount = (kQueries + kKeys) * kRow + kWidth * kColumn + kParts * kQueries * kColumn;
  static constexpr std::size_t kBytes = kElementCount * sizeof(T);
  T *q, *keys, *values, *weights;  // [query][d], [key][d], [d][key], [part][query][key]
  GPU_DEVICE explicit Room(unsigned char* memory)
      : q(reinterpret_cast<T*>(memory)), keys(q + kQueries * kRow), values(keys + kKeys * kRow), weights(values + kWidth * kColumn) {}
};

template <class T>
GPU_DEVICE Words4 read_words(const T* from, bool aligned) {
  if (aligned) return *reinterpret_cast<const Words4*>(from);
  Words4 words;
  for (unsigned i = 0; i < 4; ++i) words.w[i] = from[2 * i].bits | static_cast<std::uint32_t>(from[2 * i + 1].bits) << 16;
  return words;
}

#if defined(CONCORD_GPU_TILE_MMA)
using Layout = MmaLayout;
#elif defined(CONCORD_GPU_TILE_MFMA)
using Layout = MfmaLayout;
#else
using Layout = PlainLayout<32>;  // rows are as with 64 lanes
#endif
// Which bits of an element's number say in which of a lane's rows it stands.
constexpr unsigned row_bits() {
  unsigned bits = 0;
  for (unsigned bit = 1; bit < Layout::kElements; bit *= 2)
    if (Layout::row(0, bit) != Layout::row(0, 0)) bits |= bit;
  return bits;
}
constexpr unsigned kRowBits = row_bits();
// The element of a lane that stands first in the row where element i stands: its own number, or a smaller one.
GPU_DEVICE unsigned row_of(unsigned i) { return i & kRowBits; }

// The lanes that share a row of a tile differ in certain bits of their numbers, the same bits in every row.
struct RowLanes {
  unsigned bits = 0;
  GPU_DEVICE RowLanes() {
    for (unsigned mask = 1; mask < warp_width(); mask *= 2)
      if (exchange_xor(tile_row(0), mask) == tile_row(0)) bits |= mask;
  }
  template <class Combine>
  GPU_DEVICE float combine(float v, Combine with) const {
    for (unsigned mask = warp_width() / 2; mask > 0; mask /= 2)
      if (bits & mask) v = with(v, exchange_xor(v, mask));
    return v;
  }
};

template <class T, unsigned kWidth, unsigned kKeys>
struct TiledBlock {
  using Memory = Room<T, kWidth, kKeys>;
  static constexpr unsigned kScoreTiles = kKeys / kTile, kOutTiles = kWidth / kTile;
  const QueryTile& tile;
  Memory room;
  unsigned* special;  // the number of the newest tile of keys whose values are not all finite
  RowLanes lanes;
  float most[kElements], total[kElements], shrink[kElements];  // by row, where its first element stands
  TileSum out[kOutTiles];

  GPU_DEVICE TiledBlock(const QueryTile& t, unsigned char* memory, unsigned* flag) : tile(t), room(memory), special(flag) {
    for (unsigned i = 0; i < kElements; ++i) most[i] = minus_infinity(), total[i] = 0, shrink[i] = 1;
  }
  GPU_DEVICE static unsigned row(unsigned i) { return warp() * kTile + tile_row(i); }

  GPU_DEVICE void load_queries() const {
    const AttentionCall& a = tile.a;
    for (unsigned i = thread(); i < kQueries * (a.d / 8); i += threads()) {
      const unsigned r = i / (a.d / 8), col = i % (a.d / 8) * 8;
      Words4 words{};
      if (tile.token(r) < a.tokens) words = read_words(static_cast<const T*>(a.q) + tile.place(r) + col, a.q_aligned);
      *reinterpret_cast<Words4*>(room.q + r * Memory::kRow + col) = words;
    }
  }
  // Keys first .. first + n of the cache, zeros behind.
  GPU_DEVICE void load_keys(std::size_t first, unsigned n) const {
    const AttentionCall& a = tile.a;
    for (unsigned i = thread(); i < kKeys * (a.d / 8); i += threads()) {
      const unsigned r = i / (a.d / 8), col = i % (a.d / 8) * 8;
      Words4 words{};
      if (r < n) words = read_words(static_cast<const T*>(a.keys) + tile.head(first + r) * a.d + col, a.cache_aligned);
      *reinterpret_cast<Words4*>(room.keys + r * Memory::kRow + col) = words;
    }
  }
  GPU_DEVICE static bool not_finite(std::uint32_t bits) { return (bits & Cut<T>::kSpecial) == Cut<T>::kSpecial; }
  // Their values, turned: a thread has eight columns of two rows, so that it can write words, and neighbours write neighbouring words. Values that are not finite stay behind as
  // zeros: a weight of 0 must not meet them, nor may parts of opposite sign.
  GPU_DEVICE void load_values(std::size_t first, unsigned n, unsigned number) const {
    const AttentionCall& a = tile.a;
    const T* values = static_cast<const T*>(a.values);
    bool finite = true;
    for (unsigned i = thread(); i < a.d / 8 * (kKeys / 2); i += threads()) {
      const unsigned r = i % (kKeys / 2) * 2, col = i / (kKeys / 2) * 8;
      Words4 even{}, odd{};
      if (r < n) even = read_words(values + tile.head(first + r) * a.d + col, a.cache_aligned);
      if (r + 1 < n) odd = read_words(values + tile.head(first + r + 1) * a.d + col, a.cache_aligned);
      for (unsigned e = 0; e < 8; ++e) {
        std::uint32_t low = even.w[e / 2] >> (16 * (e % 2)) & 0xffffu, high = odd.w[e / 2] >> (16 * (e % 2)) & 0xffffu;
        if (not_finite(low)) low = 0, finite = false;
        if (not_finite(high)) high = 0, finite = false;
        reinterpret_cast<Word*>(room.values + (col + e) * Memory::kColumn + r)->w = low | high << 16;
      }
    }
    if (!finite) *special = number;  // several threads may write, all the same
  }

  GPU_DEVICE void scores(unsigned n, TileSum (&s)[kScoreTiles]) const {
    const T* queries = room.q + warp() * kTile * Memory::kRow;
    GPU_ROLLED
    for (unsigned k = 0; k < tile.a.d; k += kTile) {
      TileOperand<T> q, key;
      load_tile(q, queries + k, Memory::kRow);
      GPU_UNROLL
      for (unsigned j = 0; j < kScoreTiles; ++j) {
        if (j * kTile >= n) continue;
        load_tile(key, room.keys + j * kTile * Memory::kRow + k, Memory::kRow);
        multiply_tiles(s[j], q, key);
      }
    }
  }

  // Scores of one row become weights. `seen`: how many of the tile's keys its query sees.
  GPU_DEVICE void soften_row(unsigned i, unsigned seen, TileSum (&s)[kScoreTiles]) {
    float here = most[i], sum = 0;
    GPU_UNROLL
    for (unsigned e = 0; e < kElements; ++e) {
      if (e >= tile_elements() || row_of(e) != i) continue;
      for (unsigned j = 0; j < kScoreTiles; ++j) {
        s[j].v[e] *= tile.a.scale;
        if (j * kTile + tile_col(e) < seen && s[j].v[e] > here) here = s[j].v[e];
      }
    }
    here = lanes.combine(here, Greater{});
    GPU_UNROLL
    for (unsigned e = 0; e < kElements; ++e) {
      if (e >= tile_elements() || row_of(e) != i) continue;
      for (unsigned j = 0; j < kScoreTiles; ++j) {
        s[j].v[e] = j * kTile + tile_col(e) < seen ? expf(s[j].v[e] - exp_base(here)) : 0.0f;
        sum += s[j].v[e];
      }
    }
    shrink[i] = expf(most[i] - exp_base(here));
    total[i] = fused(total[i], shrink[i], lanes.combine(sum, Plus{}));
    most[i] = here;
  }
  GPU_DEVICE void soften(const Run& run, unsigned k0, TileSum (&s)[kScoreTiles]) {
    GPU_UNROLL
    for (unsigned i = 0; i < kElements; ++i) {
      if (i >= tile_elements() || row_of(i) != i) continue;
      const unsigned all = tile.visible(run, row(i));
      soften_row(i, all > k0 ? all - k0 : 0, s);
    }
  }
  GPU_DEVICE void write_weights(const TileSum (&s)[kScoreTiles]) const {
    GPU_UNROLL
    for (unsigned i = 0; i < kElements; ++i) {
      if (i >= tile_elements()) continue;
      GPU_UNROLL
      for (unsigned j = 0; j < kScoreTiles; ++j) {
        T part[kParts];
        Cut<T>::cut(s[j].v[i], part);
        for (unsigned p = 0; p < kParts; ++p) room.weights[(p * kQueries + row(i)) * Memory::kColumn + j * kTile + tile_col(i)] = part[p];
      }
    }
  }

  // What this tile of keys adds to kGroup neighbouring tiles of the result.
  GPU_DEVICE void steps(unsigned column, unsigned n, TileSum (&sum)[kGroup]) const {
    GPU_ROLLED
    for (unsigned p = 0; p < kParts; ++p) {
      const T* weights = room.weights + (p * kQueries + warp() * kTile) * Memory::kColumn;
      GPU_ROLLED
      for (unsigned k = 0; k < n; k += kTile) {
        TileOperand<T> weight, value;
        load_tile(weight, weights + k, Memory::kColumn);
        GPU_UNROLL
        for (unsigned g = 0; g < kGroup; ++g) {
          if (column + g * kTile >= tile.a.d) continue;
          load_tile(value, room.values + (column + g * kTile) * Memory::kColumn + k, Memory::kColumn);
          multiply_tiles(sum[g], weight, value);
        }
      }
      const float factor = p + 1 < kParts ? Cut<T>::step() : Cut<T>::last();
      GPU_UNROLL
      for (unsigned g = 0; g < kGroup; ++g)
        for (unsigned i = 0; i < kElements; ++i) sum[g].v[i] *= factor;
    }
  }
  // What the values that stayed behind add to element i, where its query sees them.
  GPU_DEVICE float special_step(unsigned i, unsigned column, const Run& run, unsigned k0) const {
    const T *weights = room.weights + row(i) * Memory::kColumn, *values = static_cast<const T*>(tile.a.values);
    const unsigned all = tile.visible(run, row(i)), part = kQueries * Memory::kColumn;
    float sum = -0.0f;  // adds nothing to whatever number
    GPU_ROLLED
    for (unsigned j = 0; j < kKeys && k0 + j < all; ++j) {
      const T v = values[tile.head(static_cast<std::size_t>(run.first) + k0 + j) * tile.a.d + column + tile_col(i)];
      if (!not_finite(v.bits)) continue;
      const float low = fused(to_float(weights[j]), Cut<T>::step(), to_float(weights[j + part]));
      sum = fused(fused(low, Cut<T>::step(), to_float(weights[j + 2 * part])) * Cut<T>::last(), to_float(v), sum);
    }
    return sum;
  }
  GPU_DEVICE void special_steps(unsigned column, const Run& run, unsigned k0, TileSum (&sum)[kGroup]) const {
    GPU_ROLLED
    for (unsigned at = 0; at < kGroup * kElements; ++at) {
      const unsigned tile_column = column + at / kElements * kTile, i = at % kElements;
      if (i >= tile_elements() || tile_column >= tile.a.d) continue;
      const float v = special_step(i, tile_column, run, k0);
      GPU_UNROLL
      for (unsigned to = 0; to < kGroup * kElements; ++to)  // registers have no index
        sum[to / kElements].v[to % kElements] += to == at ? v : -0.0f;
    }
  }
  GPU_DEVICE void add_values(const Run& run, unsigned k0, unsigned n, bool specials) {
    GPU_UNROLL
    for (unsigned t = 0; t < kOutTiles; t += kGroup) {
      if (t * kTile >= tile.a.d) continue;
      TileSum sum[kGroup];
      steps(t * kTile, n, sum);
      if (specials) special_steps(t * kTile, run, k0, sum);
      GPU_UNROLL
      for (unsigned g = 0; g < kGroup; ++g) {
        GPU_UNROLL
        for (unsigned i = 0; i < kElements; ++i)
          if (i < tile_elements()) out[t + g].v[i] = fused(out[t + g].v[i], shrink[row_of(i)], sum[g].v[i]);
      }
    }
  }

  // All keys of one run. `number` counts tiles of keys. Warps whose queries see nothing more have nothing to do but to load.
  GPU_DEVICE void attend(const Run& run, unsigned& number) {
    unsigned visible = 0;
    for (unsigned r = warp() * kTile; r < (warp() + 1) * kTile; ++r) visible = tile.visible(run, r) > visible ? tile.visible(run, r) : visible;
    for (unsigned k0 = 0; k0 < run.keys; k0 += kKeys) {
      const unsigned n = run.keys - k0 < kKeys ? run.keys - k0 : kKeys;
      ++number;
      sync();
      load_keys(static_cast<std::size_t>(run.first) + k0, n);
      load_values(static_cast<std::size_t>(run.first) + k0, n, number);
      sync();
      if (k0 < visible) {
        TileSum s[kScoreTiles];
        scores(n, s);
        soften(run, k0, s);
        write_weights(s);
      }
      sync();
      if (k0 < visible) add_values(run, k0, n, *special == number);
    }
  }

  GPU_DEVICE void store_all() const {
    const AttentionCall& a = tile.a;
    GPU_UNROLL
    for (unsigned i = 0; i < kElements; ++i) {
      if (i >= tile_elements() || tile.last[row(i)] < 0) continue;
      T* y = static_cast<T*>(a.y) + tile.place(row(i)) + tile_col(i);
      GPU_UNROLL
      for (unsigned t = 0; t < kOutTiles; ++t)
        if (t * kTile < a.d) y[t * kTile] = from_float<T>(out[t].v[i] / total[row_of(i)]);
    }
  }
};

template <class T, unsigned kWidth, unsigned kKeys>
GPU_KERNEL GPU_BOUNDS(kMostThreads) attend_tiled(AttentionCall a) {
  if constexpr (kTilesCompiled) {
    GPU_DYNAMIC_SHARED(memory);
    GPU_SHARED(int[kQueries], last);
    GPU_SHARED(unsigned, special);
    const QueryTile tile(a, last);
    tile.find_rows(last);
    if (thread() == 0) special = 0;
    TiledBlock<T, kWidth, kKeys> work(tile, memory, &special);
    work.load_queries();
    sync();
    unsigned number = 0;
    for (Run run; tile.next(run);) work.attend(run, number);
    work.store_all();
  }
}

template <class T, unsigned kWidth, unsigned kKeys>
concord_status launch(Context& c, const AttentionCall& a) {
  constexpr std::size_t bytes = Room<T, kWidth, kKeys>::kBytes;
  const Error e = bytes > (48u << 10) ? allow_shared(attend_tiled<T, kWidth, kKeys>, bytes) : kSuccess;
  if (e != kSuccess) return c.done(e);
  const unsigned wave = c.device.properties.warp;
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "attention: %s tiles %ux%u wave%u", kTarget, kQueries, kKeys, wave);
  return c.done(GPU_LAUNCH((attend_tiled<T, kWidth, kKeys>), query_tiles(a), 1, kWarps * wave, bytes, c.stream, a));
}

// Which sizes are compiled: NVIDIA's blocks have 96 KiB and more, AMD's 64 KiB, and the emulation shows both.
#if defined(CONCORD_GPU_EMULATED)
constexpr bool kLarge = true, kSmall = true;
#else
constexpr bool kLarge = std::string_view(kTarget) == "cuda", kSmall = !kLarge;
#endif

template <class T, unsigned kWidth, unsigned kKeys>
bool fits(const AttentionCall& a, std::size_t room) {
  return a.d <= kWidth && Room<T, kWidth, kKeys>::kBytes <= room;
}

// The largest tile of keys that fits a block's shared memory.
template <class T>
concord_status launch_fitting(Context& c, const AttentionCall& a) {
  const std::size_t room = std::min(kMostShared, c.device.properties.shared_bytes) - kStaticShared;
  if (fits<T, 64, 64>(a, room)) return launch<T, 64, 64>(c, a);
  if constexpr (kLarge)
    if (fits<T, 128, 64>(a, room)) return launch<T, 128, 64>(c, a);
  if constexpr (kSmall)
    if (fits<T, 128, 32>(a, room)) return launch<T, 128, 32>(c, a);
  if constexpr (kLarge)
    if (fits<T, 256, 32>(a, room)) return launch<T, 256, 32>(c, a);
  if constexpr (kSmall)
    if (fits<T, 256, 16>(a, room)) return launch<T, 256, 16>(c, a);
  return CONCORD_UNSUPPORTED;
}

}  // namespace

concord_status attention_tiled(Context& c, const AttentionCall& a) { return a.dtype == CONCORD_F16 ? launch_fitting<F16>(c, a) : launch_fitting<BF16>(c, a); }

}  // namespace CONCORD_GPU
