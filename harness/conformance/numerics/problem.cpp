#include "conformance/numerics/problem.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "abi/concord_float.hpp"
#include "conformance/numerics/layout.hpp"

namespace concord::conformance {
namespace {

constexpr std::uint64_t kLargest = std::uint64_t{64} << 30;           // bytes of both arenas
constexpr std::int64_t kLargestExtent = (std::int64_t{1} << 31) - 1;  // indices are I32
constexpr std::uint64_t kTooLarge = std::numeric_limits<std::uint64_t>::max();

struct Words {
  const char *key, *words;
};
constexpr Words kWords[] = {
    {"x", "f32 f16 bf16 f64"},
    {"w", "f32 f16 bf16 i8 u4g32 u4g32z u4g128 u4g128z"},
    {"kv", "f32 f16 bf16 i8"},
    {"eps", "1e-5 1e-6"},
    {"place", "0 1"},
    {"bias", "0 1"},
    {"fuse", "none plus gated"},
    {"form", "erf tanh"},
    {"norm", "0 1"},
    {"temp", "0.7 1 1.5 cold"},
};
struct DtypeWord {
  const char* word;
  std::uint32_t dtype;
};
constexpr DtypeWord kDtypes[] = {
    {"f32", CONCORD_F32}, {"f16", CONCORD_F16}, {"bf16", CONCORD_BF16}, {"f64", CONCORD_F64}, {"i8", CONCORD_I8}};
struct FlagWord {
  const char *key, *word;
  std::uint32_t flag;
};
constexpr FlagWord kFlags[] = {{"form", "tanh", CONCORD_GELU_TANH},
                               {"norm", "1", CONCORD_NORMALISE},
                               {"fuse", "plus", CONCORD_PLUS},
                               {"fuse", "gated", CONCORD_GATED}};

// cold: a power of two, so that the products stay exact, and so small that the noise vanishes beside logits of size 1.
constexpr double kCold = 0x1p-60;
constexpr std::uint64_t kNoise =
    ~std::uint64_t{0};  // the case's own seed for its noise: the run's seed has no part in the call

std::unexpected<Error> wrong(std::string_view code, const CaseSpec& spec, const std::string& what) {
  return fail(ErrorKind::kUsage, code, fmt::format("{}: {}", spec.id(), what));
}

Status check_words(const CaseSpec& spec, const OpLayout& layout) {
  for (const auto& [key, word] : spec.options) {
    const char* allowed = key == "in" ? layout.families : "";
    for (const Words& w : kWords)
      if (key == w.key) allowed = w.words;
    if (!is_one_of(allowed, word))
      return wrong("case.bad_value", spec, fmt::format("{} cannot be {}; expected one of: {}", key, word, allowed));
  }
  return {};
}

Status check_keys(const CaseSpec& spec, const OpLayout& layout) {
  const std::string options = std::string("x in ") + layout.options;
  for (const char* axis = layout.axes; *axis; ++axis)
    if (!spec.axes.contains(std::string(1, *axis)))
      return wrong("case.missing_key", spec, fmt::format("axis {} is missing", *axis));
  for (const auto& [key, value] : spec.axes) {
    if (std::string_view(layout.axes).find(key) == std::string_view::npos)
      return wrong("case.unknown_key", spec,
                   fmt::format("{} has no axis {}; its axes are {}", spec.op, key, layout.axes));
    if (value < 0 || value > kLargestExtent)
      return wrong("case.bad_value", spec, fmt::format("{} is {}, expected 0 to 2^31 - 1", key, value));
  }
  for (std::size_t at = 0; at < options.size();) {
    const std::size_t end = std::min(options.find(' ', at), options.size());
    const std::string key = options.substr(at, end - at);
    if (!key.empty() && !spec.options.contains(key))
      return wrong("case.missing_key", spec, fmt::format("option {} is missing", key));
    at = end + 1;
  }
  for (const auto& [key, word] : spec.options)
    if (!is_one_of(options, key))
      return wrong("case.unknown_key", spec,
                   fmt::format("{} has no option {}; its options are {}", spec.op, key, options));
  return check_words(spec, layout);
}

// What a call needs besides extents of at least 1; asked only where every extent is.
Status check_extents(const CaseSpec& s) {
  const auto bad = [&](const char* what) { return wrong("case.bad_value", s, what); };
  const auto at = [&](const char* key) { return s.axis(key); };
  if (s.op == "rope" && at("D") % 2 != 0) return bad("D must be even");
  if (s.op == "kv_append" && at("T") > at("P")) return bad("T must be at most P, because rows are distinct");
  if (s.op == "topk_routing" && at("K") > at("E")) return bad("K must be at most E");
  if (s.op != "attention") return {};
  if (at("H") % at("G") != 0) return bad("H must be a multiple of G");
  if (at("T") % at("S") != 0) return bad("T must be a multiple of S");
  if (at("L") < at("T") / at("S") || at("L") > at("P")) return bad("L must be at least T/S and at most P");
  return {};
}

bool has_empty_axis(const CaseSpec& spec) {
  for (const auto& [key, value] : spec.axes)
    if (value == 0) return true;
  return false;
}

std::uint32_t dtype_of_word(const std::string& word) {
  for (const DtypeWord& d : kDtypes)
    if (word == d.word) return d.dtype;
  return CONCORD_U4;
}

std::uint32_t dtype_of(Type type, const CaseSpec& spec) {
  const std::uint32_t x = dtype_of_word(spec.option("x"));
  switch (type) {
    case Type::kActivation:
      return x;
    case Type::kAngle:
      return x == CONCORD_F64 ? CONCORD_F64 : CONCORD_F32;
    case Type::kIndex:
      return CONCORD_I32;
    case Type::kCache:
      return dtype_of_word(spec.option("kv"));
    default:
      return CONCORD_F32;
  }
}

bool is_there(When when, const CaseSpec& spec) {
  switch (when) {
    case When::kBias:
      return spec.option("bias") == "1";
    case When::kFused:
      return spec.option("fuse") != "none";
    case When::kInt8Cache:
      return spec.option("kv") == "i8";
    default:
      return true;
  }
}

std::int64_t extent(char letter, const CaseSpec& spec) {
  if (letter == 'h') return spec.axis("D") / 2;
  if (letter == 'C') return spec.axis("S") * spec.axis("P");
  return spec.axis(std::string(1, letter));
}

// Products of extents, or kTooLarge.
std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  return a == kTooLarge || b == kTooLarge || __builtin_mul_overflow(a, b, &out) || out > kLargest ? kTooLarge : out;
}

// Hands out aligned pieces of an arena and remembers whether they still fit.
class Arena {
 public:
  std::uint64_t take(std::uint64_t bytes) {
    const std::uint64_t at = size_;
    if (bytes > kLargest || size_ > kLargest) return fits_ = false, at;
    size_ = (size_ + bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
  std::uint64_t size() const { return size_; }
  bool fits() const { return fits_ && size_ <= kLargest; }

 private:
  std::uint64_t size_ = 0;
  bool fits_ = true;
};

Operand make_operand(const OperandRow& row, std::uint32_t slot, const CaseSpec& spec) {
  Operand o;
  o.name = row.name, o.role = row.role, o.slot = slot, o.by_row = row.by_row, o.dtype = dtype_of(row.type, spec);
  o.bytes = concord_abi::dtype_bytes(o.dtype);
  for (const char* letter = row.dims; *letter; ++letter) {
    o.dims.push_back(extent(*letter, spec));
    o.bytes = product(o.bytes, static_cast<std::uint64_t>(o.dims.back()));
  }
  return o;
}

concord_tensor tensor_of(const Operand& o) {
  concord_tensor t{};
  t.struct_size = sizeof t, t.dtype = o.dtype, t.rank = static_cast<std::uint32_t>(o.dims.size());
  for (std::size_t i = 0; i < o.dims.size(); ++i) t.dims[i] = o.dims[i];
  return t;
}

void add_inputs(const OpLayout& layout, Problem& p, Arena& arena) {
  for (std::uint32_t slot = 0; slot < layout.in.size(); ++slot) {
    const OperandRow& row = layout.in[slot];
    if (!*row.name || !is_there(row.when, p.spec)) continue;
    Operand o = make_operand(row, slot, p.spec);
    o.offset = arena.take(o.bytes);
    p.call.in[slot] = tensor_of(o), p.call.n_in = slot + 1;
    p.inputs.push_back(std::move(o));
  }
}

WeightOperand make_weight(const CaseSpec& spec, std::int64_t rows, std::int64_t cols, Arena& arena) {
  const std::string& form = spec.option("w");
  const auto r = static_cast<std::uint64_t>(rows), c = static_cast<std::uint64_t>(cols);
  WeightOperand w;
  w.desc.struct_size = sizeof w.desc, w.desc.rows = rows, w.desc.cols = cols;
  w.desc.dtype = dtype_of_word(form), w.desc.activation_dtype = dtype_of_word(spec.option("x"));
  if (w.desc.dtype == CONCORD_U4) {
    w.desc.group = form.starts_with("u4g128") ? 128 : 32;
    const std::uint64_t groups = product(r, (c + w.desc.group - 1) / w.desc.group);
    w.data_bytes = product(r, (c + 1) / 2), w.scale_bytes = product(groups, 2);
    w.zero_bytes = form.ends_with("z") ? groups : 0;
  } else {
    w.data_bytes = product(product(r, c), concord_abi::dtype_bytes(w.desc.dtype));
    w.scale_bytes = w.desc.dtype == CONCORD_I8 ? product(r, 4) : 0;
  }
  w.data = arena.take(w.data_bytes), w.scales = arena.take(w.scale_bytes), w.zeros = arena.take(w.zero_bytes);
  return w;
}

void add_outputs(const OpLayout& layout, Problem& p, Arena& inputs, Arena& outputs) {
  for (std::uint32_t slot = 0; slot < layout.out.size(); ++slot) {
    const OperandRow& row = layout.out[slot];
    if (!*row.name || !is_there(row.when, p.spec)) continue;
    Operand o = make_operand(row, slot, p.spec);
    if (p.spec.op == "kv_append")
      o.initial = inputs.take(o.bytes);
    else if (p.in_place)
      o.initial = p.input(p.spec.op == "matmul" ? "z" : layout.in[0].name).offset;
    outputs.take(kGuardBytes);
    o.offset = outputs.take(o.bytes == kTooLarge ? kTooLarge : o.bytes + kGuardBytes);
    p.call.out[slot] = tensor_of(o), p.call.n_out = slot + 1;
    p.outputs.push_back(std::move(o));
  }
}

concord_call make_call_of(const OpLayout& layout, const CaseSpec& spec) {
  concord_call call{};
  call.struct_size = sizeof call, call.op = layout.code;
  call.accumulate = spec.option("x") == "f64" ? CONCORD_F64 : CONCORD_F32;
  for (const FlagWord& f : kFlags)
    if (word_or(spec, f.key, "") == f.word) call.flags |= f.flag;
  if (spec.options.contains("eps")) call.eps = std::strtod(spec.option("eps").c_str(), nullptr);
  if (spec.op == "sample") {
    const std::string& temp = spec.option("temp");
    call.scale = 1 / (temp == "cold" ? kCold : std::strtod(temp.c_str(), nullptr)), call.seed = case_seed(spec, kNoise);
  }
  if (spec.op == "attention") {
    const double d = static_cast<double>(spec.axis("D"));
    call.scale = d > 0 ? 1 / std::sqrt(d) : 1;
    call.sequence_rows = spec.axis("S") > 1 ? spec.axis("P") : 0;
  }
  return call;
}

}  // namespace

const Operand& Problem::input(const std::string& name) const {
  for (const Operand& o : inputs)
    if (o.name == name) return o;
  std::abort();
}

Result<Problem> make_problem(const CaseSpec& spec) {
  const OpLayout* layout = layout_of(spec.op);
  if (!layout) return wrong("case.unknown_operator", spec, fmt::format("there is no operator {}", spec.op));
  CONCORD_CHECK(check_keys(spec, *layout));
  Problem p;
  p.spec = spec, p.expect_refusal = has_empty_axis(spec);
  if (!p.expect_refusal) CONCORD_CHECK(check_extents(spec));
  p.in_place = word_or(spec, "place", "0") == "1";
  if (p.in_place && word_or(spec, "fuse", "plus") == "none")
    return wrong("case.bad_value", spec, "in place is only possible with fuse=plus or fuse=gated: y is z");
  p.call = make_call_of(*layout, spec);
  Arena inputs, outputs;
  add_inputs(*layout, p, inputs);
  if (*layout->weight)
    p.weight = make_weight(spec, extent(layout->weight[0], spec), extent(layout->weight[1], spec), inputs);
  add_outputs(*layout, p, inputs, outputs);
  p.input_bytes = inputs.size(), p.output_bytes = outputs.size();
  if (!inputs.fits() || !outputs.fits() || p.input_bytes + p.output_bytes > kLargest)
    return wrong("case.too_large", spec, "its operands need more than 64 GiB");
  return p;
}

concord_weight_desc weight_desc(const WeightOperand& weight, std::span<const std::byte> arena) {
  concord_weight_desc desc = weight.desc;
  desc.data = arena.data() + weight.data;
  desc.scales = weight.scale_bytes ? arena.data() + weight.scales : nullptr;
  desc.zeros = weight.zero_bytes ? reinterpret_cast<const std::uint8_t*>(arena.data()) + weight.zeros : nullptr;
  return desc;
}

void fill_outputs(const Problem& problem, unsigned repetition, std::span<const std::byte> input_arena,
                  std::span<std::byte> output_arena) {
  for (const Operand& o : problem.outputs) {
    const Fence fence = fence_of(o);
    for (std::uint64_t i = fence.begin; i < o.offset; ++i) output_arena[i] = guard_byte(i);
    for (std::uint64_t i = o.offset + o.bytes; i < fence.end; ++i) output_arena[i] = guard_byte(i);
    std::byte* to = output_arena.data() + o.offset;
    if (o.initial) {
      if (o.bytes) std::memcpy(to, input_arena.data() + *o.initial, o.bytes);
      continue;
    }
    const auto element = poison(o.dtype, repetition);
    const std::size_t size = concord_abi::dtype_bytes(o.dtype);
    for (std::uint64_t i = 0; i < o.bytes; i += size) std::memcpy(to + i, element.data(), size);
  }
}

}  // namespace concord::conformance
