// The checks of a call that are the same on every device: written once, as a table of operands, for all plug-ins.
// Header-only C++20. What a particular device cannot serve is for the device to say (CONCORD_UNSUPPORTED); here is what
// nobody could serve (CONCORD_INVALID): wrong counts, ranks, shapes, dtypes, buffers that are missing, short or
// overlap.
#pragma once
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "abi/concord_float.hpp"

namespace concord_abi {

// Fills *err (which may be NULL) and returns `status`.
[[gnu::format(printf, 4, 5)]] inline concord_status refuse(concord_error* err, concord_status status, concord_why why,
                                                           const char* format, ...) {
  if (err && err->struct_size >= sizeof(concord_error)) {
    err->why = why;
    va_list args;
    va_start(args, format);
    std::vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
  }
  return status;
}

// Copies `text` into a fixed field, cut if need be, always terminated.
template <std::size_t N>
void set_text(char (&field)[N], const char* text) {
  std::snprintf(field, N, "%s", text);
}
// Copies a struct that the caller may know in an older, shorter form; its struct_size stays the caller's.
template <class T>
void give(const T& from, T* to) {
  if (!to || to->struct_size < sizeof to->struct_size) return;
  const std::uint32_t size = to->struct_size;
  std::memcpy(static_cast<void*>(to), &from, std::min<std::size_t>(size, sizeof(T)));
  to->struct_size = size;
}

enum class Kind { kNone, kActivation, kF32, kAngle, kIndex, kCache, kScale };  // dtype rule of an operand
// dims: one letter per axis; equal letters mean equal extents, 'h' is D/2, "*" is any rank.
struct Operand {
  const char* name = nullptr;
  const char* dims = nullptr;
  Kind kind = Kind::kNone;
  bool optional = false;
};
struct OpSpec {
  const char* name;
  Operand in[CONCORD_MAX_IN], out[CONCORD_MAX_OUT];
  const char* weight;  // two letters, or NULL
  int in_place;        // index of the input that out[0] may be, or -1
};

// clang-format off
inline constexpr OpSpec kOps[CONCORD_OP_COUNT] = {
    {"embedding", {{"ids", "T", Kind::kIndex}}, {{"y", "TK", Kind::kActivation}}, "VK", -1},
    {"rmsnorm", {{"x", "RN", Kind::kActivation}, {"gain", "N", Kind::kF32}},
     {{"y", "RN", Kind::kActivation}}, nullptr, 0},
    {"layernorm", {{"x", "RN", Kind::kActivation}, {"gain", "N", Kind::kF32}, {"shift", "N", Kind::kF32}},
     {{"y", "RN", Kind::kActivation}}, nullptr, 0},
    {"matmul", {{"x", "TK", Kind::kActivation}, {"bias", "N", Kind::kF32, true}, {"z", "TN", Kind::kActivation, true}},
     {{"y", "TN", Kind::kActivation}}, "NK", 2},
    {"rope", {{"x", "THD", Kind::kActivation}, {"cos", "Ph", Kind::kAngle}, {"sin", "Ph", Kind::kAngle},
              {"positions", "T", Kind::kIndex}}, {{"y", "THD", Kind::kActivation}}, nullptr, 0},
    {"kv_append",
     {{"k", "TGD", Kind::kActivation}, {"v", "TGD", Kind::kActivation}, {"rows", "T", Kind::kIndex}},
     {{"kc", "PGD", Kind::kCache}, {"vc", "PGD", Kind::kCache}, {"ks", "PG", Kind::kScale}, {"vs", "PG", Kind::kScale}},
     nullptr, -1},
    {"attention", {{"q", "THD", Kind::kActivation}, {"kc", "PGD", Kind::kCache}, {"vc", "PGD", Kind::kCache},
                   {"rows", "T", Kind::kIndex}, {"ks", "PG", Kind::kScale}, {"vs", "PG", Kind::kScale}},
     {{"y", "THD", Kind::kActivation}}, nullptr, -1},
    {"swiglu", {{"gate", "RN", Kind::kActivation}, {"up", "RN", Kind::kActivation}},
     {{"y", "RN", Kind::kActivation}}, nullptr, 0},
    {"gelu", {{"x", "RN", Kind::kActivation}}, {{"y", "RN", Kind::kActivation}}, nullptr, 0},
    {"add", {{"a", "*", Kind::kActivation}, {"b", "*", Kind::kActivation}},
     {{"y", "*", Kind::kActivation}}, nullptr, 0},
    {"softmax", {{"x", "RN", Kind::kActivation}}, {{"y", "RN", Kind::kActivation}}, nullptr, 0},
    {"topk_routing", {{"logits", "TE", Kind::kActivation}},
     {{"weight", "Tk", Kind::kF32}, {"expert", "Tk", Kind::kIndex}}, nullptr, -1},
    {"argmax", {{"x", "TV", Kind::kActivation}}, {{"index", "T", Kind::kIndex}}, nullptr, -1},
    {"sample", {{"x", "TV", Kind::kActivation}, {"positions", "T", Kind::kIndex}}, {{"index", "T", Kind::kIndex}},
     nullptr, -1},
};
inline constexpr std::uint32_t kFlagsOf[CONCORD_OP_COUNT] = {
    0, 0, 0, CONCORD_PLUS | CONCORD_GATED, 0, 0, 0, 0, CONCORD_GELU_TANH, 0, 0, CONCORD_NORMALISE, 0, 0};
// clang-format on

constexpr const char* op_name(std::uint32_t op) { return op < CONCORD_OP_COUNT ? kOps[op].name : "unknown operator"; }

inline bool absent(const concord_tensor& t) { return t.rank == 0 && t.buffer == nullptr; }
inline std::uint32_t activation_dtype(const concord_call& c) {  // of a call that was checked
  return c.op == CONCORD_OP_EMBEDDING ? c.out[0].dtype : c.in[0].dtype;
}
inline bool has_cache(const concord_call& c) { return c.op == CONCORD_OP_ATTENTION || c.op == CONCORD_OP_KV_APPEND; }
inline std::uint32_t cache_dtype(const concord_call& c) {  // of a call with a cache
  return c.op == CONCORD_OP_ATTENTION ? c.in[1].dtype : c.out[0].dtype;
}
inline std::size_t element_count(const concord_tensor& t) {  // of a tensor that was checked
  std::size_t n = 1;
  for (std::uint32_t i = 0; i < t.rank; ++i) n *= static_cast<std::size_t>(t.dims[i]);
  return n;
}

struct WeightShape {
  std::int64_t rows = 0, cols = 0;
};
struct Range {  // bytes of a buffer
  const concord_buffer* buffer = nullptr;
  std::uint64_t begin = 0, end = 0;
};

// Checks one call. `buffer_bytes` gives a buffer's size, or is NULL where buffers may be missing (supports()).
class CallCheck {
 public:
  using BufferBytes = std::uint64_t (*)(const concord_buffer*);
  CallCheck(const concord_call& call, const WeightShape* weight, BufferBytes buffer_bytes, concord_error* err)
      : call_(call), weight_(weight), buffer_bytes_(buffer_bytes), err_(err) {}

  concord_status check() {
    if (call_.struct_size < CONCORD_CALL_SIZE_2_0)
      return bad("concord_call.struct_size is %u, expected at least %zu", call_.struct_size, CONCORD_CALL_SIZE_2_0);
    if (call_.op >= CONCORD_OP_COUNT)
      return bad("operator %u is not one of this ABI's %d", call_.op, int(CONCORD_OP_COUNT));
    if (call_.op == CONCORD_OP_SAMPLE && call_.struct_size < sizeof(concord_call))
      return bad("sample: concord_call.struct_size is %u, expected at least %zu: it has no seed", call_.struct_size,
                 sizeof(concord_call));
    spec_ = &kOps[call_.op];
    if (call_.accumulate != CONCORD_F32 && call_.accumulate != CONCORD_F64)
      return bad("%s: accumulate must be F32 or F64, not %s", spec_->name, dtype_name(call_.accumulate));
    if (call_.flags & ~kFlagsOf[call_.op])
      return bad("%s: unknown flags 0x%x", spec_->name, call_.flags & ~kFlagsOf[call_.op]);
    if (const auto s = counts(); s != CONCORD_OK) return s;
    for (std::uint32_t i = 0; i < call_.n_in; ++i)
      if (const auto s = tensor(call_.in[i], spec_->in[i], ranges_[i]); s != CONCORD_OK) return s;
    for (std::uint32_t i = 0; i < call_.n_out; ++i)
      if (const auto s = tensor(call_.out[i], spec_->out[i], ranges_[CONCORD_MAX_IN + i]); s != CONCORD_OK) return s;
    if (const auto s = weight(); s != CONCORD_OK) return s;
    if (const auto s = special(); s != CONCORD_OK) return s;
    return overlaps();
  }

 private:
  template <class... A>
  concord_status bad(const char* format, A... args) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    return refuse(err_, CONCORD_INVALID, CONCORD_WHY_SHAPE, format, args...);
#pragma GCC diagnostic pop
  }

  concord_status counts() {
    std::uint32_t least = 0, most = 0, outs = 0;
    const bool scaled = has_cache(call_) && cache_dtype(call_) == CONCORD_I8;  // only an I8 cache has scales
    const auto counts = [&](const Operand& o) { return o.name != nullptr && (o.kind != Kind::kScale || scaled); };
    for (const Operand& o : spec_->in) most += counts(o), least += counts(o) && !o.optional;
    for (const Operand& o : spec_->out) outs += counts(o);
    if (call_.n_in < least || call_.n_in > most || call_.n_out != outs)
      return bad("%s: %u inputs and %u outputs given, expected %u to %u and %u", spec_->name, call_.n_in, call_.n_out,
                 least, most, outs);
    return CONCORD_OK;
  }

  concord_status tensor(const concord_tensor& t, const Operand& o, Range& range) {
    if (absent(t) && o.optional) return CONCORD_OK;
    if (t.struct_size < sizeof(concord_tensor))
      return bad("%s: %s: concord_tensor.struct_size is %u, expected at least %zu", spec_->name, o.name, t.struct_size,
                 sizeof(concord_tensor));
    if (const auto s = shape(t, o); s != CONCORD_OK) return s;
    if (const auto s = dtype(t, o); s != CONCORD_OK) return s;
    return buffer(t, o, range);
  }

  concord_status shape(const concord_tensor& t, const Operand& o) {
    const bool any = o.dims[0] == '*';
    const std::size_t rank = any ? call_.in[0].rank : std::strlen(o.dims);
    if (t.rank != rank || rank == 0 || rank > CONCORD_MAX_RANK)
      return bad("%s: %s has rank %u, expected %zu", spec_->name, o.name, t.rank,
                 any && rank == 0 ? std::size_t{1} : rank);
    std::int64_t bytes = 8;
    for (std::size_t i = 0; i < rank; ++i) {
      if (t.dims[i] < 1)
        return bad("%s: %s has extent %lld on axis %zu, expected at least 1", spec_->name, o.name, (long long)t.dims[i],
                   i);
      if (__builtin_mul_overflow(bytes, t.dims[i], &bytes))
        return bad("%s: the size of %s overflows", spec_->name, o.name);
      const std::int64_t want = any ? call_.in[0].dims[i] : extent(o.dims[i], t.dims[i]);
      if (t.dims[i] != want)
        return bad("%s: %s has extent %lld on axis %zu, expected %lld", spec_->name, o.name, (long long)t.dims[i], i,
                   (long long)want);
    }
    return CONCORD_OK;
  }

  // The extent that a letter stands for; the first tensor that uses a letter defines it.
  std::int64_t extent(char letter, std::int64_t found) {
    if (letter == 'h') return extents_[int{'D'}] / 2;
    std::int64_t& e = extents_[static_cast<unsigned char>(letter)];
    return e == 0 ? e = found : e;
  }

  concord_status dtype(const concord_tensor& t, const Operand& o) {
    const std::uint32_t act = activation_dtype(call_);
    std::uint32_t want = t.dtype;
    switch (o.kind) {
      case Kind::kActivation:
        want = act;
        break;
      case Kind::kF32:
      case Kind::kScale:
        want = CONCORD_F32;
        break;
      case Kind::kAngle:
        want = act == CONCORD_F64 ? CONCORD_F64 : CONCORD_F32;
        break;
      case Kind::kIndex:
        want = CONCORD_I32;
        break;
      case Kind::kCache:
        want = cache_dtype(call_);
        break;
      case Kind::kNone:
        break;
    }
    const bool number = o.kind == Kind::kActivation || o.kind == Kind::kCache;
    const bool known = is_float(t.dtype) || (o.kind == Kind::kCache && t.dtype == CONCORD_I8);
    if (t.dtype != want || (number && !known)) {
      refuse(err_, CONCORD_INVALID, CONCORD_WHY_DTYPE, "%s: %s is %s, expected %s", spec_->name, o.name,
             dtype_name(t.dtype), number && !is_float(want) ? "a float dtype" : dtype_name(want));
      return CONCORD_INVALID;
    }
    return CONCORD_OK;
  }

  concord_status buffer(const concord_tensor& t, const Operand& o, Range& range) {
    if (!buffer_bytes_) return CONCORD_OK;
    if (!t.buffer) return bad("%s: %s has no buffer", spec_->name, o.name);
    const std::uint64_t need = element_count(t) * dtype_bytes(t.dtype), have = buffer_bytes_(t.buffer);
    if (t.byte_offset > have || have - t.byte_offset < need)
      return bad("%s: %s needs %llu bytes at offset %llu, but its buffer has %llu", spec_->name, o.name,
                 (unsigned long long)need, (unsigned long long)t.byte_offset, (unsigned long long)have);
    if (t.byte_offset % dtype_bytes(t.dtype) != 0)
      return refuse(err_, CONCORD_INVALID, CONCORD_WHY_ALIGNMENT,
                    "%s: %s starts at byte %llu, which is no multiple of its %zu-byte elements", spec_->name, o.name,
                    (unsigned long long)t.byte_offset, dtype_bytes(t.dtype));
    range = {t.buffer, t.byte_offset, t.byte_offset + need};
    return CONCORD_OK;
  }

  concord_status weight() {
    if (!spec_->weight) return call_.weight ? bad("%s takes no weight", spec_->name) : CONCORD_OK;
    if (!weight_) return buffer_bytes_ ? bad("%s needs a weight", spec_->name) : CONCORD_OK;
    const std::int64_t rows = extent(spec_->weight[0], weight_->rows), cols = extent(spec_->weight[1], weight_->cols);
    if (rows != weight_->rows || cols != weight_->cols)
      return bad("%s: the weight is [%lld, %lld], expected [%lld, %lld]", spec_->name, (long long)weight_->rows,
                 (long long)weight_->cols, (long long)rows, (long long)cols);
    return CONCORD_OK;
  }

  concord_status special() {
    const auto at = [&](char c) { return static_cast<long long>(extents_[static_cast<unsigned char>(c)]); };
    if (call_.op == CONCORD_OP_ROPE && at('D') % 2 != 0) return bad("rope: head size %lld is odd", at('D'));
    if (call_.op == CONCORD_OP_ATTENTION && at('H') % at('G') != 0)
      return bad("attention: %lld query heads are not a multiple of %lld key/value heads", at('H'), at('G'));
    if (call_.op == CONCORD_OP_TOPK_ROUTING && at('k') > at('E'))
      return bad("topk_routing: k is %lld of %lld experts", at('k'), at('E'));
    const bool norm = call_.op == CONCORD_OP_RMSNORM || call_.op == CONCORD_OP_LAYERNORM;
    if (norm && !(call_.eps >= 0 && std::isfinite(call_.eps)))
      return bad("%s: eps must be finite and not negative", spec_->name);
    if (call_.op == CONCORD_OP_ATTENTION && !std::isfinite(call_.scale)) return bad("attention: scale must be finite");
    if (call_.op == CONCORD_OP_SAMPLE && !(call_.scale > 0 && std::isfinite(call_.scale)))
      return bad("sample: scale must be finite and above 0");
    if (call_.op == CONCORD_OP_MATMUL) {
      const bool has_z = call_.n_in > 2 && !absent(call_.in[2]);
      if (call_.flags == (CONCORD_PLUS | CONCORD_GATED) || has_z != (call_.flags != 0))
        return bad("matmul: z needs exactly one of the flags PLUS and GATED, and a flag needs z");
    }
    if (call_.sequence_rows < 0) return bad("%s: sequence_rows is negative", spec_->name);
    if (call_.sequence_rows != 0 && call_.op != CONCORD_OP_ATTENTION)
      return bad("%s takes no sequence_rows", spec_->name);
    return CONCORD_OK;
  }

  // An output may be the very tensor that the operator allows in place; any other overlap with an operand is refused.
  concord_status overlaps() {
    for (std::uint32_t o = 0; o < call_.n_out; ++o) {
      const Range& out = ranges_[CONCORD_MAX_IN + o];
      for (std::uint32_t i = 0; i < CONCORD_MAX_IN + o; ++i) {
        const Range& r = ranges_[i];
        if (!out.buffer || r.buffer != out.buffer || r.begin >= out.end || out.begin >= r.end) continue;
        const bool same = r.begin == out.begin && r.end == out.end;
        if (same && o == 0 && static_cast<int>(i) == spec_->in_place) continue;
        return bad("%s: output %s overlaps %s", spec_->name, spec_->out[o].name,
                   i < CONCORD_MAX_IN ? spec_->in[i].name : spec_->out[i - CONCORD_MAX_IN].name);
      }
    }
    return CONCORD_OK;
  }

  const concord_call& call_;
  const WeightShape* weight_;
  BufferBytes buffer_bytes_;
  concord_error* err_;
  const OpSpec* spec_ = nullptr;
  std::int64_t extents_[128] = {};
  Range ranges_[CONCORD_MAX_IN + CONCORD_MAX_OUT];
};

// Every value of an index operand must lie in [0, limit). For devices that can read their memory before they start.
inline concord_status check_indices(const char* op, const char* name, const std::int32_t* values, std::size_t n,
                                    std::int64_t limit, concord_error* err) {
  for (std::size_t i = 0; i < n; ++i)
    if (values[i] < 0 || values[i] >= limit)
      return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "%s: %s[%zu] is %d, expected 0 to %lld", op, name, i,
                    values[i], (long long)(limit - 1));
  return CONCORD_OK;
}

// Cache rows must be in range and distinct: with a row named twice the result would depend on who writes last.
inline concord_status check_rows(const std::int32_t* rows, std::size_t n, std::int64_t limit, concord_error* err) {
  if (const auto s = check_indices("kv_append", "rows", rows, n, limit, err); s != CONCORD_OK) return s;
  bool rising = true;
  for (std::size_t i = 1; i < n; ++i) rising = rising && rows[i] > rows[i - 1];
  if (rising) return CONCORD_OK;
  std::vector<bool> seen(static_cast<std::size_t>(limit));
  for (std::size_t i = 0; i < n; ++i) {
    if (seen[static_cast<std::size_t>(rows[i])])
      return refuse(err, CONCORD_INVALID, CONCORD_WHY_SHAPE, "kv_append: row %d is written twice", rows[i]);
    seen[static_cast<std::size_t>(rows[i])] = true;
  }
  return CONCORD_OK;
}

// The order of ARGMAX, SAMPLE and TOPK_ROUTING: larger first, NaN after every number (so that the order is strict and weak).
template <class Real>
bool before(Real a, Real b) {
  return std::isnan(b) ? !std::isnan(a) : a > b;
}

// Bytes that a weight's data, scales and zeros occupy in host memory.
struct WeightBytes {
  std::size_t data = 0, scales = 0, zeros = 0, groups = 0;
};

// Checks a weight description that comes from the host.
inline concord_status check_weight(const concord_weight_desc* d, WeightBytes& bytes, concord_error* err) {
  const auto bad = [&](concord_why why, const char* what) {
    return refuse(err, CONCORD_INVALID, why, "weight: %s", what);
  };
  if (!d || d->struct_size < sizeof(concord_weight_desc))
    return bad(CONCORD_WHY_NONE, "concord_weight_desc is missing or too small");
  if (d->rows < 1 || d->cols < 1) return bad(CONCORD_WHY_SHAPE, "rows and cols must be at least 1");
  std::int64_t total = 0;
  if (__builtin_mul_overflow(d->rows, d->cols, &total) || total > (std::int64_t{1} << 59))
    return bad(CONCORD_WHY_SHAPE, "its size overflows");
  if (!d->data) return bad(CONCORD_WHY_NONE, "data is NULL");
  if (!is_float(d->activation_dtype)) return bad(CONCORD_WHY_DTYPE, "activation_dtype must be a float dtype");
  const auto rows = static_cast<std::size_t>(d->rows), cols = static_cast<std::size_t>(d->cols);
  if (is_float(d->dtype)) {
    bytes = {rows * cols * dtype_bytes(d->dtype), 0, 0, 0};
    return d->scales || d->zeros ? bad(CONCORD_WHY_DTYPE, "a float weight has no scales or zeros") : CONCORD_OK;
  }
  if (d->dtype != CONCORD_I8 && d->dtype != CONCORD_U4)
    return bad(CONCORD_WHY_DTYPE, "dtype must be F32, F16, BF16, F64, I8 or U4");
  if (!d->scales) return bad(CONCORD_WHY_NONE, "a quantised weight needs scales");
  if (d->dtype == CONCORD_I8) {
    bytes = {rows * cols, rows * 4, 0, 0};
    return d->zeros ? bad(CONCORD_WHY_DTYPE, "I8 is symmetric and has no zeros") : CONCORD_OK;
  }
  if (d->group < 1) return bad(CONCORD_WHY_SHAPE, "U4 needs a group size");
  const std::size_t groups = (cols + d->group - 1) / d->group;
  bytes = {rows * ((cols + 1) / 2), rows * groups * 2, d->zeros ? rows * groups : 0, groups};
  return CONCORD_OK;
}

}  // namespace concord_abi
