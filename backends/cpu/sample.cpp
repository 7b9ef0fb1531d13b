// SAMPLE in float64, the same code on every variant: logarithms take nearly all of the time, and their number is small
// beside a matmul's products.
#include "abi/concord_sample.hpp"
#include "device.hpp"

namespace cpu {
namespace {

constexpr std::size_t kPiece = 2048;  // candidates that are scored together

}  // namespace

// Rows are cut into pieces, so that one token alone has work for every thread. The best of a piece is the first of the
// largest, and pieces are asked in order: the result is the one of a single loop.
concord_status sample(Context& c) {
  const concord_tensor &x = c.call.in[0], &out = c.call.out[0];
  const std::size_t rows = dim(x, 0), n = dim(x, 1), pieces = (n + kPiece - 1) / kPiece;
  std::vector<std::int32_t> positions(rows);
  std::memcpy(positions.data(), concord_abi::bytes_of(c.call.in[1]), rows * 4);
  const auto s =
      concord_abi::check_indices("sample", "positions", positions.data(), rows, concord_abi::kPositionLimit, c.err);
  if (s != CONCORD_OK) return s;
  std::vector<concord_abi::BestCandidate> best(rows * pieces);
  c.device.spread(rows * pieces, 16 * kPiece, [&](std::size_t begin, std::size_t end) {
    float* v = scratch(0, kPiece);
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t row = p / pieces, first = p % pieces * kPiece, count = std::min(kPiece, n - first);
      c.device.kernels.load(x.dtype, row_of(x, row, n) + first * concord_abi::dtype_bytes(x.dtype), count, v);
      for (std::size_t i = 0; i < count; ++i)
        best[p].take(double{v[i]} * c.call.scale + concord_abi::gumbel(c.call.seed, positions[row], first + i),
                     static_cast<std::int32_t>(first + i));
    }
  });
  for (std::size_t row = 0; row < rows; ++row) {
    concord_abi::BestCandidate all;
    for (std::size_t p = 0; p < pieces; ++p) all.take(best[row * pieces + p].score, best[row * pieces + p].index);
    concord_abi::store_as(concord_abi::bytes_of(out), row, all.index);
  }
  const char* name = c.device.kernels.name;  // "avx512 16 lanes fma": its arithmetic is not what ran
  std::snprintf(c.witness.kernel, sizeof c.witness.kernel, "sample: cpu %.*s f64 scalar",
                static_cast<int>(std::strcspn(name, " ")), name);
  return CONCORD_OK;
}

}  // namespace cpu
