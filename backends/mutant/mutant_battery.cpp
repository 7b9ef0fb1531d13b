#include "mutant_battery.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "abi/concord_sample.hpp"

namespace concord::testing {
namespace {

constexpr std::uint64_t kGuard = 4096;

enum class Data { kNoise, kIntegers, kSpecial, kLarge, kTiny, kLevel };
struct Trial {
  concord_op op;
  DType x = DType::kF32, kv = DType::kF32;
  Data data = Data::kNoise;
  std::uint32_t flags = 0;
  bool place = false, bias = false, malformed = false;
  int form = 0;  // of kWeightForms
  std::int64_t rows = 5, n = 70, k = 150, context = 1;
  double eps = 1e-5, scale = 0;
  std::uint64_t seed = 1;
};

constexpr std::uint64_t kSampleSeed = 0x123456789abcdef1u;
constexpr std::int32_t kSamplePositions[] = {3, 0, 70000, 3, 41};

// Logits that take the noise of SAMPLE back, for a scale of 1: every score is nearly 4.
Values level(std::int64_t columns, std::size_t n) {
  Values v(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto width = static_cast<std::size_t>(columns);
    v[i] = 4 - concord_abi::gumbel(kSampleSeed, kSamplePositions[i / width], i % width);
  }
  return v;
}

Values values_of(const Trial& t, std::uint64_t tensor, std::size_t n) {
  if (t.data == Data::kLevel) return level(t.n, n);
  const std::uint64_t seed = t.seed * 100 + tensor;
  Values v = t.data == Data::kIntegers ? integers(seed, n, 2)
                                       : noise(seed, n,
                                               t.data == Data::kLarge  ? 30000
                                               : t.data == Data::kTiny ? 1e-4
                                                                       : 1);
  if (t.data == Data::kSpecial && (tensor == 0 || tensor == 9)) {
    const double special[] = {NAN, INFINITY, -0.0, t.x == DType::kF16 ? 0x1p-20 : 0x1p-130, -INFINITY};
    for (std::size_t i = 0; i < std::min<std::size_t>(n, 5); ++i) v[i] = special[i];
  }
  return v;
}

// The operands of one call. Every operand lies between guards in a buffer of its own.
class Stage {
 public:
  Stage(Device& device, const Trial& trial) : device_(device), t_(trial), call_(make_call(trial.op)) {}

  Observation observe() {
    build();
    call_.flags = t_.flags, call_.eps = t_.eps;
    if (t_.malformed) call_.n_in = 0;
    Observation seen{op_name(t_.op),
                     fmt::format("{} x={} data={} flags={} place={} form={}", op_name(t_.op), int(t_.x), int(t_.data),
                                 t_.flags, t_.place, t_.form),
                     {},
                     {}};
    const std::uint64_t before = device_.fallbacks();
    const KernelCounts kernels = device_.kernels();
    say(seen, weight_missing_ ? "no weight" : "");
    say(seen, device_.supports(call_));
    say(seen, device_.run(call_));
    say(seen, device_.synchronize());
    for (const auto& [name, count] : device_.kernels())
      if (const auto it = kernels.find(name); it == kernels.end() || it->second != count) say(seen, name);
    say(seen, fmt::format("fallbacks {} determinism {}", device_.fallbacks() - before, int(device_.determinism())));
    for (const Buffer& b : buffers_) {
      std::vector<std::byte> bytes(b.size());
      EXPECT_TRUE(device_.download(b, 0, bytes));
      seen.bits.insert(seen.bits.end(), bytes.begin(), bytes.end());
    }
    return seen;
  }

 private:
  static void say(Observation& o, const std::string& text) { o.status += text + "\n"; }
  static void say(Observation& o, const Status& s) { say(o, s ? "ok" : s.error().code); }

  concord_tensor room(DType dtype, const Dims& dims, std::span<const std::byte> bytes) {
    auto buffer = device_.allocate(bytes.size() + 2 * kGuard);
    EXPECT_TRUE(buffer);
    const std::vector<std::byte> guard(kGuard, std::byte{0xa5});
    EXPECT_TRUE(device_.upload(*buffer, 0, guard));
    EXPECT_TRUE(device_.upload(*buffer, kGuard, bytes));
    EXPECT_TRUE(device_.upload(*buffer, kGuard + bytes.size(), guard));
    buffers_.push_back(std::move(*buffer));
    concord_tensor t{};
    t.struct_size = sizeof t, t.dtype = to_abi(dtype), t.rank = static_cast<std::uint32_t>(dims.size());
    std::copy(dims.begin(), dims.end(), t.dims);
    t.buffer = buffers_.back().get(), t.byte_offset = kGuard;
    return t;
  }
  void in(DType dtype, const Dims& dims) { in(dtype, dims, values_of(t_, call_.n_in, Bench::count(dims))); }
  void in(DType dtype, const Dims& dims, const Values& values) {
    call_.in[call_.n_in++] = room(dtype, dims, bytes_of(dtype, values));
  }
  void indices(const std::vector<std::int32_t>& v) {
    call_.in[call_.n_in++] = room(DType::kI32, {static_cast<std::int64_t>(v.size())}, std::as_bytes(std::span(v)));
  }
  void out(DType dtype, const Dims& dims) {
    call_.out[call_.n_out++] = room(dtype, dims, bytes_of(dtype, Values(Bench::count(dims), 3.0)));
  }
  void out_in_place(std::uint32_t i, DType dtype, const Dims& dims) {
    if (t_.place)
      call_.out[call_.n_out++] = call_.in[i];
    else
      out(dtype, dims);
  }
  static std::vector<std::byte> bytes_of(DType dtype, const Values& v) {
    std::vector<std::byte> bytes(v.size() * dtype_bits(dtype) / 8);
    for (std::size_t i = 0; i < v.size(); ++i)
      if (dtype == DType::kI8)
        bytes[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(v[i] * 100, -127.0, 127.0)));
      else if (dtype == DType::kI32)
        std::memcpy(bytes.data() + 4 * i, std::array{static_cast<std::int32_t>(v[i])}.data(), 4);
      else
        store_from_f64(dtype, bytes.data(), i, v[i]);
    return bytes;
  }

  void weight(std::int64_t rows, std::int64_t cols) {
    const WeightForm& form = kWeightForms[static_cast<std::size_t>(t_.form)];
    HostWeight w = make_weight(form, rows, cols, t_.x, t_.seed * 7, t_.data == Data::kIntegers);
    if (form.dtype == CONCORD_I8) w.data[0] = w.data[static_cast<std::size_t>(cols)] = std::byte{0x81};
    if (form.dtype == CONCORD_F32 && t_.data == Data::kSpecial) {
      const Values v = values_of(t_, 9, 5);
      for (std::size_t i = 0; i < 5; ++i) store_from_f64(DType::kF32, w.data.data(), i, v[i]);
    }
    auto made = device_.create_weight(w.desc);
    weight_missing_ = !made;
    if (!made) return;
    weights_.push_back(std::move(*made));
    call_.weight = weights_.back().get();
  }

  void build() {
    const std::int64_t r = t_.rows, n = t_.n, heads = 4, groups = 2, d = 18, cache = 12 * t_.context;
    switch (t_.op) {
      case CONCORD_OP_EMBEDDING:
        return indices({0, 7, 3, 3, 8}), weight(9, t_.k), out(t_.x, {5, t_.k});
      case CONCORD_OP_RMSNORM:
        return in(t_.x, {r, n}), in(DType::kF32, {n}), out_in_place(0, t_.x, {r, n});
      case CONCORD_OP_LAYERNORM:
        return in(t_.x, {r, n}), in(DType::kF32, {n}), in(DType::kF32, {n}), out_in_place(0, t_.x, {r, n});
      case CONCORD_OP_MATMUL:
        in(t_.x, {r, t_.k}), weight(n, t_.k);
        if (t_.bias) in(DType::kF32, {n});
        if (t_.flags != 0) {
          call_.n_in = 2;
          in(t_.x, {r, n});
        }
        return out_in_place(2, t_.x, {r, n});
      case CONCORD_OP_ROPE:
        return in(t_.x, {r, heads, d}), in(DType::kF32, {cache, d / 2}), in(DType::kF32, {cache, d / 2}),
               indices({3, 4, 5, 6, 7}), out_in_place(0, t_.x, {r, heads, d});
      case CONCORD_OP_KV_APPEND:
        in(t_.x, {r, groups, d}), in(t_.x, {r, groups, d}), indices({2, 3, 5, 8, 9}), out(t_.kv, {cache, groups, d}),
            out(t_.kv, {cache, groups, d});
        if (t_.kv == DType::kI8) out(DType::kF32, {cache, groups}), out(DType::kF32, {cache, groups});
        return;
      case CONCORD_OP_ATTENTION:
        in(t_.x, {r, heads, d}), in(t_.kv, {cache, groups, d}), in(t_.kv, {cache, groups, d}),
            indices({2, 3, 7, 8, static_cast<std::int32_t>(cache - 3)});
        if (t_.kv == DType::kI8) in(DType::kF32, {cache, groups}), in(DType::kF32, {cache, groups});
        call_.sequence_rows = 6 * t_.context, call_.scale = 0.23;
        return out(t_.x, {r, heads, d});
      case CONCORD_OP_SWIGLU:
      case CONCORD_OP_ADD:
        return in(t_.x, {r, n}), in(t_.x, {r, n}), out_in_place(0, t_.x, {r, n});
      case CONCORD_OP_TOPK_ROUTING:
        return in(t_.x, {r, 23}), out(DType::kF32, {r, 20}), out(DType::kI32, {r, 20});
      case CONCORD_OP_ARGMAX:
        return in(t_.x, {r, n}), out(DType::kI32, {r});
      case CONCORD_OP_SAMPLE:
        call_.seed = kSampleSeed, call_.scale = t_.scale > 0 ? t_.scale : 1 / 0.7;
        return in(t_.x, {r, n}), indices({std::begin(kSamplePositions), std::end(kSamplePositions)}),
               out(DType::kI32, {r});
      default:  // GELU, SOFTMAX
        return in(t_.x, {r, n}), out_in_place(0, t_.x, {r, n});
    }
  }

  Device& device_;
  const Trial& t_;
  concord_call call_;
  std::vector<Buffer> buffers_;
  std::vector<Weight> weights_;
  bool weight_missing_ = false;
};

std::vector<Trial> variants(concord_op op) {
  std::vector<Trial> all;
  for (const DType x : {DType::kF32, DType::kF16, DType::kBF16})
    for (const Data data : {Data::kNoise, Data::kIntegers, Data::kSpecial, Data::kLarge, Data::kTiny})
      all.push_back({.op = op, .x = x, .data = data});
  all.push_back({.op = op, .malformed = true});
  for (const std::uint64_t seed : {2u, 3u}) all.push_back({.op = op, .seed = seed});
  const auto in_place_of = [](concord_op o) {
    return o != CONCORD_OP_EMBEDDING && o != CONCORD_OP_KV_APPEND && o != CONCORD_OP_ATTENTION &&
           o != CONCORD_OP_TOPK_ROUTING && o != CONCORD_OP_ARGMAX && o != CONCORD_OP_SAMPLE;
  };
  if (in_place_of(op))
    all.push_back({.op = op, .flags = op == CONCORD_OP_MATMUL ? std::uint32_t{CONCORD_PLUS} : 0u, .place = true});
  if (op == CONCORD_OP_MATMUL || op == CONCORD_OP_EMBEDDING)
    for (int form = 1; form < 8; ++form) all.push_back({.op = op, .form = form});
  if (op == CONCORD_OP_MATMUL) {
    all.push_back({.op = op, .bias = true}), all.push_back({.op = op, .flags = CONCORD_GATED}),
        all.push_back({.op = op, .n = 1100, .k = 4}), all.push_back({.op = op, .n = 2, .k = 1100});
  }
  if (op == CONCORD_OP_GELU) all.push_back({.op = op, .flags = CONCORD_GELU_TANH});
  if (op == CONCORD_OP_TOPK_ROUTING)
    for (const Data data : {Data::kNoise, Data::kIntegers})
      all.push_back({.op = op, .data = data, .flags = CONCORD_NORMALISE});
  const bool one_index = op == CONCORD_OP_ARGMAX || op == CONCORD_OP_SAMPLE;
  if (one_index)
    for (const DType x : {DType::kF32, DType::kF16}) all.push_back({.op = op, .x = x, .n = 3});
  if (op == CONCORD_OP_SAMPLE)
    all.push_back({.op = op, .data = Data::kLevel, .scale = 1}),
        all.push_back({.op = op, .data = Data::kLevel, .n = 1000, .scale = 1}),
        all.push_back({.op = op, .data = Data::kIntegers, .scale = 0x1p60});
  if (one_index)
    for (const std::uint64_t seed : {1u, 2u, 3u}) all.push_back({.op = op, .n = 70000, .seed = seed});
  if (op == CONCORD_OP_ATTENTION) all.push_back({.op = op, .context = 12});
  if (op == CONCORD_OP_KV_APPEND || op == CONCORD_OP_ATTENTION) all.push_back({.op = op, .kv = DType::kI8});
  return all;
}

}  // namespace

std::vector<Observation> observe_all(const Backends& from, const std::string& id, unsigned threads) {
  std::vector<Observation> all;
  for (int op = 0; op < CONCORD_OP_COUNT; ++op) {
    auto device = from.open(id, threads);
    if (!device) {
      ADD_FAILURE() << device.error().to_string();
      return {};
    }
    for (const Trial& trial : variants(static_cast<concord_op>(op))) all.push_back(Stage(*device, trial).observe());
  }
  return all;
}

}  // namespace concord::testing
