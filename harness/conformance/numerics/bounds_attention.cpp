// Attention. To first order the result errs by sum p_j d_j (v_j - y), where d_j is the relative error of weight j
// before it is normalised, and by the roundings of the two sums over the context.
#include <tbb/parallel_for.h>

#include <algorithm>

#include "conformance/numerics/bounds.hpp"

namespace concord::conformance {
namespace {

// An online softmax scales what it has summed when a larger score comes: at most once in 16 rows, and 32 times more.
double rescales(double rows) { return std::min(rows, 32 + rows / 16); }

struct Scores {
  std::vector<double> weight;         // p_j
  std::vector<double> worst, spread;  // of d_j: at most; per unit of lambda
  Terms total;                        // of p
  double most = 0, common = 0;        // the largest `worst` that matters; sum p worst
};
// Sums over the context for one element: of p v and of what the weights' errors make of it.
struct Moved {
  double sum = 0, size = 0, squares = 0, lost = 0, worst = 0, spread = 0;
};

struct Attention {
  const BoundInput& in;
  std::size_t d = in.axis("D"), heads = in.axis("H"), groups = in.axis("G"), p = in.axis("P");
  bool split = in.axis("S") > 1;  // several sequences
  std::vector<double> q = in.values("q"), rows = in.values("rows"), keys = cache("kc", "ks"),
                      values = cache("vc", "vs");
  bool quantised = in.has("ks");

  std::vector<double> cache(const char* name, const char* scales) const {
    std::vector<double> v = in.values(name);
    if (!in.has(scales)) return v;
    const std::vector<double> scale = in.values(scales);
    const std::size_t width = in.axis("D");
    for (std::size_t i = 0; i < v.size(); ++i) v[i] *= scale[i / width];
    return v;
  }

  std::size_t first_row(std::size_t at) const { return split ? at / p * p : 0; }
  const double* head_of(const std::vector<double>& all, std::size_t row, std::size_t head) const {
    return all.data() + (row * groups + head / (heads / groups)) * d;
  }

  Scores scores(const double* query, std::size_t first, std::size_t n, std::size_t head) const {
    const Rules& r = in.rules;
    const double scale = std::fabs(in.problem.call.scale), more = quantised ? 4 : 3;
    Scores s;
    std::vector<double> score(n);
    s.weight.resize(n), s.worst.resize(n), s.spread.resize(n);
    for (std::size_t j = 0; j < n; ++j) {
      const double* key = head_of(keys, first + j, head);
      Terms t;
      for (std::size_t i = 0; i < d; ++i) t.add(query[i] * key[i]);
      score[j] = t.sum * in.problem.call.scale;
      s.worst[j] = (r.gamma(t.n + more) * t.size + t.n * r.eta) * scale;
      s.spread[j] = r.sum_spread(t) * scale + more * r.u * std::fabs(score[j]);
      if (r.mode.tf32)
        s.worst[j] += 0x1.01p-9 * t.size * scale,
            s.spread[j] += (0x1p-9 * std::sqrt(t.squares) + 0x1p-12 * std::fabs(t.sum)) * scale;
    }
    const double largest = *std::max_element(score.begin(), score.end());
    double total = 0;
    for (std::size_t j = 0; j < n; ++j) total += s.weight[j] = std::exp(score[j] - largest);
    for (std::size_t j = 0; j < n; ++j) {
      s.weight[j] /= total;
      const double argument = std::fabs(score[j]) + std::fabs(largest);
      s.worst[j] += r.u * (3 * argument + 2 * allowed_ulp::kExp);
      s.spread[j] += r.u * (argument + 2 * likely_ulp::kExp);
      s.total.add(s.weight[j]), s.common += s.weight[j] * s.worst[j];
      if (s.weight[j] < 2 * r.u) s.total.lost += s.weight[j];
      if (s.weight[j] > 0) s.most = std::max(s.most, s.worst[j]);
    }
    return s;
  }

  // What the scores' errors do to each element, by rows of the context.
  void move(const Scores& s, std::size_t first, std::size_t head, const double* y, std::vector<Moved>& moved) const {
    for (std::size_t j = 0; j < s.weight.size(); ++j) {
      const double *v = head_of(values, first + j, head), w = s.weight[j], worst = s.worst[j];
      const double own = w * s.spread[j], lost = w < 2 * in.rules.u ? w : 0;
      for (std::size_t i = 0; i < d; ++i) {
        Moved& m = moved[i];
        const double term = w * v[i], away = own * (v[i] - y[i]), size = std::fabs(term);
        m.sum += term, m.size += size, m.squares += term * term, m.lost += lost * std::fabs(v[i]);
        m.worst += size * worst, m.spread += away * away;
      }
    }
  }

  Err error(const Moved& m, const Scores& s, double y) const {
    const Rules& r = in.rules;
    const double n = static_cast<double>(s.weight.size()),
                 curved = s.most > 0 ? std::expm1(std::min(2 * s.most, 50.0)) / (2 * s.most) : 1;
    const double scalings = (2 * allowed_ulp::kExp + 2) * rescales(n);
    Err err{(m.worst + std::fabs(y) * s.common) * std::max(1.0, curved) * 1.001,
            r.lambda * std::sqrt(m.spread) * std::max(1.0, curved)};
    const Terms sum{n, m.size, m.squares, m.sum, m.lost};
    const Err sums = r.sum(sum, 3) + r.sum(s.total, 2 + 2 * allowed_ulp::kDivide) * std::fabs(y);
    err = err + sums + Err{r.gamma(2 * scalings) * m.size, 32 * r.u * m.size};
    if (r.mode.tf32)
      err = err + Err{0x1.01p-9 * m.size, 0x1p-9 * std::fabs(y) + r.lambda * 0x1p-10 * 1.5 * std::sqrt(m.squares)};
    return err;
  }

  void token_head(ExpectedOutput& out, std::size_t at) const {
    const auto last = static_cast<std::size_t>(rows[at / heads]);
    const std::size_t first = first_row(last), head = at % heads;
    const Scores s = scores(q.data() + at * d, first, last - first + 1, head);
    const double* y = out.want.data() + at * d;
    std::vector<Moved> moved(d);
    move(s, first, head, y, moved);
    for (std::size_t i = 0; i < d; ++i) in.put(out, at * d + i, error(moved[i], s, y[i]));
  }
};

}  // namespace

void bound_attention(const BoundInput& in, Expectation& e) {
  const Attention a{in};
  tbb::parallel_for(std::size_t{0}, in.axis("T") * a.heads, [&](std::size_t at) { a.token_head(e.outputs[0], at); });
}

}  // namespace concord::conformance
