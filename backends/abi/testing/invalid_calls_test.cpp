// Calls that nobody could serve are refused with CONCORD_INVALID and a message, and never crash; for any device behind
// the ABI.
#include <fmt/format.h>

#include <cstring>
#include <memory>

#include "bench.hpp"

namespace concord::testing {
namespace {

DType act() { return activation_dtypes().front(); }

// A well-formed call of every operator, small.
struct Prepared {
  explicit Prepared(Device& d) : bench(d) {}
  Bench bench;
  concord_call call{};
};

void attach(Prepared& p, std::initializer_list<concord_tensor> in, std::initializer_list<concord_tensor> out) {
  for (const concord_tensor& t : in) p.call.in[p.call.n_in++] = t;
  for (const concord_tensor& t : out) p.call.out[p.call.n_out++] = t;
}

concord_tensor x_of(Prepared& p, const Dims& dims, DType dtype = act()) {
  return p.bench.put(dtype, dims, noise(1, Bench::count(dims)));
}
concord_tensor f32_of(Prepared& p, const Dims& dims) { return x_of(p, dims, DType::kF32); }

concord_weight* weight_of(Prepared& p, std::int64_t rows, std::int64_t cols) {
  return p.bench.weight(make_weight(kWeightForms[0], rows, cols, act(), 3).desc);
}

void prepare(Prepared& p, concord_op op) {
  p.call = make_call(op);
  Bench& b = p.bench;
  switch (op) {
    case CONCORD_OP_EMBEDDING:
      p.call.weight = weight_of(p, 10, 8), attach(p, {b.put_i32({3}, {0, 9, 4})}, {b.room(act(), {3, 8})});
      break;
    case CONCORD_OP_RMSNORM:
      attach(p, {x_of(p, {2, 8}), f32_of(p, {8})}, {b.room(act(), {2, 8})});
      break;
    case CONCORD_OP_LAYERNORM:
      attach(p, {x_of(p, {2, 8}), f32_of(p, {8}), f32_of(p, {8})}, {b.room(act(), {2, 8})});
      break;
    case CONCORD_OP_MATMUL:
      p.call.weight = weight_of(p, 6, 8), attach(p, {x_of(p, {2, 8}), f32_of(p, {6})}, {b.room(act(), {2, 6})});
      break;
    case CONCORD_OP_ROPE:
      attach(p, {x_of(p, {2, 3, 8}), f32_of(p, {5, 4}), f32_of(p, {5, 4}), b.put_i32({2}, {0, 4})},
             {b.room(act(), {2, 3, 8})});
      break;
    case CONCORD_OP_KV_APPEND:
      attach(p, {x_of(p, {2, 2, 4}), x_of(p, {2, 2, 4}), b.put_i32({2}, {0, 4})},
             {b.room(DType::kF32, {5, 2, 4}), b.room(DType::kF32, {5, 2, 4})});
      break;
    case CONCORD_OP_ATTENTION:
      p.call.scale = 0.5f;
      attach(p, {x_of(p, {2, 4, 8}), f32_of(p, {5, 2, 8}), f32_of(p, {5, 2, 8}), b.put_i32({2}, {0, 4})},
             {b.room(act(), {2, 4, 8})});
      break;
    case CONCORD_OP_SWIGLU:
    case CONCORD_OP_ADD:
      attach(p, {x_of(p, {2, 8}), x_of(p, {2, 8})}, {b.room(act(), {2, 8})});
      break;
    case CONCORD_OP_GELU:
    case CONCORD_OP_SOFTMAX:
      attach(p, {x_of(p, {2, 8})}, {b.room(act(), {2, 8})});
      break;
    case CONCORD_OP_TOPK_ROUTING:
      attach(p, {x_of(p, {2, 8})}, {b.room(DType::kF32, {2, 3}), b.put_i32({2, 3}, std::vector<std::int32_t>(6))});
      break;
    case CONCORD_OP_SAMPLE:
      p.call.scale = 0.5, p.call.seed = 7;
      attach(p, {x_of(p, {2, 8}), b.put_i32({2}, {0, 4})}, {b.put_i32({2}, {0, 0})});
      break;
    default:
      attach(p, {x_of(p, {2, 8})}, {b.put_i32({2}, {0, 0})});
  }
}

void expect_invalid(Prepared& p, const std::string& what, const std::string& word = "") {
  const Status s = p.bench.run(p.call);
  ASSERT_FALSE(s.has_value()) << what << " was accepted";
  EXPECT_EQ(s.error().code, "device.invalid_call") << what << ": " << s.error().message;
  EXPECT_NE(s.error().message.find(word), std::string::npos) << what << ": " << s.error().message;
  EXPECT_GT(s.error().message.size(), 15u) << what;
}

class InvalidCalls : public ::testing::TestWithParam<int> {
 protected:
  concord_op op() const { return static_cast<concord_op>(GetParam()); }
  // Runs `spoil` on a fresh well-formed call and expects a refusal.
  void spoiled(const std::string& what, const std::function<void(concord_call&)>& spoil, const std::string& word = "") {
    Prepared p(subject());
    prepare(p, op());
    spoil(p.call);
    expect_invalid(p, std::string(op_name(op())) + ": " + what, word);
  }
};
INSTANTIATE_TEST_SUITE_P(Ops, InvalidCalls, ::testing::Range(0, static_cast<int>(CONCORD_OP_COUNT)),
                         [](const auto& p) { return std::string(op_name(static_cast<std::uint32_t>(p.param))); });

TEST_P(InvalidCalls, TheWellFormedCallRuns) {
  Prepared p(subject());
  prepare(p, op());
  const Status s = p.bench.run(p.call);
  EXPECT_TRUE(s.has_value()) << s.error().to_string();
  const Status asked = subject().supports(p.call);
  EXPECT_TRUE(asked.has_value());
  for (auto& t : p.call.in) t.buffer = nullptr;  // supports() looks at shapes and dtypes alone
  for (auto& t : p.call.out) t.buffer = nullptr;
  EXPECT_TRUE(subject().supports(p.call).has_value());
}

TEST_P(InvalidCalls, EveryOperandIsChecked) {
  Prepared sample(subject());
  prepare(sample, op());
  const auto each = [&](bool in, std::uint32_t i) {
    const auto at = [=](concord_call& c) -> concord_tensor& { return in ? c.in[i] : c.out[i]; };
    const std::string name = fmt::format("{} {}", in ? "in" : "out", i);
    spoiled(
        name + " rank + 1",
        [&](concord_call& c) {
          auto& t = at(c);
          t.dims[t.rank] = 1, ++t.rank;
        },
        "rank");
    spoiled(name + " rank 0", [&](concord_call& c) { at(c).rank = 0; }, "rank");
    spoiled(name + " rank 9", [&](concord_call& c) { at(c).rank = 9; }, "rank");
    spoiled(name + " no buffer", [&](concord_call& c) { at(c).buffer = nullptr; }, "buffer");
    spoiled(name + " extent 0", [&](concord_call& c) { at(c).dims[0] = 0; }, "extent 0");
    spoiled(name + " negative", [&](concord_call& c) { at(c).dims[0] = -3; }, "extent -3");
    spoiled(name + " huge", [&](concord_call& c) { at(c).dims[0] = INT64_MAX; });
    spoiled(name + " beyond its buffer", [&](concord_call& c) { at(c).byte_offset = 8; }, "buffer");
    spoiled(name + " offset overflow", [&](concord_call& c) { at(c).byte_offset = UINT64_MAX - 7; }, "buffer");
    spoiled(name + " dtype 99", [&](concord_call& c) { at(c).dtype = 99; });
    spoiled(name + " dtype U4", [&](concord_call& c) { at(c).dtype = CONCORD_U4; });
    spoiled(name + " struct_size", [&](concord_call& c) { at(c).struct_size = 8; }, "struct_size");
  };
  for (std::uint32_t i = 0; i < sample.call.n_in; ++i) each(true, i);
  for (std::uint32_t i = 0; i < sample.call.n_out; ++i) each(false, i);
}

TEST_P(InvalidCalls, CountsFlagsAndHeaderAreChecked) {
  spoiled("an input too many", [](concord_call& c) { c.n_in = 9; }, "inputs");
  spoiled("no input", [](concord_call& c) { c.n_in = 0; }, "inputs");
  spoiled("no output", [](concord_call& c) { c.n_out = 0; }, "outputs");
  spoiled("unknown flag", [](concord_call& c) { c.flags = 0x80; }, "flags");
  spoiled("accumulate F16", [](concord_call& c) { c.accumulate = CONCORD_F16; }, "accumulate");
  spoiled("struct_size", [](concord_call& c) { c.struct_size = 16; }, "struct_size");
  spoiled("unknown operator", [](concord_call& c) { c.op = CONCORD_OP_COUNT; }, "operator");
  if (op() == CONCORD_OP_EMBEDDING || op() == CONCORD_OP_MATMUL)
    spoiled("no weight", [](concord_call& c) { c.weight = nullptr; }, "weight");
}

// A host of ABI 2.0 has a shorter call: every operator that it knows is served, and nothing behind its end is read.
TEST_P(InvalidCalls, TheCallOfAnOlderHostIsServed) {
  Prepared p(subject());
  prepare(p, op());
  const auto bytes = std::make_unique<std::uint64_t[]>(CONCORD_CALL_SIZE_2_0 / 8);
  p.call.struct_size = CONCORD_CALL_SIZE_2_0;
  std::memcpy(bytes.get(), &p.call, CONCORD_CALL_SIZE_2_0);
  const void* volatile somewhere = bytes.get();  // a compiler that knew the size would object to the short call itself
  const Status s = p.bench.run(*static_cast<const concord_call*>(somewhere));
  EXPECT_EQ(s.has_value(), op() != CONCORD_OP_SAMPLE) << (s ? "served without a seed" : s.error().message);
  p.call.struct_size -= 8;
  expect_invalid(p, "a call that is too short", "struct_size");
}

struct Fault {
  concord_op op;
  const char* what;
  void (*spoil)(Prepared&);
  const char* word;
};
// What only one operator can get wrong.
const Fault kFaults[] = {
    {CONCORD_OP_EMBEDDING, "negative id", [](Prepared& p) { p.call.in[0] = p.bench.put_i32({3}, {0, -1, 2}); },
     "ids[1] is -1"},
    {CONCORD_OP_EMBEDDING, "id beyond the table", [](Prepared& p) { p.call.in[0] = p.bench.put_i32({3}, {0, 1, 10}); },
     "ids[2] is 10"},
    {CONCORD_OP_EMBEDDING, "table of another width", [](Prepared& p) { p.call.weight = weight_of(p, 10, 9); },
     "[10, 9]"},
    {CONCORD_OP_MATMUL, "weight of another K", [](Prepared& p) { p.call.weight = weight_of(p, 6, 9); }, "[6, 9]"},
    {CONCORD_OP_MATMUL, "bias of another length", [](Prepared& p) { p.call.in[1] = f32_of(p, {7}); }, "expected 7"},
    {CONCORD_OP_MATMUL, "flag without z", [](Prepared& p) { p.call.flags = CONCORD_PLUS; }, "z needs"},
    {CONCORD_OP_MATMUL, "z without a flag", [](Prepared& p) { p.call.in[2] = p.call.out[0], p.call.n_in = 3; }, "z needs"},
    {CONCORD_OP_MATMUL, "both flags",
     [](Prepared& p) { p.call.in[2] = p.call.out[0], p.call.n_in = 3, p.call.flags = CONCORD_PLUS | CONCORD_GATED; }, "z needs"},
    {CONCORD_OP_MATMUL, "z of another shape",
     [](Prepared& p) { p.call.in[2] = p.call.in[0], p.call.n_in = 3, p.call.flags = CONCORD_PLUS; }, "z has extent"},
    {CONCORD_OP_MATMUL, "sequences", [](Prepared& p) { p.call.sequence_rows = 2; }, "takes no sequence_rows"},
    {CONCORD_OP_ATTENTION, "negative sequences", [](Prepared& p) { p.call.sequence_rows = -1; }, "sequence_rows is negative"},
    {CONCORD_OP_ATTENTION, "scales for a float cache",
     [](Prepared& p) { p.call.in[4] = p.call.in[5] = f32_of(p, {5, 2}), p.call.n_in = 6; }, "expected 4 to 4"},
    {CONCORD_OP_ATTENTION, "int8 cache without scales",
     [](Prepared& p) { p.call.in[1].dtype = p.call.in[2].dtype = CONCORD_I8; }, "expected 6 to 6"},
    {CONCORD_OP_MATMUL, "output over input", [](Prepared& p) { p.call.out[0].buffer = p.call.in[0].buffer; },
     "overlaps"},
    {CONCORD_OP_RMSNORM, "gain of another length", [](Prepared& p) { p.call.in[1] = f32_of(p, {9}); }, "gain"},
    {CONCORD_OP_RMSNORM, "negative eps", [](Prepared& p) { p.call.eps = -1; }, "eps"},
    {CONCORD_OP_LAYERNORM, "NaN eps", [](Prepared& p) { p.call.eps = NAN; }, "eps"},
    {CONCORD_OP_ROPE, "position beyond the table", [](Prepared& p) { p.call.in[3] = p.bench.put_i32({2}, {0, 5}); },
     "positions[1] is 5"},
    {CONCORD_OP_ROPE, "table of another width", [](Prepared& p) { p.call.in[1] = f32_of(p, {5, 3}); }, "cos"},
    {CONCORD_OP_KV_APPEND, "row beyond the cache", [](Prepared& p) { p.call.in[2] = p.bench.put_i32({2}, {0, 5}); },
     "rows[1] is 5"},
    {CONCORD_OP_KV_APPEND, "row twice", [](Prepared& p) { p.call.in[2] = p.bench.put_i32({2}, {3, 3}); }, "twice"},
    {CONCORD_OP_KV_APPEND, "one cache for both", [](Prepared& p) { p.call.out[1] = p.call.out[0]; }, "overlaps"},
    {CONCORD_OP_ATTENTION, "position beyond the cache",
     [](Prepared& p) { p.call.in[3] = p.bench.put_i32({2}, {0, 5}); }, "rows[1] is 5"},
    {CONCORD_OP_ATTENTION, "caches of two dtypes", [](Prepared& p) { p.call.in[2] = x_of(p, {5, 2, 8}, DType::kF16); },
     "vc is F16"},
    {CONCORD_OP_ATTENTION, "infinite scale", [](Prepared& p) { p.call.scale = INFINITY; }, "scale"},
    {CONCORD_OP_ATTENTION, "heads not grouped evenly",
     [](Prepared& p) { p.call.in[1] = f32_of(p, {5, 3, 8}), p.call.in[2] = f32_of(p, {5, 3, 8}); }, "multiple"},
    {CONCORD_OP_ADD, "two shapes", [](Prepared& p) { p.call.in[1] = x_of(p, {2, 9}); }, "extent 9"},
    {CONCORD_OP_TOPK_ROUTING, "k beyond the experts",
     [](Prepared& p) {
       p.call.out[0] = f32_of(p, {2, 9}), p.call.out[1] = p.bench.put_i32({2, 9}, std::vector<std::int32_t>(18));
     },
     "k is 9"},
    {CONCORD_OP_SAMPLE, "negative position", [](Prepared& p) { p.call.in[1] = p.bench.put_i32({2}, {3, -1}); },
     "positions[1] is -1"},
    {CONCORD_OP_SAMPLE, "temperature infinite", [](Prepared& p) { p.call.scale = 0; }, "scale"},
    {CONCORD_OP_SAMPLE, "temperature zero", [](Prepared& p) { p.call.scale = INFINITY; }, "scale"},
    {CONCORD_OP_SAMPLE, "temperature negative", [](Prepared& p) { p.call.scale = -1; }, "scale"},
    {CONCORD_OP_SAMPLE, "temperature NaN", [](Prepared& p) { p.call.scale = NAN; }, "scale"},
    {CONCORD_OP_ROPE, "partly overlapping output",
     [](Prepared& p) {
       concord_tensor wide = x_of(p, {3, 3, 8});
       p.call.in[0].buffer = p.call.out[0].buffer = wide.buffer;
       p.call.out[0].byte_offset = 24 * dtype_bits(act()) / 8;
     },
     "overlaps"},
};

TEST(InvalidCallsOfOneOperator, AreRefusedWithAMessage) {
  for (const Fault& f : kFaults) {
    Prepared p(subject());
    prepare(p, f.op);
    f.spoil(p);
    expect_invalid(p, fmt::format("{}: {}", op_name(f.op), f.what), f.word);
  }
}

TEST(InvalidCallsOfOneOperator, OddHeadSize) {
  Prepared p(subject());
  prepare(p, CONCORD_OP_ROPE);
  p.call.in[0] = x_of(p, {2, 3, 7}), p.call.out[0] = p.bench.room(act(), {2, 3, 7});
  p.call.in[1] = p.call.in[2] = f32_of(p, {5, 3});
  expect_invalid(p, "rope", "odd");
}

TEST(InvalidCopies, AreRefused) {
  Device& d = subject();
  auto buffer = d.allocate(16);
  ASSERT_TRUE(buffer.has_value());
  std::vector<std::byte> data(17);
  EXPECT_EQ(d.upload(*buffer, 0, data).error().code, "device.invalid_call");
  EXPECT_EQ(d.upload(*buffer, 16, std::span(data).first(1)).error().code, "device.invalid_call");
  EXPECT_EQ(d.download(*buffer, UINT64_MAX, std::span(data).first(2)).error().code, "device.invalid_call");
  EXPECT_TRUE(d.upload(*buffer, 16, std::span(data).first(0)).has_value());
  EXPECT_EQ(d.allocate(UINT64_MAX).error().code, "device.out_of_memory");
  EXPECT_EQ(d.allocate(std::uint64_t{1} << 60).error().code, "device.out_of_memory");
}

TEST(InvalidWeights, AreRefused) {
  const auto code = [](const std::function<void(concord_weight_desc&)>& spoil, const WeightForm& form) {
    HostWeight w = make_weight(form, 4, 40, act(), 1);
    spoil(w.desc);
    auto made = subject().create_weight(w.desc);
    return made ? std::string("accepted") : made.error().code;
  };
  const WeightForm &f32 = kWeightForms[0], &i8 = kWeightForms[3], &u4 = kWeightForms[4], &u4z = kWeightForms[5];
  const std::string invalid = "device.invalid_call";
  EXPECT_EQ(code([](auto&) {}, f32), "accepted");
  EXPECT_EQ(code([](auto&) {}, u4z), "accepted");
  EXPECT_EQ(code([](auto& d) { d.rows = 0; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.cols = -1; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.rows = INT64_MAX; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.data = nullptr; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.struct_size = 8; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.dtype = CONCORD_I32; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.scales = d.data; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.activation_dtype = CONCORD_I8; }, f32), invalid);
  EXPECT_EQ(code([](auto& d) { d.scales = nullptr; }, i8), invalid);
  EXPECT_EQ(code([](auto& d) { d.zeros = static_cast<const std::uint8_t*>(d.data); }, i8), invalid);
  EXPECT_EQ(code([](auto& d) { d.scales = nullptr; }, u4), invalid);
  EXPECT_EQ(code([](auto& d) { d.group = 0; }, u4), invalid);
}

}  // namespace
}  // namespace concord::testing
