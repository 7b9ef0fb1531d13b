// Tiles of queries, for many tokens: a tile is 64 queries of one key/value head, token by token and, within a token, head by head. Its tokens may belong to several
// sequences; they stand in runs, and the keys of each run are gone through on their own, from the sequence's first row on.
#pragma once
#include "gpu/kernels/attention.hpp"

namespace CONCORD_GPU {

inline constexpr unsigned kQueries = 64;

struct Run {
  unsigned from = 0, to = 0;      // queries of the tile
  int first = 0;                  // cache row where the sequence begins
  unsigned keys = 0, least = 0;   // how many rows from there on some query of the run sees, and every query of the tile
};

struct QueryTile {
  const AttentionCall& a;
  const int* last;  // [kQueries], in shared memory: the last cache row that a query sees, -1: no query
  unsigned group, tile;

  // The last tiles see the most keys: they go first, so that no block is left with one at the end.
  GPU_DEVICE QueryTile(const AttentionCall& call, const int* rows)
      : a(call), last(rows), group(block() % call.groups), tile(blocks() / call.groups - 1 - block() / call.groups) {}

  GPU_DEVICE unsigned token(unsigned r) const { return (tile * kQueries + r) / a.share; }
  // Of query r, in elements of q and y.
  GPU_DEVICE std::size_t place(unsigned r) const {
    const unsigned i = tile * kQueries + r;
    return (static_cast<std::size_t>(i / a.share) * a.heads + group * a.share + i % a.share) * a.d;
  }
  // Of the head in row p of the cache, in heads.
  GPU_DEVICE std::size_t head(std::size_t p) const { return p * a.groups + group; }

  GPU_DEVICE void find_rows(int* rows) const {  // `last`, before it is constant
    for (unsigned r = thread(); r < kQueries; r += threads()) rows[r] = token(r) < a.tokens ? last_row(a, token(r), group == 0) : -1;
  }
  GPU_DEVICE unsigned visible(const Run& run, unsigned r) const { return r >= run.from && r < run.to ? static_cast<unsigned>(last[r] - run.first) + 1 : 0; }

  // Goes on to the run behind; false: there is none.
  GPU_DEVICE bool next(Run& run) const {
    unsigned r = run.to;
    while (r < kQueries && last[r] < 0) ++r;
    if (r == kQueries) return false;
    run.from = r, run.first = last[r] / a.sequence * a.sequence, run.keys = 0;
    for (; r < kQueries && last[r] >= run.first && last[r] - run.first < a.sequence; ++r) {
      const unsigned keys = static_cast<unsigned>(last[r] - run.first) + 1;
      if (keys > run.keys) run.keys = keys;
    }
    run.to = r, run.least = run.keys;
    for (unsigned i = 0; i < kQueries; ++i)
      if (last[i] >= 0 && visible(run, i) < run.least) run.least = visible(run, i);
    return true;
  }
};

// Blocks of a launch.
inline unsigned query_tiles(const AttentionCall& a) { return ceil_div(static_cast<std::uint64_t>(a.tokens) * a.share, kQueries) * a.groups; }

}  // namespace CONCORD_GPU
