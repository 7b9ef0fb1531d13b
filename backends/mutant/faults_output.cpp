// Faults in what an operator leaves in its output, whatever the operator.
#include "mutant.hpp"

namespace mutant {
namespace {

using Values = std::vector<double>;

concord_status nothing(Job&) { return CONCORD_OK; }

void stale(Job& job) {
  const auto out = memory_of(job.out());
  const std::vector<std::byte> fresh(out.begin(), out.end());
  std::copy_n(job.device.last.begin(), std::min(out.size(), job.device.last.size()), out.begin());
  job.device.last = fresh;
}
void cached_by_shape(Job& job) {
  const auto out = memory_of(job.out());
  auto& first = job.device.by_shape[shape_key(job.call)];
  if (first.empty())
    first.assign(out.begin(), out.end());
  else
    std::copy(first.begin(), first.end(), out.begin());
}

// The middle element, or the first one after it that is not zero already.
void zero_one(Values& v, const concord_tensor&) {
  for (std::size_t i = 0; i < v.size(); ++i)
    if (double& e = v[(v.size() / 2 + i) % v.size()]; e != 0) {
      e = 0;
      return;
    }
}
void zero_last(Values& v, const concord_tensor&) { v.back() = 0; }
void scale_row(Values& v, const concord_tensor& t) {
  for (std::size_t i = v.size() - last_axis(t); i < v.size(); ++i) v[i] *= 1.002;
}
void scale_all(Values& v, const concord_tensor&) {
  for (double& e : v) e *= 1.0001;
}
void scale_slightly(Values& v, const concord_tensor&) {
  for (double& e : v) e *= 1 + 0x1p-20;
}
// The last two neighbours that differ.
void swap_two(Values& v, const concord_tensor&) {
  for (std::size_t i = v.size(); i-- > 1;)
    if (v[i] != v[i - 1] && !std::isnan(v[i]) && !std::isnan(v[i - 1])) return std::swap(v[i], v[i - 1]);
}
void swap_rows(Values& v, const concord_tensor& t) {
  const std::size_t n = last_axis(t);
  if (v.size() >= 2 * n)
    std::swap_ranges(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(n), v.end() - static_cast<std::ptrdiff_t>(n));
}
void flip_sign(Values& v, const concord_tensor&) { v[v.size() / 3] = -v[v.size() / 3]; }

// Cut to bfloat16's eight bits of significand: F32 and F16 outputs.
void cut_to_bf16(Job& job) {
  const concord_tensor& t = job.out();
  std::byte* p = concord_abi::bytes_of(t);
  for (std::size_t i = 0; i < concord_abi::element_count(t); ++i)
    if (t.dtype == CONCORD_F32)
      concord_abi::store_as(p, i, concord_abi::load_as<std::uint32_t>(p, i) & 0xffff0000u);
    else if (t.dtype == CONCORD_F16)
      concord_abi::store_as(p, i, static_cast<std::uint16_t>(concord_abi::load_as<std::uint16_t>(p, i) & 0xfff8u));
}
// F32 results that went through float16.
void through_f16(Values& v, const concord_tensor& t) {
  if (t.dtype == CONCORD_F32)
    for (double& e : v) e = concord_abi::f16_to_f32(concord_abi::f64_to_f16(e));
}
// A 16-bit result that is cut where it should be rounded: one unit away from zero is taken off wherever it was rounded
// up, which is what cutting would have given for about half of the elements; here, for every second one.
void store_cut(Job& job) {
  const concord_tensor& t = job.out();
  if (t.dtype != CONCORD_F16 && t.dtype != CONCORD_BF16) return;
  std::byte* p = concord_abi::bytes_of(t);
  const std::uint16_t infinity = t.dtype == CONCORD_F16 ? 0x7c00 : 0x7f80;
  for (std::size_t i = 0; i < concord_abi::element_count(t); i += 2) {
    const auto h = concord_abi::load_as<std::uint16_t>(p, i);
    if ((h & 0x7fffu) != 0 && (h & 0x7fffu) < infinity) concord_abi::store_as(p, i, static_cast<std::uint16_t>(h - 1));
  }
}

void nan_at_end(Values& v, const concord_tensor&) { v.back() = std::nan(""); }
void infinity_inside(Values& v, const concord_tensor&) { v[v.size() / 2] = INFINITY; }
void nan_to_zero(Values& v, const concord_tensor&) {
  for (double& e : v)
    if (std::isnan(e)) e = 0;
}
double largest_of(std::uint32_t dtype) {
  return dtype == CONCORD_F16 ? 65504.0 : dtype == CONCORD_BF16 ? 0x1.fep127 : 0x1.fffffep127;
}
double normal_of(std::uint32_t dtype) { return dtype == CONCORD_F16 ? 0x1p-14 : 0x1p-126; }
void clamp_infinity(Values& v, const concord_tensor& t) {
  for (double& e : v)
    if (std::isinf(e)) e = std::copysign(largest_of(t.dtype), e);
}
void flush_results(Values& v, const concord_tensor& t) {
  if (concord_abi::is_float(t.dtype))
    for (double& e : v)
      if (std::fabs(e) < normal_of(t.dtype)) e = std::copysign(0.0, e);
}
void flush_inputs(Changed& c) {
  const std::uint32_t first = c.call.op == CONCORD_OP_EMBEDDING ? 1 : 0;
  if (first == 1 || !concord_abi::is_float(c.call.in[0].dtype)) return;
  const concord_tensor& x = c.copy_in(0);
  Values v = values_of(x);
  flush_results(v, x);
  put_values(x, v);
}

// A loop that works sixteen lanes at a time and leaves the rest of each row.
void no_remainder(Values& v, const concord_tensor& t) {
  const std::size_t n = last_axis(t), done = n / 16 * 16;
  if (done == 0) return;
  for (std::size_t i = 0; i < v.size(); ++i)
    if (i % n >= done) v[i] *= 1.0625;
}
// The same for rows, four at a time.
void no_row_remainder(Values& v, const concord_tensor& t) {
  const std::size_t rows = reference::dim(t, 0), done = rows / 4 * 4;
  if (done == 0) return;
  for (std::size_t i = done * (v.size() / rows); i < v.size(); ++i) v[i] *= 1.0625;
}
void first_tile_only(Values& v, const concord_tensor&) {
  for (std::size_t i = 64; i < v.size(); ++i) v[i] = 0;
}

constexpr std::uint32_t kExactOps = bits({CONCORD_OP_MATMUL, CONCORD_OP_ADD});
constexpr std::uint32_t kComputed = kValueOps & ~bits({CONCORD_OP_EMBEDDING, CONCORD_OP_KV_APPEND});
constexpr std::uint32_t kNarrow = kComputed & ~bits({CONCORD_OP_TOPK_ROUTING});  // out[0] has the activations' dtype
constexpr std::uint32_t kWithSpecial = bits({CONCORD_OP_EMBEDDING, CONCORD_OP_MATMUL, CONCORD_OP_KV_APPEND,
                                             CONCORD_OP_SWIGLU, CONCORD_OP_GELU, CONCORD_OP_ADD});
constexpr std::uint32_t kWithSubnormal = kWithSpecial;

constexpr Fault kFaults[] = {
    {"nothing", "reports success and computes nothing", kAllOps, nothing},
    {"stale", "the previous call's output lies over the new one", kAllOps, after<stale>},
    {"cached-by-shape", "a call of a known shape gets that shape's first result", kAllOps, after<cached_by_shape>},
    {"one-zeroed", "one element is zero", kAllOps, after_values<zero_one>},
    {"last-zeroed", "the last element is zero", kValueOps, after_values<zero_last>},
    {"row-scaled", "the last row is 1.002 times what it should be", kValueOps & ~bits({CONCORD_OP_KV_APPEND}),
     after_values<scale_row>},
    {"scaled", "the whole output is 1.0001 times what it should be", kComputed, after_values<scale_all>},
    {"scaled-slightly", "the whole output is 1 + 2^-20 times what it should be: only exact inputs show it", kExactOps,
     after_values<scale_slightly>},
    {"swapped", "two neighbours are swapped", kAllOps, after_values<swap_two>},
    {"rows-swapped", "first and last row are swapped", kValueOps & ~bits({CONCORD_OP_KV_APPEND}),
     after_values<swap_rows>},
    {"sign-flipped", "one element has the other sign", kValueOps, after_values<flip_sign>},
    {"output-bf16", "results are cut to bfloat16's width", kNarrow, after<cut_to_bf16>},
    {"output-f16", "F32 results went through float16", kNarrow, after_values<through_f16>},
    {"store-cut", "every second 16-bit result is one unit nearer to zero", kNarrow, after<store_cut>},
    {"nan-tail", "the last element is NaN", kValueOps, after_values<nan_at_end>},
    {"infinity-inside", "one element is infinite", kValueOps, after_values<infinity_inside>},
    {"nan-to-zero", "NaN becomes zero", kWithSpecial, after_values<nan_to_zero>},
    {"infinity-clamped", "infinities become the largest finite number", kWithSpecial, after_values<clamp_infinity>},
    {"subnormals-flushed", "subnormal results become zero", kWithSubnormal, after_values<flush_results>},
    {"inputs-flushed", "subnormal activations are read as zero", kWithSubnormal & ~bits({CONCORD_OP_EMBEDDING}),
     with<flush_inputs>},
    {"vector-remainder", "columns behind the last multiple of 16 are wrong",
     kValueOps & ~bits({CONCORD_OP_TOPK_ROUTING}), after_values<no_remainder>},
    {"row-remainder", "rows behind the last multiple of 4 are wrong", kValueOps & ~bits({CONCORD_OP_KV_APPEND}),
     after_values<no_row_remainder>},
    {"first-tile-only", "elements from the 65th on are zero", kValueOps, after_values<first_tile_only>},
};

}  // namespace

std::span<const Fault> output_faults() { return kFaults; }

}  // namespace mutant
