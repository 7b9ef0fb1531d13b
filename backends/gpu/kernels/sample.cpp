// SAMPLE: the largest of x * scale + Gumbel noise in double, over chunks of a row in blocks of their own, then over the chunks. Choosing the first of the largest does not depend on
// how a row is cut, so that neither do the results.
#include <cmath>

#include "gpu/kernels/rows.hpp"
#include "gpu/philox.hpp"

namespace CONCORD_GPU {
namespace {

constexpr unsigned kThreads = 256, kChunk = 8192, kMostBlocks = 0x7fffffffu;

struct Candidate {
  double score;
  int index;  // -1: none
};

// Larger scores first, NaN behind every number, the lower index first among equals.
GPU_DEVICE bool precedes(Candidate a, Candidate b) {
  if (a.index < 0 || b.index < 0) return a.index >= 0;
  const bool a_nan = a.score != a.score, b_nan = b.score != b.score;
  if (a_nan != b_nan) return b_nan;
  if (a.score > b.score || a.score < b.score) return a.score > b.score;
  return a.index < b.index;
}

// The first of the block's candidates, in every thread.
GPU_DEVICE Candidate first_of_block(Candidate mine) {
  for (unsigned mask = warp_width() / 2; mask > 0; mask /= 2) {
    const Candidate other = {exchange_xor(mine.score, mask), exchange_xor(mine.index, mask)};
    if (precedes(other, mine)) mine = other;
  }
  GPU_SHARED(Candidate[32], room);
  if (lane() == 0) room[warp()] = mine;
  sync();
  Candidate best = room[0];
  for (unsigned w = 1; w < threads() / warp_width(); ++w)
    if (precedes(room[w], best)) best = room[w];
  sync();
  return best;
}

struct Draw {
  double scale;
  std::uint64_t seed;
};

template <class T>
GPU_KERNEL GPU_BOUNDS(kThreads) best_of_chunks(const T* x, const int* positions, unsigned n, unsigned chunks, unsigned chunk_size, Draw draw, Candidate* best, Fault* fault) {
  const unsigned row = block() / chunks, chunk = block() % chunks, begin = chunk * chunk_size;
  const unsigned end = n - begin < chunk_size ? n : begin + chunk_size;
  const int position = positions[row];
  if (position < 0 && chunk == 0 && thread() == 0) report(fault, CONCORD_OP_SAMPLE, 1, row, position, std::int64_t{1} << 31);
  const T* values = x + static_cast<std::size_t>(row) * n;
  Candidate mine = {0, -1};
  for (unsigned v = begin + thread(); v < end; v += threads()) {
    const double u = uniform_of(philox(draw.seed, static_cast<unsigned>(position), v));
    const Candidate candidate = {static_cast<double>(to_float(values[v])) * draw.scale + -::log(-::log(u)), static_cast<int>(v)};
    if (precedes(candidate, mine)) mine = candidate;
  }
  mine = first_of_block(mine);
  if (thread() == 0) best[block()] = mine;
}

GPU_KERNEL GPU_BOUNDS(kThreads) best_of_rows(const Candidate* best, unsigned chunks, int* index) {
  Candidate mine = {0, -1};
  for (unsigned c = thread(); c < chunks; c += threads()) {
    const Candidate candidate = best[static_cast<std::size_t>(block()) * chunks + c];
    if (precedes(candidate, mine)) mine = candidate;
  }
  mine = first_of_block(mine);
  if (thread() == 0) index[block()] = mine.index;
}

}  // namespace

concord_status sample(Context& c) {
  const concord_tensor &x = c.call.in[0], &positions = c.call.in[1], &index = c.call.out[0];
  const unsigned rows = dim(x, 0), n = dim(x, 1);
  const bool cut = static_cast<std::uint64_t>(rows) * ceil_div(n, kChunk) <= kMostBlocks;
  const unsigned chunk_size = cut ? kChunk : n, chunks = ceil_div(n, chunk_size);
  void* room = nullptr;
  const std::uint64_t blocks_in_all = static_cast<std::uint64_t>(rows) * chunks;
  if (const auto s = scratch(c.device, kSlotPartial, blocks_in_all * sizeof(Candidate), c.stream, &room, c.err); s != CONCORD_OK) return s;
  auto* best = static_cast<Candidate*>(room);
  const Draw draw = {c.call.scale, c.call.seed};
  const Error chosen = on_float(c.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return GPU_LAUNCH((best_of_chunks<T>), static_cast<unsigned>(blocks_in_all), 1, kThreads, 0, c.stream, data<const T>(x), data<const int>(positions), n, chunks, chunk_size, draw,
                      best, c.device.fault);
  });
  if (chosen != kSuccess) return c.done(chosen);
  return c.done(GPU_LAUNCH(best_of_rows, rows, 1, kThreads, 0, c.stream, best, chunks, data<int>(index)));
}

}  // namespace CONCORD_GPU
