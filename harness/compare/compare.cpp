// Two captures against each other: refuse what is not of one thing, stream over (layer, chunk) units in parallel, fold
// the units in their order.
#include "compare/compare.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>

#include "compare/accumulate.hpp"
#include "compare/judge.hpp"

namespace concord {
namespace {

using detail::accumulate;

// --- what must agree -----------------------------------------------------------------------------------------------

template <class T>
void list_difference(const char* name, const std::vector<T>& a, const std::vector<T>& b,
                     std::vector<std::string>& out) {
  if (a == b) return;
  if (a.size() != b.size()) {
    const std::size_t shown = 8;
    const auto head = [&](const std::vector<T>& v) {
      return fmt::format(
          "{}", fmt::join(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(std::min(shown, v.size())), ", "));
    };
    out.push_back(fmt::format("{}: {} of them ({}{}) against {} ({}{})", name, a.size(), head(a),
                              a.size() > shown ? ", ..." : "", b.size(), head(b), b.size() > shown ? ", ..." : ""));
    return;
  }
  const auto at = std::ranges::mismatch(a, b);
  out.push_back(fmt::format("{}[{}]: {} against {}", name, at.in1 - a.begin(), *at.in1, *at.in2));
}

std::vector<std::string> differences(const CaptureHeader& a, const CaptureHeader& b, bool ignore_nonce) {
  std::vector<std::string> out;
  const auto field = [&](const char* name, const auto& x, const auto& y) {
    if (x != y) out.push_back(fmt::format("{}: {} against {}", name, x, y));
  };
  field("workload digest", a.workload_digest, b.workload_digest);
  if (!ignore_nonce) field("nonce", a.nonce, b.nonce);
  field("hidden size", a.hidden, b.hidden);
  field("model layers", a.model_layers, b.model_layers);
  list_difference("layers", a.layers, b.layers, out);
  list_difference("positions", a.positions, b.positions, out);
  list_difference("tokens", a.tokens, b.tokens, out);
  return out;
}

Status check_same(const Capture& a, const Capture& b, bool ignore_nonce) {
  const auto& h = a.header();
  const auto found = differences(h, b.header(), ignore_nonce);
  if (!found.empty())
    return bad_input("compare.different_workload", fmt::format("the captures {} and {} are not of one workload: {}",
                                                               a.path(), b.path(), fmt::join(found, "; ")));
  if (h.layers.empty() || h.positions.empty() || h.hidden <= 0)
    return bad_input("compare.empty", "the captures hold no element, so there is nothing to compare", a.path());
  return {};
}

// --- plan ----------------------------------------------------------------------------------------------------------

int mantissa_bits(DType d) { return d == DType::kF32 ? 23 : d == DType::kF16 ? 10 : 7; }
std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

struct Task {
  const Profile* profile = nullptr;
  std::size_t group = 0;                   // index into Plan::groups
  const CalibratedLimit* limit = nullptr;  // calibrated
};

struct Plan {
  const Capture& a;
  const Capture& b;
  const CaptureHeader& header;           // of a; b's agrees in all that is used
  DType dtype;                           // judged in
  std::vector<MetricParameters> groups;  // distinct tau_m, tau_w: one pass each
  std::vector<Task> tasks;
  bool cell_quantiles = false;
  std::size_t chunks = 0;

  bool judges(const Task& t, std::int64_t layer) const {
    const Profile& p = *t.profile;
    if (p.kind == Profile::Kind::kToploc) return layer == header.model_layers;
    if (p.kind == Profile::Kind::kCalibrated && !t.limit) return false;
    return (layer != 0 || p.include_embedding) && layer % p.layer_stride == 0;
  }
};

Plan make_plan(const Capture& a, const Capture& b, std::span<const Profile> profiles, const CompareContext& context) {
  const DType da = a.header().dtype, db = b.header().dtype;
  Plan plan{a, b, a.header(), mantissa_bits(da) < mantissa_bits(db) ? da : db, {}, {}, false, a.chunks()};
  const std::string activations =
      context.activations.empty() ? lower(dtype_name(plan.dtype)) : lower(context.activations);
  for (const Profile& p : profiles) {
    const MetricParameters parameters = context.parameters.value_or(p.parameters);
    const auto group = std::ranges::find(plan.groups, parameters);
    Task t{&p, static_cast<std::size_t>(group - plan.groups.begin()), nullptr};
    if (group == plan.groups.end()) plan.groups.push_back(parameters);
    if (p.kind == Profile::Kind::kCalibrated) t.limit = p.limit_for(activations, context.class_name, b.header().model);
    if (t.limit && std::isfinite(t.limit->ulp_p99_max)) plan.cell_quantiles = true;
    plan.tasks.push_back(t);
  }
  return plan;
}

std::string dtype_note(const Plan& plan) {
  const DType da = plan.a.header().dtype, db = plan.b.header().dtype;
  if (da == db) return {};
  return fmt::format(
      "the subject is {}, the reference {}: both were rounded to {} (to nearest, ties to even) before they were "
      "compared",
      dtype_name(da), dtype_name(db), dtype_name(plan.dtype));
}

// --- one unit: a chunk of one layer ----------------------------------------------------------------------------------

struct Unit {
  std::vector<ElementStats> pooled;                // per group
  std::vector<std::vector<CellVerdict>> verdicts;  // per task
  std::optional<CellVerdict> special;              // first cell with elements of differing class
};

struct Rows {
  std::span<const std::byte> a, b;  // in the judged dtype
  std::size_t count = 0, row_bytes = 0, elements = 0;
  std::vector<std::byte> storage[2];

  std::span<const std::byte> row_a(std::size_t r) const { return a.subspan(r * row_bytes, row_bytes); }
  std::span<const std::byte> row_b(std::size_t r) const { return b.subspan(r * row_bytes, row_bytes); }
};

std::span<const std::byte> in_dtype(const Capture& c, std::int64_t layer, std::size_t first, std::size_t n, DType to,
                                    std::vector<std::byte>& storage) {
  const DType from = c.header().dtype;
  const std::size_t width = dtype_bits(from) / 8;
  const auto bytes = c.states(layer).subspan(first * width, n * width);
  if (from == to) return bytes;
  storage.resize(n * dtype_bits(to) / 8);
  convert_floats(from, bytes.data(), to, storage.data(), n);
  return storage;
}

void load_rows(const Plan& plan, std::int64_t layer, std::size_t chunk, Rows& rows) {
  const std::size_t hidden = static_cast<std::size_t>(plan.header.hidden), first = chunk * kChunkPositions;
  rows.count = std::min<std::size_t>(kChunkPositions, plan.header.positions.size() - first);
  rows.elements = hidden;
  rows.row_bytes = hidden * dtype_bits(plan.dtype) / 8;
  rows.a = in_dtype(plan.a, layer, first * hidden, rows.count * hidden, plan.dtype, rows.storage[0]);
  rows.b = in_dtype(plan.b, layer, first * hidden, rows.count * hidden, plan.dtype, rows.storage[1]);
}

// Statistics of every cell of the chunk, and pooled. The ulp histogram goes to the pool directly where no profile asks
// for a cell's quantiles.
std::vector<ElementStats> cell_stats(const Plan& plan, const Rows& rows, const MetricParameters& parameters,
                                     ElementStats& pooled) {
  std::vector<ElementStats> cells(rows.count);
  std::vector<std::uint64_t> histogram(kUlpBins);
  for (std::size_t r = 0; r < rows.count; ++r) {
    ElementStats& cell = cells[r];
    if (plan.cell_quantiles)
      cell.ulp_histogram.resize(kUlpBins);
    else
      cell.ulp_histogram.swap(histogram);
    accumulate(plan.dtype, rows.row_a(r).data(), rows.row_b(r).data(), rows.elements, parameters, cell);
    if (!plan.cell_quantiles) cell.ulp_histogram.swap(histogram);
    pooled.merge(cell);
  }
  if (!plan.cell_quantiles) pooled.ulp_histogram = std::move(histogram);
  return cells;
}

void judge_cells(const Plan& plan, const Task& t, const Rows& rows, const std::vector<ElementStats>& cells,
                 const ElementStats& pooled, std::vector<CellVerdict>& out) {
  const Profile& p = *t.profile;
  switch (p.kind) {
    case Profile::Kind::kPaper:
      out.push_back(detail::judge_paper(p, pooled));
      return;
    case Profile::Kind::kSeed:
      for (std::size_t r = 0; r < rows.count; ++r)
        out.push_back(detail::judge_seed(p, seed_stats(plan.dtype, rows.row_a(r), rows.row_b(r)), cells[r].special));
      return;
    case Profile::Kind::kToploc:
      // A chunk with fewer elements than the proof has coefficients cannot be held to limits out of `topk`.
      if (rows.count * rows.elements < p.topk) return;
      out.push_back(detail::judge_toploc(p, toploc_stats(plan.dtype, rows.a, rows.b, p.topk), pooled.special));
      return;
    case Profile::Kind::kCalibrated:
      for (const auto& cell : cells) out.push_back(detail::judge_calibrated(*t.limit, cell));
  }
}

Unit compute_unit(const Plan& plan, std::size_t index) {
  const std::int64_t layer = plan.header.layers[index / plan.chunks];
  const std::size_t chunk = index % plan.chunks;
  Rows rows;
  load_rows(plan, layer, chunk, rows);
  Unit unit{
      std::vector<ElementStats>(plan.groups.size()), std::vector<std::vector<CellVerdict>>(plan.tasks.size()), {}};
  const auto place = [&](CellVerdict& v, std::size_t row) {
    v.layer = layer;
    v.position = plan.header.positions[chunk * kChunkPositions + row];
  };
  for (std::size_t g = 0; g < plan.groups.size(); ++g) {
    const auto cells = cell_stats(plan, rows, plan.groups[g], unit.pooled[g]);
    for (std::size_t r = 0; r < cells.size() && !unit.special; ++r) {
      if (cells[r].special == 0) continue;
      unit.special = detail::special_verdict(cells[r].special);
      place(*unit.special, r);
    }
    for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
      if (plan.tasks[t].group != g || !plan.judges(plan.tasks[t], layer)) continue;
      judge_cells(plan, plan.tasks[t], rows, cells, unit.pooled[g], unit.verdicts[t]);
      for (std::size_t r = 0; r < unit.verdicts[t].size(); ++r) place(unit.verdicts[t][r], r);
    }
  }
  return unit;
}

// --- folding ---------------------------------------------------------------------------------------------------------

void add_unit(const Plan& plan, std::size_t index, std::size_t task, Unit& unit, Comparison& c) {
  const Task& t = plan.tasks[task];
  LayerResult& layer = c.layers[index / plan.chunks];
  layer.stats.merge(unit.pooled[t.group]);
  for (CellVerdict& v : unit.verdicts[task]) {
    ++layer.cells;
    ++c.cells;
    layer.accepted += v.accepted;
    c.accepted += v.accepted;
    c.pm_skipped += v.pm_skipped;
    if (!v.accepted && !c.first_failure) c.first_failure = v;
    c.verdicts.push_back(std::move(v));
  }
}

std::string why_nothing(const Plan& plan, const Task& t, const CompareContext& context) {
  const Profile& p = *t.profile;
  const bool final_norm = plan.header.layers.back() == plan.header.model_layers;
  if (p.kind == Profile::Kind::kToploc && !final_norm)
    return fmt::format("the captures lack hidden state {}, the output of the final norm, which this profile judges",
                       plan.header.model_layers);
  if (p.kind == Profile::Kind::kToploc)
    return fmt::format("too few samples: no chunk has the {} elements that a proof needs", p.topk);
  if (p.kind != Profile::Kind::kCalibrated || t.limit)
    return fmt::format("too few samples: no captured layer is one that this profile judges ({}multiples of {})",
                       p.include_embedding ? "" : "the embedding output is not; ", p.layer_stride);
  std::vector<std::string> known;
  for (const auto& l : p.limits) known.push_back(l.activations + "/" + l.class_name + "/" + l.model);
  return fmt::format("profile {} has no limits for {}/{}/{}; it has: {}", p.name,
                     context.activations.empty() ? lower(dtype_name(plan.dtype)) : lower(context.activations),
                     context.class_name.empty() ? "(no class given)" : context.class_name, plan.b.header().model,
                     known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
}

void add_notes(const Plan& plan, const Task& t, const CompareContext& context, Comparison& c) {
  if (context.ignore_nonce && plan.a.header().nonce != plan.b.header().nonce)
    c.notes.push_back("the nonces differ and were ignored: nothing ties these captures to one request");
  if (c.pm_skipped > 0)
    c.notes.push_back(
        fmt::format("Pm was not applicable in {} of {} chunks (fewer than {} exponent mismatches) and skipped there",
                    c.pm_skipped, c.cells, t.profile->pm_min_count));
  if (t.limit)
    c.notes.push_back(fmt::format("limits for {}/{}/{}: {}", t.limit->activations, t.limit->class_name,
                                  t.limit->model, t.limit->source));
}

Comparison fold(const Plan& plan, std::size_t task, std::vector<Unit>& units, const CompareContext& context) {
  const Task& t = plan.tasks[task];
  Comparison c;
  c.profile = t.profile->name;
  c.dtype_note = dtype_note(plan);
  c.unit = t.profile->kind == Profile::Kind::kPaper || t.profile->kind == Profile::Kind::kToploc ? "chunk" : "cell";
  for (std::int64_t layer : plan.header.layers) c.layers.push_back({layer, {}, 0, 0});
  const CellVerdict* special = nullptr;
  for (std::size_t i = 0; i < units.size(); ++i) {
    add_unit(plan, i, task, units[i], c);
    if (units[i].special && !special) special = &*units[i].special;
  }
  for (const auto& layer : c.layers)
    if (layer.cells > 0) c.total.merge(layer.stats);
  if (c.cells == 0) c.rule = why_nothing(plan, t, context);
  add_notes(plan, t, context, c);
  detail::conclude(*t.profile, special, c);
  return c;
}

}  // namespace

Result<std::vector<Comparison>> compare(const Capture& subject, const Capture& reference,
                                        std::span<const Profile> profiles, const CompareContext& context) {
  CONCORD_CHECK(check_same(subject, reference, context.ignore_nonce));
  const Plan plan = make_plan(subject, reference, profiles, context);
  std::vector<Unit> units(plan.header.layers.size() * plan.chunks);
  tbb::task_arena arena(context.threads > 0 ? context.threads : tbb::task_arena::automatic);
  arena.execute([&] {
    tbb::parallel_for(std::size_t{0}, units.size(), [&](std::size_t i) { units[i] = compute_unit(plan, i); });
  });
  std::vector<Comparison> out;
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) out.push_back(fold(plan, t, units, context));
  return out;
}

}  // namespace concord
