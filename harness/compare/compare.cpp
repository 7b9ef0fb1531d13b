// Two captures against each other: refuse what is not of one thing, stream over (layer, chunk) units in parallel, fold
// the units in their order. A bounded number of them is on its way at a time.
#include "compare/compare.hpp"

#include <fmt/format.h>
#include <tbb/parallel_pipeline.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "compare/accumulate.hpp"
#include "compare/judge.hpp"

namespace concord {
namespace {

using detail::Judgement;

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

// From this many elements of a layer on, one in `kSampleStep` is enough for ulp quantiles that nothing is judged by.
constexpr std::size_t kSampledFrom = 1u << 16, kSampleStep = 8;

struct Plan {
  const Capture& a;
  const Capture& b;
  const CaptureHeader& header;           // of a; b's agrees in all that is used
  DType dtype;                           // judged in
  std::vector<MetricParameters> groups;  // distinct tau_m, tau_w; the first is counted in the one pass
  std::vector<Task> tasks;
  bool keeps_cells = false, cell_quantiles = false;
  std::size_t chunks = 0;
  bool sample = false;  // whether the ulp quantiles come from a sample

  std::size_t units() const { return header.layers.size() * chunks; }
  // Whether the seed's figures are needed, which only some layers are judged by.
  bool seeds(std::int64_t layer) const {
    return std::ranges::any_of(
        tasks, [&](const Task& t) { return t.profile->kind == Profile::Kind::kSeed && judges(t, layer); });
  }
  bool judges(const Task& t, std::int64_t layer) const {
    const Profile& p = *t.profile;
    if (p.kind == Profile::Kind::kToploc) return layer == header.model_layers;
    if (p.kind == Profile::Kind::kCalibrated && !t.limit) return false;
    return (layer != 0 || p.include_embedding) && layer % p.layer_stride == 0;
  }
};

Plan make_plan(const Capture& a, const Capture& b, std::span<const Profile> profiles, const CompareContext& context) {
  const DType da = a.header().dtype, db = b.header().dtype;
  Plan plan{a, b, a.header(), mantissa_bits(da) < mantissa_bits(db) ? da : db, {}, {}, false, false, a.chunks()};
  const std::string activations =
      context.activations.empty() ? lower(dtype_name(plan.dtype)) : lower(context.activations);
  for (const Profile& p : profiles) {
    const MetricParameters parameters = context.parameters.value_or(p.parameters);
    const auto group = std::ranges::find(plan.groups, parameters);
    Task t{&p, static_cast<std::size_t>(group - plan.groups.begin()), nullptr};
    if (group == plan.groups.end()) plan.groups.push_back(parameters);
    if (p.kind == Profile::Kind::kCalibrated) t.limit = p.limit_for(activations, context.class_name, b.header().model);
    if (t.limit) plan.keeps_cells = true;
    if (t.limit && std::isfinite(t.limit->ulp_p99_max)) plan.cell_quantiles = true;
    plan.tasks.push_back(t);
  }
  const std::size_t elements = static_cast<std::size_t>(plan.header.hidden) * plan.header.positions.size();
  plan.sample = !plan.cell_quantiles && elements >= kSampledFrom;
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
  std::vector<ElementStats> pooled;              // per group; the histogram in the first only
  std::vector<std::vector<Judgement>> verdicts;  // per task
  std::size_t special_row = 0;                   // first row with elements of differing class,
  std::uint64_t special = 0;                     // and how many it has
};

// What one thread keeps from unit to unit.
struct Workspace {
  detail::Scratch scratch;
  std::vector<ElementStats> cells;  // only where a profile judges cells by them
  std::vector<std::byte> storage[2];
};

struct Rows {
  std::span<const std::byte> a, b;  // in the judged dtype
  std::size_t count = 0, row_bytes = 0, elements = 0;

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

Rows load_rows(const Plan& plan, std::int64_t layer, std::size_t chunk, Workspace& work) {
  const std::size_t hidden = static_cast<std::size_t>(plan.header.hidden), first = chunk * kChunkPositions;
  Rows rows;
  rows.count = std::min<std::size_t>(kChunkPositions, plan.header.positions.size() - first);
  rows.elements = hidden;
  rows.row_bytes = hidden * dtype_bits(plan.dtype) / 8;
  rows.a = in_dtype(plan.a, layer, first * hidden, rows.count * hidden, plan.dtype, work.storage[0]);
  rows.b = in_dtype(plan.b, layer, first * hidden, rows.count * hidden, plan.dtype, work.storage[1]);
  return rows;
}

// Every row in one pass: the seed's verdicts fall out on the way, the statistics are pooled.
void walk_rows(const Plan& plan, std::int64_t layer, const Rows& rows, Workspace& work, Unit& unit) {
  detail::RowPlan row_plan = detail::row_plan(plan.dtype, plan.groups.front(), plan.seeds(layer));
  row_plan.step = plan.sample ? kSampleStep : 1;
  ElementStats& pool = unit.pooled.front();
  pool.ulp_histogram.assign(kUlpBins, 0);
  work.cells.clear();
  for (std::size_t r = 0; r < rows.count; ++r) {
    row_plan.phase = r % row_plan.step;  // no column is looked at more often than another
    const auto row =
        detail::compare_row(row_plan, rows.row_a(r).data(), rows.row_b(r).data(), rows.elements, work.scratch);
    if (row.state.special > 0 && unit.special == 0) unit.special_row = r, unit.special = row.state.special;
    for (std::size_t t = 0; row_plan.seed && t < plan.tasks.size(); ++t)
      if (plan.tasks[t].profile->kind == Profile::Kind::kSeed)
        unit.verdicts[t].push_back(
            detail::judge_seed(*plan.tasks[t].profile, detail::seed_figures(plan.dtype, row), row.state.special));
    if (!plan.keeps_cells) {
      detail::add_row(row, pool);
      continue;
    }
    ElementStats& cell = work.cells.emplace_back();
    detail::add_row(row, cell);
    if (plan.cell_quantiles) {
      cell.ulp_histogram.assign(kUlpBins, 0);
      detail::drain_bins(work.scratch, cell.ulp_max, cell.ulp_histogram);
    }
    pool.merge(cell);
  }
  if (!plan.cell_quantiles) detail::drain_bins(work.scratch, pool.ulp_max, pool.ulp_histogram);
}

// Groups differ in two counts only.
void count_other_groups(const Plan& plan, const Rows& rows, Unit& unit) {
  for (std::size_t g = 1; g < plan.groups.size(); ++g) {
    const auto gaps =
        detail::count_gaps(plan.dtype, rows.a.data(), rows.b.data(), rows.count * rows.elements, plan.groups[g]);
    ElementStats& pool = unit.pooled[g];
    pool = unit.pooled.front();
    pool.ulp_histogram.clear();
    pool.mismatch_large = gaps.mismatch_large;
    pool.match_small = gaps.match_small;
  }
}

void judge_unit(const Plan& plan, const Task& t, const Rows& rows, const Workspace& work, const Unit& unit,
                std::vector<Judgement>& out) {
  const Profile& p = *t.profile;
  switch (p.kind) {
    case Profile::Kind::kPaper:
      out.push_back(detail::judge_paper(p, unit.pooled[t.group]));
      return;
    case Profile::Kind::kSeed:
      return;  // row by row, on the way
    case Profile::Kind::kToploc:
      // A chunk with fewer elements than the proof has coefficients cannot be held to limits out of `topk`.
      if (rows.count * rows.elements < p.topk) return;
      out.push_back(
          detail::judge_toploc(p, toploc_stats(plan.dtype, rows.a, rows.b, p.topk), unit.pooled.front().special));
      return;
    case Profile::Kind::kCalibrated:
      for (const auto& cell : work.cells) out.push_back(detail::judge_calibrated(*t.limit, cell));
  }
}

Unit compute_unit(const Plan& plan, std::size_t index) {
  static thread_local const auto kWork = std::make_unique<Workspace>();
  const std::int64_t layer = plan.header.layers[index / plan.chunks];
  const Rows rows = load_rows(plan, layer, index % plan.chunks, *kWork);
  Unit unit{std::vector<ElementStats>(plan.groups.size()), std::vector<std::vector<Judgement>>(plan.tasks.size())};
  walk_rows(plan, layer, rows, *kWork, unit);
  count_other_groups(plan, rows, unit);
  for (std::size_t t = 0; t < plan.tasks.size(); ++t)
    if (plan.judges(plan.tasks[t], layer)) judge_unit(plan, plan.tasks[t], rows, *kWork, unit, unit.verdicts[t]);
  return unit;
}

// --- folding ---------------------------------------------------------------------------------------------------------

// Takes the units in their order.
struct Fold {
  const Plan& plan;
  const CompareContext& context;
  std::vector<Comparison> out;                    // per task
  std::vector<std::vector<ElementStats>> layers;  // per group and layer
  std::optional<CellVerdict> special;             // first cell with elements of differing class, of any layer

  void add(std::size_t index, const Unit& unit) {
    const std::size_t layer = index / plan.chunks, first = index % plan.chunks * kChunkPositions;
    const auto place = [&](const Judgement& j, std::size_t row) {
      return detail::describe(j, plan.header.layers[layer], plan.header.positions[first + row]);
    };
    for (std::size_t g = 0; g < layers.size(); ++g) layers[g][layer].merge(unit.pooled[g]);
    if (unit.special > 0 && !special) special = place(detail::special_verdict(unit.special), unit.special_row);
    for (std::size_t t = 0; t < out.size(); ++t) {
      for (std::size_t r = 0; r < unit.verdicts[t].size(); ++r) {
        const Judgement& j = unit.verdicts[t][r];
        count(j, out[t].layers[layer], out[t]);
        if (!j.accepted && !out[t].first_failure) out[t].first_failure = place(j, r);
        if (context.on_verdict) context.on_verdict(t, place(j, r));
      }
    }
  }
  static void count(const Judgement& j, LayerResult& layer, Comparison& c) {
    ++layer.cells;
    ++c.cells;
    layer.accepted += j.accepted;
    c.accepted += j.accepted;
    c.pm_skipped += j.pm_skipped;
  }
};

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
    c.notes.push_back(fmt::format("limits for {}/{}/{}: {}", t.limit->activations, t.limit->class_name, t.limit->model,
                                  t.limit->source));
}

Comparison begin(const Plan& plan, const Task& t) {
  Comparison c;
  c.profile = t.profile->name;
  c.dtype_note = dtype_note(plan);
  c.unit = t.profile->kind == Profile::Kind::kPaper || t.profile->kind == Profile::Kind::kToploc ? "chunk" : "cell";
  for (std::int64_t layer : plan.header.layers) c.layers.push_back({layer, {}, 0, 0});
  return c;
}

void finish(const Plan& plan, const Task& t, const Fold& fold, const CompareContext& context, Comparison& c) {
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    c.layers[i].stats = fold.layers[t.group][i];
    c.layers[i].stats.ulp_histogram = fold.layers.front()[i].ulp_histogram;
    if (c.layers[i].cells > 0) c.total.merge(c.layers[i].stats);
  }
  if (c.cells == 0) c.rule = why_nothing(plan, t, context);
  add_notes(plan, t, context, c);
  detail::conclude(*t.profile, fold.special ? &*fold.special : nullptr, c);
}

// Small units travel together, so that handing them over costs nothing beside comparing them. How many does not show in
// the result: they are folded one by one.
std::size_t batch_size(const Plan& plan) {
  const std::size_t bytes = static_cast<std::size_t>(plan.header.hidden) * kChunkPositions * dtype_bits(plan.dtype) / 4;
  return std::clamp<std::size_t>((std::size_t{1} << 18) / bytes, 1, 16);
}

void run(const Plan& plan, Fold& fold) {
  const std::size_t size = batch_size(plan), units = plan.units();
  struct Batch {
    std::size_t first = 0;
    std::vector<Unit> units;
  };
  std::size_t next = 0;
  const std::size_t on_their_way = 4 * static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  tbb::parallel_pipeline(
      on_their_way,
      tbb::make_filter<void, std::size_t>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& control) {
        const std::size_t first = next;
        if (first >= units) control.stop();
        next += size;
        return first;
      }) & tbb::make_filter<std::size_t, Batch>(tbb::filter_mode::parallel, [&](std::size_t first) {
        Batch batch{first, {}};
        for (std::size_t i = first; i < std::min(first + size, units); ++i)
          batch.units.push_back(compute_unit(plan, i));
        return batch;
      }) & tbb::make_filter<Batch, void>(tbb::filter_mode::serial_in_order, [&](const Batch& batch) {
        for (std::size_t i = 0; i < batch.units.size(); ++i) fold.add(batch.first + i, batch.units[i]);
      }));
}

}  // namespace

Result<std::vector<Comparison>> compare(const Capture& subject, const Capture& reference,
                                        std::span<const Profile> profiles, const CompareContext& context) {
  CONCORD_CHECK(check_same(subject, reference, context.ignore_nonce));
  const Plan plan = make_plan(subject, reference, profiles, context);
  Fold fold{plan, context, {}, {}, {}};
  for (const Task& t : plan.tasks) fold.out.push_back(begin(plan, t));
  fold.layers.assign(plan.groups.size(), std::vector<ElementStats>(plan.header.layers.size()));
  if (plan.tasks.empty()) return fold.out;
  tbb::task_arena arena(context.threads > 0 ? context.threads : tbb::task_arena::automatic);
  arena.execute([&] { run(plan, fold); });
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) finish(plan, plan.tasks[t], fold, context, fold.out[t]);
  return std::move(fold.out);
}

}  // namespace concord
