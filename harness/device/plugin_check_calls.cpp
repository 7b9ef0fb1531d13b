// Checks of weights and operator calls: refusals, witnesses, and calls that nobody could serve.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "abi/concord_validate.hpp"
#include "device/plugin_calls.hpp"
#include "device/plugin_checks.hpp"
#include "device/plugin_error.hpp"

namespace concord::plugin_check {
namespace {

std::string named(const Opened& d, std::uint32_t op, std::uint32_t activation) {
  return fmt::format("{}: {} {}", d.id(), concord_abi::op_name(op), concord_abi::dtype_name(activation));
}

// The answer of supports() to a well-formed call: OK, or UNSUPPORTED with a reason.
bool served(Probe& p, const Opened& d, const concord_call& call, const std::string& what) {
  std::uint32_t why = 0;
  const concord_status s =
      p.call(what + ": supports", [&](concord_error* err) { return p.table().supports(d.get(), &call, err); }, &why);
  p.expect(s == CONCORD_OK || s == CONCORD_UNSUPPORTED,
           fmt::format("{}: supports: {}, expected OK or UNSUPPORTED", what, status_name(s)));
  p.expect(s != CONCORD_UNSUPPORTED || why != CONCORD_WHY_NONE, what + ": supports says no without a reason code");
  return s == CONCORD_OK;
}

// body(call) for every operator and activation dtype that the device serves.
void each_served(Probe& p, const Opened& d, const std::function<void(PreparedCall&, const std::string&)>& body) {
  for (std::uint32_t op = 0; op < operators_of(p.table()); ++op)
    for (const std::uint32_t activation : kActivations) {
      const std::string what = named(d, op, activation);
      if (!served(p, d, small_call(op, activation), what)) continue;
      PreparedCall prepared(p, d, op, activation);
      if (prepared.ready()) body(prepared, what);
      if (p.failed()) return;
    }
}

concord_status run(Probe& p, const Opened& d, const concord_call& call, concord_witness* w, concord_error* err) {
  return p.table().run(d.get(), nullptr, &call, w, err);
}

}  // namespace

void check_supports(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    int yes = 0, no = 0;
    for (std::uint32_t op = 0; op < operators_of(p.table()); ++op)
      for (const std::uint32_t activation : kActivations) {
        const std::string what = named(d, op, activation);
        const concord_call call = small_call(op, activation);
        const bool ok = served(p, d, call, what);
        (ok ? yes : no) += 1;
        PreparedCall prepared(p, d, op, activation);
        if (!prepared.ready()) continue;
        concord_witness w{};
        w.struct_size = sizeof w;
        const concord_status s =
            p.call(what + ": run", [&](concord_error* err) { return run(p, d, prepared.call, &w, err); });
        const concord_status want = ok ? CONCORD_OK : CONCORD_UNSUPPORTED;
        p.expect(s == want, fmt::format("{}: supports says {}, run says {}", what, status_name(want), status_name(s)));
        if (!ok) p.expect(prepared.outputs_untouched(), what + ": a call that was refused wrote to its output");
      }
    if (yes == 0) p.warn(d.id() + " serves no operator in any activation dtype");
    p.note(fmt::format("{}: {} of {} combinations of operator and activation dtype", d.id(), yes, yes + no));
  });
}

namespace {

void judge_witness(Probe& p, const std::string& what, std::uint32_t op, const concord_witness& w) {
  bool ends = true;
  const std::string kernel = field_text(w.kernel, sizeof w.kernel, &ends);
  p.expect(ends, what + ": the witness's kernel has no terminator");
  p.expect(!kernel.empty(), what + ": succeeded and left no witness of what ran");
  p.expect(kernel.empty() || kernel.starts_with(concord_abi::op_name(op)),
           fmt::format("{}: the witness \"{}\" does not begin with the operator's name", what, kernel));
  p.expect(w.determinism <= CONCORD_RUN_TO_RUN_VARYING,
           fmt::format("{}: determinism class {} is none of the ABI's", what, w.determinism));
  p.expect(w.struct_size == sizeof w, what + ": changed struct_size of the witness, which is the host's");
  if (w.fallbacks != 0)
    p.warn(fmt::format("{}: {} calls fell back ({}), which no conforming run allows", what, w.fallbacks, kernel));
}

void short_witness(Probe& p, const Opened& d, const concord_call& call, const std::string& what) {
  for (const std::uint32_t size : {4u, 8u, 16u, 40u}) {
    std::array<unsigned char, 2 * sizeof(concord_witness)> bytes;
    bytes.fill(0xa5);
    std::memcpy(bytes.data(), &size, sizeof size);
    const std::string with = fmt::format("{}: run with concord_witness.struct_size {}", what, size);
    p.works(with,
            [&](concord_error* err) { return run(p, d, call, reinterpret_cast<concord_witness*>(bytes.data()), err); });
    p.expect(std::all_of(bytes.begin() + size, bytes.end(), [](unsigned char c) { return c == 0xa5; }),
             with + ": wrote behind the host's older struct");
  }
}

// The call of a host of ABI 2.0, which ends before the seed: with its size in memory, and nothing behind it. Only
// SAMPLE needs what is missing.
void older_call(Probe& p, const Opened& d, PreparedCall& prepared, const std::string& what) {
  std::vector<std::uint64_t> bytes(CONCORD_CALL_SIZE_2_0 / sizeof(std::uint64_t));
  std::memcpy(bytes.data(), &prepared.call, CONCORD_CALL_SIZE_2_0);
  auto& call = *reinterpret_cast<concord_call*>(bytes.data());
  call.struct_size = CONCORD_CALL_SIZE_2_0;
  const std::string with =
      fmt::format("{}: run with concord_call.struct_size {}, that of ABI 2.0", what, call.struct_size);
  const auto attempt = [&](concord_error* err) { return run(p, d, call, nullptr, err); };
  if (call.op == CONCORD_OP_SAMPLE)
    p.refused(with, {CONCORD_INVALID, CONCORD_UNSUPPORTED}, attempt);
  else
    p.works(with, attempt);
}

}  // namespace

void check_witness(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    each_served(p, d, [&](PreparedCall& prepared, const std::string& what) {
      concord_witness w;
      std::memset(&w, 0x7e, sizeof w);  // what is not written shows
      w.struct_size = sizeof w;
      if (!p.works(what + ": run", [&](concord_error* err) { return run(p, d, prepared.call, &w, err); })) return;
      judge_witness(p, what, prepared.call.op, w);
      const auto first = prepared.outputs();
      prepared.reset_outputs();
      p.works(what + ": run with witness NULL",
              [&](concord_error* err) { return run(p, d, prepared.call, nullptr, err); });
      if (w.determinism != CONCORD_RUN_TO_RUN_VARYING)
        p.expect(prepared.outputs() == first,
                 what + ": other bits without a witness to fill than with one, and it does not declare that runs vary");
      short_witness(p, d, prepared.call, what);
      older_call(p, d, prepared, what);
    });
  });
}

namespace {

struct Spoil {
  const char* what;
  void (*apply)(concord_call&);
};
// Wrong for every operator.
constexpr Spoil kSpoils[] = {
    {"an unknown operator", [](concord_call& c) { c.op = CONCORD_OP_COUNT; }},
    {"operator 4294967295", [](concord_call& c) { c.op = 0xffffffffu; }},
    {"struct_size 0", [](concord_call& c) { c.struct_size = 0; }},
    {"struct_size 16", [](concord_call& c) { c.struct_size = 16; }},
    {"no inputs", [](concord_call& c) { c.n_in = 0; }},
    {"4294967295 inputs", [](concord_call& c) { c.n_in = 0xffffffffu; }},
    {"no outputs", [](concord_call& c) { c.n_out = 0; }},
    {"99 outputs", [](concord_call& c) { c.n_out = 99; }},
    {"an input without a buffer", [](concord_call& c) { c.in[0].buffer = nullptr; }},
    {"an output without a buffer", [](concord_call& c) { c.out[0].buffer = nullptr; }},
    {"an input of rank 0", [](concord_call& c) { c.in[0].rank = 0; }},
    {"an input of rank 9", [](concord_call& c) { c.in[0].rank = 9; }},
    {"an output of rank 9", [](concord_call& c) { c.out[0].rank = 9; }},
    {"an input with an extent of 0", [](concord_call& c) { c.in[0].dims[0] = 0; }},
    {"an input with a negative extent", [](concord_call& c) { c.in[0].dims[0] = -1; }},
    {"an input with an extent of 2^63 - 1", [](concord_call& c) { c.in[0].dims[0] = INT64_MAX; }},
    {"an output with another extent", [](concord_call& c) { c.out[0].dims[c.out[0].rank - 1] += 1; }},
    {"an input that ends behind its buffer", [](concord_call& c) { c.in[0].byte_offset = 8; }},
    {"an output that ends behind its buffer", [](concord_call& c) { c.out[0].byte_offset = 8; }},
    {"an offset near 2^64", [](concord_call& c) { c.out[0].byte_offset = ~std::uint64_t{0} - 7; }},
    {"an input of dtype 99", [](concord_call& c) { c.in[0].dtype = 99; }},
    {"an output of dtype U4", [](concord_call& c) { c.out[0].dtype = CONCORD_U4; }},
    {"a tensor's struct_size 8", [](concord_call& c) { c.in[0].struct_size = 8; }},
    {"an unknown flag", [](concord_call& c) { c.flags = 0x80000000u; }},
    {"accumulate I32", [](concord_call& c) { c.accumulate = CONCORD_I32; }},
    {"sequence_rows -1", [](concord_call& c) { c.sequence_rows = -1; }},
    {"no weight, or one too many", [](concord_call& c) { c.weight = nullptr; }},
};

void spoil_each(Probe& p, const Opened& d, PreparedCall& prepared, const std::string& what) {
  for (const Spoil& spoil : kSpoils) {
    concord_call wrong = prepared.call;
    spoil.apply(wrong);
    if (std::memcmp(&wrong, &prepared.call, sizeof wrong) == 0) continue;  // this operator has no weight to take away
    concord_witness w{};
    w.struct_size = sizeof w;
    p.refused(fmt::format("{}: run with {}", what, spoil.what), {CONCORD_INVALID, CONCORD_UNSUPPORTED},
              [&](concord_error* err) { return run(p, d, wrong, &w, err); });
  }
  p.expect(prepared.outputs_untouched(), what + ": a call that was refused wrote to its output");
}

void wrong_indices(Probe& p, const Opened& d, PreparedCall& prepared, const std::string& what) {
  for (std::uint32_t i = 0; i < prepared.call.n_in; ++i) {
    if (prepared.call.in[i].dtype != CONCORD_I32) continue;
    std::vector<std::byte> bytes(concord_abi::element_count(prepared.call.in[i]) * 4);
    for (std::size_t t = 0; t < bytes.size() / 4; ++t)
      concord_abi::store_as(bytes.data(), t, static_cast<std::int32_t>(t));
    concord_abi::store_as(bytes.data(), 1, std::int32_t{-1});
    concord_call call = prepared.call;
    Memory indices(p, d, bytes.size());
    if (!indices || !indices.put(0, bytes)) return;
    call.in[i].buffer = indices.get();
    p.at(fmt::format("{}: run with the index -1", what));
    const concord_status s = run(p, d, call, nullptr, nullptr);
    const concord_status late = p.table().synchronize(d.get(), nullptr, nullptr);
    if (s == CONCORD_OK && late == CONCORD_OK) p.warn(what + ": an index of -1 is not refused");
    p.expect(s != CONCORD_OK || late == CONCORD_OK || late == CONCORD_INVALID,
             fmt::format("{}: run with the index -1: synchronize says {}, expected INVALID", what, status_name(late)));
  }
}

}  // namespace

void check_bad_calls(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    std::size_t operators = 0;
    each_served(p, d, [&](PreparedCall& prepared, const std::string& what) {
      ++operators;
      spoil_each(p, d, prepared, what);
      wrong_indices(p, d, prepared, what);
      prepared.reset_outputs();
      p.works(what + ": run after the refusals",
              [&](concord_error* err) { return run(p, d, prepared.call, nullptr, err); });
    });
    p.note(fmt::format("{}: {} well-formed calls spoilt in up to {} ways each", d.id(), operators, std::size(kSpoils)));
  });
}

namespace {

struct WeightSpoil {
  const char* what;
  void (*apply)(concord_weight_desc&);
};
constexpr WeightSpoil kWeightSpoils[] = {
    {"struct_size 0", [](concord_weight_desc& w) { w.struct_size = 0; }},
    {"struct_size 8", [](concord_weight_desc& w) { w.struct_size = 8; }},
    {"0 rows", [](concord_weight_desc& w) { w.rows = 0; }},
    {"-1 columns", [](concord_weight_desc& w) { w.cols = -1; }},
    {"2^63 - 1 rows", [](concord_weight_desc& w) { w.rows = INT64_MAX; }},
    {"2^40 rows and columns", [](concord_weight_desc& w) { w.rows = w.cols = std::int64_t{1} << 40; }},
    {"no data", [](concord_weight_desc& w) { w.data = nullptr; }},
    {"dtype I32", [](concord_weight_desc& w) { w.dtype = CONCORD_I32; }},
    {"dtype 99", [](concord_weight_desc& w) { w.dtype = 99; }},
    {"activation_dtype I8", [](concord_weight_desc& w) { w.activation_dtype = CONCORD_I8; }},
    {"I8 without scales", [](concord_weight_desc& w) { w.dtype = CONCORD_I8; }},
    {"U4 without scales", [](concord_weight_desc& w) { w.dtype = CONCORD_U4, w.group = 32; }},
    {"U4 with a group of 0", [](concord_weight_desc& w) { w.dtype = CONCORD_U4, w.scales = w.data; }},
};
constexpr std::int64_t kRowsOf = 48, kColsOf = 40;

// The first activation dtype in which the device takes a weight.
const std::uint32_t* weight_dtype(Probe& p, const Opened& d, const std::vector<double>& data) {
  for (const std::uint32_t& dtype : kActivations) {
    const concord_weight_desc desc = weight_of(dtype, kRowsOf, kColsOf, data.data());
    concord_weight* w = nullptr;
    const concord_status s =
        p.call(fmt::format("{}: weight_create {}", d.id(), concord_abi::dtype_name(dtype)),
               [&](concord_error* err) { return p.table().weight_create(d.get(), &desc, &w, err); });
    if (s == CONCORD_UNSUPPORTED) continue;
    if (!p.expect(s == CONCORD_OK && w,
                  fmt::format("{}: weight_create {}: {}", d.id(), concord_abi::dtype_name(dtype), status_name(s))))
      return nullptr;
    p.table().weight_destroy(d.get(), w);
    return &dtype;
  }
  return nullptr;
}

// body(description) with a good weight of the device; notes when there is none.
void with_weight(Probe& p, const Opened& d, const std::function<void(const concord_weight_desc&)>& body) {
  const std::vector<double> data(kRowsOf * kColsOf);
  const std::uint32_t* dtype = weight_dtype(p, d, data);
  if (dtype)
    body(weight_of(*dtype, kRowsOf, kColsOf, data.data()));
  else if (!p.failed())
    p.note(d.id() + " takes no weights");
}

}  // namespace

void check_weights(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    with_weight(p, d, [&](const concord_weight_desc& good) {
      for (const WeightSpoil& spoil : kWeightSpoils) {
        concord_weight_desc wrong = good;
        spoil.apply(wrong);
        concord_weight* w = nullptr;
        p.refused(fmt::format("{}: weight_create with {}", d.id(), spoil.what),
                  {CONCORD_INVALID, CONCORD_UNSUPPORTED, CONCORD_OUT_OF_MEMORY},
                  [&](concord_error* err) { return p.table().weight_create(d.get(), &wrong, &w, err); });
      }
    });
  });
}

void check_weight_leaks(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    with_weight(p, d, [&](const concord_weight_desc& good) {
      expect_no_growth(p, d.id() + ": weight_create and weight_destroy", [&] {
        concord_weight* w = nullptr;
        if (p.works(d.id() + ": weight_create",
                    [&](concord_error* err) { return p.table().weight_create(d.get(), &good, &w, err); }))
          p.table().weight_destroy(d.get(), w);
      });
    });
  });
}

void check_call_leaks(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    each_served(p, d, [&](PreparedCall& prepared, const std::string& what) {
      concord_call wrong = prepared.call;
      wrong.out[0].buffer = nullptr;
      expect_no_growth(p, what + ": run, accepted and refused", [&] {
        p.works(what + ": run", [&](concord_error* err) { return run(p, d, prepared.call, nullptr, err); });
        concord_error err{};
        err.struct_size = sizeof err;
        run(p, d, wrong, nullptr, &err);
        p.works(what + ": synchronize", [&](concord_error* e) { return p.table().synchronize(d.get(), nullptr, e); });
      });
    });
  });
}

}  // namespace concord::plugin_check
