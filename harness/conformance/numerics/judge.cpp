// What came back from a device against what it must be. Pieces of an output are judged in parallel and joined in order,
// so that the findings do not depend on the threads.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "abi/concord_float.hpp"
#include "conformance/numerics/expectation.hpp"
#include "conformance/numerics/families.hpp"

namespace concord::conformance {
namespace {

constexpr std::uint64_t kPiece = 16384;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const char* judged_name(Judged j) {
  constexpr const char* kNames[] = {"bits", "exact", "bound", "index", "choice"};
  return kNames[static_cast<int>(j)];
}

double number_at(std::uint32_t dtype, const std::byte* p, std::uint64_t i) {
  if (dtype == CONCORD_I32) return concord_abi::load_as<std::int32_t>(p, i);
  if (dtype == CONCORD_I8) return concord_abi::load_as<std::int8_t>(p, i);
  double v = 0;
  concord_abi::load_f64(dtype, p + i * concord_abi::dtype_bytes(dtype), 1, &v);
  return v;
}

double rounded(std::uint32_t dtype, double v) {
  std::byte narrow[8];
  concord_abi::store_f64(dtype, &v, 1, narrow);
  return number_at(dtype, narrow, 0);
}

std::vector<std::int64_t> coordinates(const std::vector<std::int64_t>& dims, std::uint64_t index) {
  std::vector<std::int64_t> at(dims.size());
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    const auto extent = static_cast<std::uint64_t>(std::max<std::int64_t>(1, dims[axis]));
    at[axis] = static_cast<std::int64_t>(index % extent), index /= extent;
  }
  return at;
}

// One element's verdict.
struct Element {
  enum Fault { kNone, kNonfinite, kRigorous, kProbable } fault = kNone;
  double got = 0, want = 0, rigorous = 0, probable = 0;
  double error = 0, margin = 0, margin_probable = 0;  // finite elements only
};

double ratio(double error, double bound) { return error == 0 ? 0 : bound > 0 ? error / bound : kInf; }

struct Output {
  const ExpectedOutput& e;
  const Operand& o;
  const std::byte* got;
  const std::byte* initial;  // contents before the call, or NULL: poison

  std::uint64_t count() const { return o.bytes / concord_abi::dtype_bytes(o.dtype); }
  bool is_float() const { return concord_abi::is_float(o.dtype); }

  bool holds_its_old_bytes(std::uint64_t i) const {
    const std::size_t size = concord_abi::dtype_bytes(o.dtype);
    const std::byte* at = got + i * size;
    if (initial) return std::memcmp(at, initial + i * size, size) == 0;
    for (const unsigned repetition : {0u, 1u})
      if (std::memcmp(at, poison(o.dtype, repetition).data(), size) == 0) return true;
    return false;
  }

  Element bits(std::uint64_t i) const {
    const std::size_t size = concord_abi::dtype_bytes(o.dtype);
    Element x;
    x.got = number_at(o.dtype, got, i), x.want = number_at(o.dtype, e.bits.data(), i);
    const bool equal = std::memcmp(got + i * size, e.bits.data() + i * size, size) == 0;
    return unless(equal || (std::isnan(x.got) && std::isnan(x.want)), x);  // payloads of NaN are not defined
  }

  // Threshold 0.
  Element unless(bool right, Element x) const {
    if (right) return x;
    x.margin = x.margin_probable = kInf;
    x.error = std::isfinite(x.got) && std::isfinite(x.want) ? std::fabs(x.got - x.want) : 0;
    const bool kind = is_float() && (!std::isfinite(x.got) || !std::isfinite(x.want));
    x.fault = kind ? Element::kNonfinite : Element::kRigorous;
    return x;
  }

  Element exact(std::uint64_t i) const {
    Element x;
    x.got = number_at(o.dtype, got, i), x.want = is_float() ? rounded(o.dtype, e.want[i]) : e.want[i];
    return unless(x.got == x.want || (std::isnan(x.got) && std::isnan(x.want)), x);
  }

  // Near the largest finite number rounding may go to infinity; beyond it, it must.
  Element bound(std::uint64_t i) const {
    Element x;
    x.got = number_at(o.dtype, got, i), x.want = e.want[i], x.rigorous = e.rigorous[i], x.probable = e.probable[i];
    const double most = largest_finite(o.dtype);
    if (std::isnan(x.want) || std::isinf(x.want)) {
      const bool same = std::isnan(x.want) ? std::isnan(x.got) : x.got == x.want;
      x.fault = same ? Element::kNone : Element::kNonfinite;
    } else if (!std::isfinite(x.got)) {
      const bool overflow =
          std::isinf(x.got) && std::signbit(x.got) == std::signbit(x.want) && std::fabs(x.want) + x.rigorous > most;
      x.fault = overflow ? Element::kNone : Element::kNonfinite;
    } else {
      x.error = std::fabs(x.got - x.want);
      x.margin = ratio(x.error, x.rigorous), x.margin_probable = ratio(x.error, x.probable);
      x.fault = !(x.margin <= 1) ? Element::kRigorous : !(x.margin_probable <= 1) ? Element::kProbable : Element::kNone;
    }
    return x;
  }

  // One of the k largest (SAMPLE: the largest): an index in range, not chosen before in this row, whose key is as large
  // as the oracle's choice.
  Element choice(std::uint64_t i) const {
    const auto k = static_cast<std::uint64_t>(e.dims.size() > 1 ? e.dims.back() : 1), row = i / k;
    const std::uint64_t n = e.keys.size() / (count() / k);
    Element x;
    x.got = number_at(o.dtype, got, i), x.want = e.want[i], x.rigorous = x.probable = e.gap[i];
    bool valid = x.got >= 0 && x.got < static_cast<double>(n);
    for (std::uint64_t j = row * k; j < i; ++j) valid = valid && number_at(o.dtype, got, j) != x.got;
    if (!valid) return unless(false, x);
    if (x.got == x.want) return x;
    const double* keys = e.keys.data() + row * n;
    const double mine = keys[static_cast<std::size_t>(x.got)], best = keys[static_cast<std::size_t>(x.want)];
    // NaN and infinities have no neighbourhood: among equals of them the lowest index is the answer.
    if (std::isfinite(x.rigorous) && !(std::isfinite(mine) && std::isfinite(best))) return unless(false, x);
    x.error = std::fabs(mine - best);
    x.margin = x.margin_probable = std::isinf(x.rigorous) ? 0 : ratio(x.error, x.rigorous);
    x.fault = x.margin <= 1 ? Element::kNone : Element::kRigorous;
    return x;
  }

  Element judge(std::uint64_t i) const {
    switch (e.judged) {
      case Judged::kBits:
        return bits(i);
      case Judged::kBound:
        return bound(i);
      case Judged::kChoice:
        return choice(i);
      default:
        return exact(i);
    }
  }
};

// Findings of a run of elements; joined in order.
struct Piece {
  OutputFindings f;
  bool any_wrong = false, any = false;
  Element::Fault worst_fault = Element::kNone;
};

Coordinates coordinates_of(const Element& x, std::uint64_t i) { return {i, {}, x.got, x.want, x.rigorous, x.probable}; }

// Which of two wrong elements is worse: NaN and infinity first, then the larger margin; the earlier among equals.
double badness(const Element& x) { return x.fault == Element::kNonfinite ? kInf : x.margin; }

void take(Piece& piece, const Element& x, std::uint64_t i, bool untouched, double& worst) {
  OutputFindings& f = piece.f;
  const bool wrong = x.fault != Element::kNone;
  f.unwritten += untouched && wrong;
  f.nonfinite += x.fault == Element::kNonfinite, f.above_rigorous += x.fault == Element::kRigorous;
  f.above_probable += x.fault == Element::kProbable;
  f.max_error = std::max(f.max_error, x.error);
  f.margin = std::max(f.margin, x.margin), f.margin_probable = std::max(f.margin_probable, x.margin_probable);
  if (wrong && !piece.any_wrong) f.first = coordinates_of(x, i);
  const double bad = badness(x);
  if (wrong > piece.any_wrong || (wrong == piece.any_wrong && (!piece.any || bad > worst)))
    f.worst = coordinates_of(x, i), worst = bad;
  piece.any_wrong |= wrong, piece.any = true;
}

Piece judge_piece(const Output& out, std::uint64_t first, std::uint64_t n, double& worst) {
  Piece piece;
  for (std::uint64_t i = first; i < first + n; ++i) {
    const Element x = out.judge(i);
    take(piece, x, i, x.fault != Element::kNone && out.holds_its_old_bytes(i), worst);
  }
  return piece;
}

void join(OutputFindings& all, bool& any_wrong, double& all_worst, const Piece& piece, double worst, bool is_first) {
  const OutputFindings& f = piece.f;
  all.unwritten += f.unwritten, all.nonfinite += f.nonfinite, all.above_rigorous += f.above_rigorous;
  all.above_probable += f.above_probable, all.max_error = std::max(all.max_error, f.max_error);
  all.margin = std::max(all.margin, f.margin), all.margin_probable = std::max(all.margin_probable, f.margin_probable);
  if (piece.any_wrong && !any_wrong) all.first = f.first;
  if (is_first || piece.any_wrong > any_wrong || (piece.any_wrong == any_wrong && worst > all_worst))
    all.worst = f.worst, all_worst = worst;
  any_wrong |= piece.any_wrong;
}

// Bytes of the guards that are not what fill_outputs() wrote.
void judge_guards(const Operand& o, std::span<const std::byte> arena, OutputFindings& f) {
  const Fence fence = fence_of(o);
  const auto scan = [&](std::uint64_t begin, std::uint64_t end, std::uint64_t origin) {
    for (std::uint64_t i = begin; i < end; ++i)
      if (arena[i] != guard_byte(i) && f.guard_bytes++ == 0)
        f.guard_first = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(origin);
  };
  scan(fence.begin, o.offset, o.offset);
  scan(o.offset + o.bytes, fence.end, o.offset + o.bytes);
}

// Shapes whose operator gives equal elements whatever the inputs are.
bool always_equal(const Problem& p, const std::string& output) {
  const auto is_one = [&](const char* axis) { return p.spec.axis(axis) == 1; };
  switch (p.call.op) {
    case CONCORD_OP_LAYERNORM:  // one element less its mean
    case CONCORD_OP_SOFTMAX:
      return is_one("N");
    case CONCORD_OP_TOPK_ROUTING:
      return output == "weight" ? is_one("E") || (is_one("K") && p.spec.option("norm") == "1") : is_one("E");
    case CONCORD_OP_ARGMAX:
    case CONCORD_OP_SAMPLE:
      return is_one("V");
    default:
      return false;
  }
}

bool is_degenerate(const Problem& p, const ExpectedOutput& e, std::uint64_t n) {
  if (n < 2 || always_equal(p, e.name)) return false;
  for (std::uint64_t i = 1; i < n; ++i) {
    const bool bits = e.judged == Judged::kBits;
    const double a = bits ? number_at(e.dtype, e.bits.data(), 0) : e.want[0];
    const double b = bits ? number_at(e.dtype, e.bits.data(), i) : e.want[i];
    if (!(a == b || (std::isnan(a) && std::isnan(b)))) return false;
  }
  return true;
}

// Whether an output of zeros would pass: then a device that computes nothing does. Not where the device has declared
// wider arithmetic: products that may be flushed make any sum of subnormal numbers zero.
bool zeros_pass(const MathMode& mode, const ExpectedOutput& e, std::uint64_t n) {
  if (e.judged != Judged::kBound || mode != MathMode{}) return false;
  for (std::uint64_t i = 0; i < n; ++i)
    if (!(std::fabs(e.want[i]) <= e.probable[i])) return false;  // NaN and infinities too
  return n > 0;
}

OutputFindings judge_output(const Output& out) {
  const std::uint64_t n = out.count(), pieces = (n + kPiece - 1) / kPiece;
  std::vector<Piece> found(pieces);
  std::vector<double> worst(pieces, 0);
  tbb::parallel_for(std::uint64_t{0}, pieces, [&](std::uint64_t p) {
    found[p] = judge_piece(out, p * kPiece, std::min(kPiece, n - p * kPiece), worst[p]);
  });
  OutputFindings f;
  f.name = out.e.name, f.judged = judged_name(out.e.judged), f.elements = n;
  bool any_wrong = false;
  double all_worst = 0;
  for (std::uint64_t p = 0; p < pieces; ++p) join(f, any_wrong, all_worst, found[p], worst[p], p == 0);
  f.first.at = any_wrong ? coordinates(out.e.dims, f.first.index) : std::vector<std::int64_t>{};
  if (n > 0) f.worst.at = coordinates(out.e.dims, f.worst.index);
  return f;
}

const std::byte* initial_of(const Operand& o, std::span<const std::byte> inputs) {
  return o.initial ? inputs.data() + *o.initial : nullptr;
}

}  // namespace

std::vector<OutputFindings> judge_outputs(const Problem& problem, const Expectation& expectation,
                                          std::span<const std::byte> inputs, std::span<const std::byte> outputs) {
  std::vector<OutputFindings> all;
  for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
    const Operand& o = problem.outputs[i];
    const ExpectedOutput& e = expectation.outputs[i];
    OutputFindings f = judge_output({e, o, outputs.data() + o.offset, initial_of(o, inputs)});
    judge_guards(o, outputs, f);
    f.degenerate = is_degenerate(problem, e, f.elements) || zeros_pass(expectation.mode, e, f.elements);
    all.push_back(std::move(f));
  }
  return all;
}

std::vector<OutputFindings> judge_untouched(const Problem& problem, std::span<const std::byte> inputs,
                                            std::span<const std::byte> outputs) {
  std::vector<OutputFindings> all;
  for (const Operand& o : problem.outputs) {
    const ExpectedOutput none{o.name, o.dtype, o.dims, Judged::kBits, {}, {}, {}, {}, {}, {}};
    const Output out{none, o, outputs.data() + o.offset, initial_of(o, inputs)};
    OutputFindings f;
    f.name = o.name, f.judged = "untouched", f.elements = out.count();
    for (std::uint64_t i = 0; i < f.elements; ++i) {
      if (out.holds_its_old_bytes(i)) continue;
      const double got = number_at(o.dtype, out.got, i);
      if (f.above_rigorous++ == 0) f.first = f.worst = {i, coordinates(o.dims, i), got, kNaN, 0, 0};
      f.margin = f.margin_probable = kInf;
    }
    judge_guards(o, outputs, f);
    all.push_back(std::move(f));
  }
  return all;
}

}  // namespace concord::conformance
