#include "conformance/numerics/bounds.hpp"

#include <algorithm>

#include "abi/concord_float.hpp"
#include "conformance/numerics/families.hpp"

namespace concord::conformance {
namespace {

struct Entry {
  concord_op op;
  BoundFunction bound;
  const char* formula;
};
constexpr const char* kSum = "; probable 2 lambda u sqrt((n+1)(Q/6+S^2/3)+Q)";
constexpr Entry kEntries[] = {
    {CONCORD_OP_EMBEDDING, bound_embedding, "u |w|"},
    {CONCORD_OP_RMSNORM, bound_norm, "gamma((N+8)/2+13) |y|"},
    {CONCORD_OP_LAYERNORM, bound_norm, "gamma((N+10)/2+14) |y-shift| + error of the mean"},
    {CONCORD_OP_MATMUL, bound_matmul, "gamma(K+5) |x||W| + gamma(2) |bias|"},
    {CONCORD_OP_ROPE, bound_rope, "u (|a cos|+|b sin|+|y|)"},
    {CONCORD_OP_ATTENTION, bound_attention, "weights by gamma(D+4) scale |q||k|, 3 ulp exp; sums gamma(L+3) p|v|"},
    {CONCORD_OP_SWIGLU, bound_swiglu, "gamma(13) |y|"},
    {CONCORD_OP_GELU, bound_gelu, "16 ulp erf or 5 ulp tanh in 0.5 x (1 + f)"},
    {CONCORD_OP_ADD, bound_add, "u |a+b|"},
    {CONCORD_OP_SOFTMAX, bound_softmax, "gamma(N+18) + 2u |x-max| (own and weighted)"},
    {CONCORD_OP_TOPK_ROUTING, bound_topk, "softmax, gamma(K+6) where normalised"},
    {CONCORD_OP_SAMPLE, bound_sample, "scores within 4 v (6 + 7 max|g| + 2 |score|), v = 2^-53"},
};

std::uint32_t accumulate_of(const Problem& p) { return p.call.accumulate; }

// The oracle's own error: double with compensated sums is some 2^-50 of the value.
constexpr double kOracle = 0x1p-50;

}  // namespace

Err Rules::sum(const Terms& t, double more) const {
  const double worst = gamma(t.n + more) * t.size + t.n * eta;
  const double spread = exchangeable ? lambda * sum_spread(t) : lambda_of(t.n) * sum_spread(t);
  return {worst, std::min(worst, spread + more * u * std::fabs(t.sum) + t.lost + t.n * eta)};
}

double Rules::sum_spread(const Terms& t) const {
  if (!exchangeable) return u * std::sqrt(t.n + 1) * t.size;
  return 2 * u * std::sqrt((t.n + 1) * (t.squares / 6 + t.sum * t.sum / 3) + t.squares);
}

Rules rules_of(const Problem& problem, const MathMode& mode, std::uint64_t outputs) {
  Rules r;
  const bool wide = accumulate_of(problem) == CONCORD_F64;
  if (wide) r.u = 0x1p-53, r.eta = 0x1p-1074;
  r.largest = wide ? 709.7 : 88.7;
  r.mode = mode;
  r.ln_outputs = std::log(2.0 * static_cast<double>(std::max<std::uint64_t>(1, outputs))) + 40 * std::log(2.0);
  r.lambda = r.lambda_of(1);
  r.exchangeable = is_one_of("uniform gaussian heavy shift", problem.spec.option("in"));
  return r;
}

double half_ulp(std::uint32_t dtype, double size) {
  const int digits = dtype == CONCORD_F16 ? 11 : dtype == CONCORD_BF16 ? 8 : dtype == CONCORD_F64 ? 53 : 24;
  const int exponent = size > 0 && std::isfinite(size) ? std::ilogb(size) : -10000;
  return std::ldexp(1.0, std::max(exponent, smallest_exponent(dtype)) - digits);
}

Err stored(std::uint32_t dtype, std::uint32_t accumulate, double y, Err err) {
  if (dtype == accumulate) return err;
  const double size = std::fabs(y);
  return {err.worst + half_ulp(dtype, size + err.worst), err.likely + half_ulp(dtype, size + err.likely)};
}

std::vector<double> BoundInput::values(const std::string& name) const {
  const Operand& o = problem.input(name);
  const std::byte* from = arena.data() + o.offset;
  if (o.dtype == CONCORD_I8 || o.dtype == CONCORD_I32) {
    std::vector<double> v(o.bytes / concord_abi::dtype_bytes(o.dtype));
    for (std::size_t i = 0; i < v.size(); ++i)
      v[i] = o.dtype == CONCORD_I8 ? concord_abi::load_as<std::int8_t>(from, i)
                                   : concord_abi::load_as<std::int32_t>(from, i);
    return v;
  }
  std::vector<double> v(o.bytes / concord_abi::dtype_bytes(o.dtype));
  concord_abi::load_f64(o.dtype, from, v.size(), v.data());
  return v;
}

bool BoundInput::has(const std::string& name) const {
  return std::any_of(problem.inputs.begin(), problem.inputs.end(), [&](const Operand& o) { return o.name == name; });
}

void BoundInput::put(ExpectedOutput& out, std::size_t i, Err err) const {
  const double want = std::fabs(out.want[i]);
  // A finite result of a row with infinities (a masked logit, a norm's zeros) has no error but its rounding.
  if (!std::isfinite(err.worst)) err = rules.relative(4, 4) * (std::isfinite(want) ? want : 0);
  if (!(err.likely <= err.worst)) err.likely = err.worst;
  const double oracle = kOracle * (std::isfinite(want) ? want : 0) + 2 * rules.eta;
  const Err total = stored(out.dtype, accumulate_of(problem), want, err + Err{oracle, oracle});
  out.rigorous[i] = total.worst, out.probable[i] = total.likely;
}

void add_bounds(const Problem& problem, std::span<const std::byte> inputs, std::span<const double> sums,
                Expectation& e) {
  std::uint64_t outputs = 0;
  bool needed = problem.call.op == CONCORD_OP_SAMPLE, sums_bounded = false;
  for (ExpectedOutput& o : e.outputs) {
    outputs += o.want.size();
    if (o.judged == Judged::kChoice) needed = true;
    if (o.judged != Judged::kBound) continue;
    needed = sums_bounded = true;
    o.rigorous.assign(o.want.size(), 0), o.probable.assign(o.want.size(), 0);
  }
  e.bound_formula = "equal";
  if (!needed) return;
  const Rules rules = rules_of(problem, e.mode, outputs);
  e.lambda = rules.lambda;
  for (const Entry& entry : kEntries) {
    if (entry.op != problem.call.op) continue;
    entry.bound({problem, inputs, sums, rules}, e);
    e.bound_formula = entry.formula;
    if (sums_bounded) e.bound_formula += rules.exchangeable ? kSum : "; probable lambda sqrt(n) u sum|a|";
  }
}

}  // namespace concord::conformance
