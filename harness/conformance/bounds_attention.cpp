// Attention. To first order the result errs by sum p_j d_j (v_j - y), where d_j is the relative error of weight j
// before it is normalised, and by the roundings of the two sums over the context.
#include <tbb/parallel_for.h>

#include <algorithm>

#include "conformance/bounds.hpp"

namespace concord::conformance {
namespace {

// An online softmax scales what it has summed when a larger score comes: counted for blocks of 16 rows, and 32 times.
double rescales(double rows) { return std::min(rows, 32 + rows / 16); }

struct Scores {
  std::vector<double> weight;         // p_j
  std::vector<double> worst, spread;  // of d_j: at most; per unit of lambda
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
    }
    return s;
  }

  void put(ExpectedOutput& out, std::size_t at, std::size_t i, const Scores& s, std::size_t first,
           std::size_t head) const {
    const Rules& r = in.rules;
    const double y = out.want[at * d + i], n = static_cast<double>(s.weight.size());
    Terms sum, total;
    double moved = 0, common = 0, spread = 0, most = 0;
    for (std::size_t j = 0; j < s.weight.size(); ++j) {
      const double v = head_of(values, first + j, head)[i], w = s.weight[j], term = w * v;
      sum.add(term), total.add(w);
      moved += std::fabs(term) * s.worst[j], common += w * s.worst[j];
      const double own = w * s.spread[j] * (v - y);
      spread += own * own;
      if (w > 0) most = std::max(most, s.worst[j]);
    }
    const double curved = most > 0 ? std::expm1(std::min(2 * most, 50.0)) / (2 * most) : 1;
    const double fixed = 2 * allowed_ulp::kDivide + (2 * allowed_ulp::kExp + 2) * rescales(n) + (quantised ? 2 : 1);
    Err err{(moved + std::fabs(y) * common) * std::max(1.0, curved) * 1.001,
            r.lambda * std::sqrt(spread) * std::max(1.0, curved)};
    err = err + r.sum(sum, fixed) + r.sum(total, fixed) * std::fabs(y);
    err.likely += 32 * r.u * sum.size;  // the scalings of an online softmax
    if (r.mode.tf32)
      err = err + Err{0x1.01p-9 * sum.size, 0x1p-9 * std::fabs(y) + r.lambda * 0x1p-10 * 1.5 * std::sqrt(sum.squares)};
    in.put(out, at * d + i, err);
  }

  void token_head(ExpectedOutput& out, std::size_t at) const {
    const auto last = static_cast<std::size_t>(rows[at / heads]);
    const std::size_t first = first_row(last), head = at % heads;
    const Scores s = scores(q.data() + at * d, first, last - first + 1, head);
    for (std::size_t i = 0; i < d; ++i) put(out, at, i, s, first, head);
  }
};

}  // namespace

void bound_attention(const BoundInput& in, Expectation& e) {
  const Attention a{in};
  tbb::parallel_for(std::size_t{0}, in.axis("T") * a.heads, [&](std::size_t at) { a.token_head(e.outputs[0], at); });
}

}  // namespace concord::conformance
