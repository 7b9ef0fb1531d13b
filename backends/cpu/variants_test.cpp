// What holds between the CPU variants: the forced one ran, they differ in bits and agree within bounds, results do not
// depend on threads where that is declared, and a processor without the instructions is refused with a reason.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "abi/testing/bench.hpp"

namespace concord::testing {
namespace {

DType act() { return activation_dtypes().front(); }
bool uses_onednn() { return device_id() == "cpu:onednn"; }

struct Shape {
  std::int64_t t, n, k;
};
// One row, small N with a long sum, both large, odd sizes: where a library may split the sum over threads.
const std::vector<Shape> kShapes = {{1, 576, 576},   {1, 1, 20000},    {1, 16, 8192}, {4, 8, 16384},
                                    {16, 16, 16384}, {100, 576, 1536}, {33, 17, 129}, {200, 49, 4096}};

std::vector<std::byte> matmul_bits(Device& device, const Shape& s, std::uint64_t seed = 5) {
  Bench b(device);
  HostWeight w = make_weight(kWeightForms[0], s.n, s.k, act(), seed);
  concord_call c = make_call(CONCORD_OP_MATMUL);
  c.n_in = c.n_out = 1;
  c.in[0] = b.put(act(), {s.t, s.k}, noise(seed + 1, Bench::count({s.t, s.k}))), c.out[0] = b.room(act(), {s.t, s.n}),
  c.weight = b.weight(w.desc);
  const Status status = b.run(c);
  EXPECT_TRUE(status.has_value()) << (status ? "" : status.error().to_string());
  return b.bits(c.out[0]);
}

Device open_with(unsigned threads) {
  auto d = backends().open(device_id(), threads);
  EXPECT_TRUE(d.has_value());
  return std::move(*d);
}

TEST(Matmul, RepeatsAreBitEqualForOneConfiguration) {
  for (const unsigned threads : {1u, 2u, 3u}) {
    Device a = open_with(threads), b = open_with(threads);
    for (const Shape& s : kShapes) {
      const auto first = matmul_bits(a, s);
      for (int i = 0; i < 3; ++i)
        EXPECT_EQ(first, matmul_bits(i == 2 ? b : a, s)) << threads << " threads, " << s.t << "x" << s.n << "x" << s.k;
    }
  }
}

TEST(Matmul, DeclaredClassIsHonestAboutThreads) {
  Device one = open_with(1);
  std::string differing;
  for (const unsigned threads : {2u, 3u, 8u}) {
    Device many = open_with(threads);
    for (const Shape& s : kShapes)
      if (matmul_bits(one, s) != matmul_bits(many, s))
        differing += fmt::format(" {}x{}x{} at {} threads;", s.t, s.n, s.k, threads);
  }
  RecordProperty("differs_from_one_thread", differing);
  std::printf("shapes whose bits depend on the threads:%s\n", differing.empty() ? " none" : differing.c_str());
  EXPECT_EQ(one.determinism(), uses_onednn() ? CONCORD_IDENTICAL_PER_CONFIGURATION : CONCORD_ALWAYS_IDENTICAL);
  if (one.determinism() == CONCORD_ALWAYS_IDENTICAL) {
    EXPECT_EQ(differing, "");
  }
}

// Every other operator declares ALWAYS_IDENTICAL. Shapes are large enough to be split over threads.
struct Recipe {
  concord_op op;
  std::function<void(Bench&, concord_call&)> fill;
};
const Recipe kRecipes[] = {
    {CONCORD_OP_RMSNORM,
     [](Bench& b, concord_call& c) {
       c.eps = 1e-5f, c.in[0] = b.put(act(), {200, 577}, noise(1, 200 * 577)),
       c.in[1] = b.put(DType::kF32, {577}, noise(2, 577));
       c.n_in = 2, c.out[0] = b.room(act(), {200, 577});
     }},
    {CONCORD_OP_LAYERNORM,
     [](Bench& b, concord_call& c) {
       c.eps = 1e-5f, c.in[0] = b.put(act(), {200, 577}, noise(1, 200 * 577)),
       c.in[1] = b.put(DType::kF32, {577}, noise(2, 577));
       c.in[2] = c.in[1], c.n_in = 3, c.out[0] = b.room(act(), {200, 577});
     }},
    {CONCORD_OP_ATTENTION,
     [](Bench& b, concord_call& c) {
       std::vector<std::int32_t> at(70);
       for (int i = 0; i < 70; ++i) at[static_cast<std::size_t>(i)] = 30 + i;
       c.scale = 0.2f, c.in[0] = b.put(act(), {70, 6, 64}, noise(3, 70 * 6 * 64)),
       c.in[1] = b.put(DType::kF32, {100, 2, 64}, noise(4, 12800));
       c.in[2] = b.put(DType::kF32, {100, 2, 64}, noise(5, 12800)), c.in[3] = b.put_i32({70}, at), c.n_in = 4,
       c.out[0] = b.room(act(), {70, 6, 64});
     }},
    {CONCORD_OP_ROPE,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {300, 4, 64}, noise(6, 300 * 256)), c.in[1] = b.put(DType::kF32, {9, 32}, noise(7, 288));
       c.in[2] = b.put(DType::kF32, {9, 32}, noise(8, 288)),
       c.in[3] = b.put_i32({300}, std::vector<std::int32_t>(300, 8));
       c.n_in = 4, c.out[0] = b.room(act(), {300, 4, 64});
     }},
    {CONCORD_OP_SWIGLU,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {90, 1501}, noise(9, 90 * 1501, 8)),
       c.in[1] = b.put(act(), {90, 1501}, noise(10, 90 * 1501)), c.n_in = 2;
       c.out[0] = b.room(act(), {90, 1501});
     }},
    {CONCORD_OP_GELU,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {90, 1501}, noise(11, 90 * 1501, 4)), c.n_in = 1, c.out[0] = b.room(act(), {90, 1501});
     }},
    {CONCORD_OP_ADD,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {90, 1501}, noise(9, 90 * 1501)),
       c.in[1] = b.put(act(), {90, 1501}, noise(10, 90 * 1501)), c.n_in = 2;
       c.out[0] = b.room(act(), {90, 1501});
     }},
    {CONCORD_OP_SOFTMAX,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {40, 5003}, noise(12, 40 * 5003, 9)), c.n_in = 1, c.out[0] = b.room(act(), {40, 5003});
     }},
    {CONCORD_OP_TOPK_ROUTING,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {600, 128}, noise(13, 600 * 128, 5)), c.n_in = 1,
       c.out[0] = b.room(DType::kF32, {600, 8});
       c.out[1] = b.put_i32({600, 8}, std::vector<std::int32_t>(4800)), c.n_out = 2;
     }},
    {CONCORD_OP_ARGMAX,
     [](Bench& b, concord_call& c) {
       c.in[0] = b.put(act(), {40, 5003}, noise(14, 40 * 5003)), c.n_in = 1,
       c.out[0] = b.put_i32({40}, std::vector<std::int32_t>(40));
     }},
    {CONCORD_OP_SAMPLE,
     [](Bench& b, concord_call& c) {
       std::vector<std::int32_t> at(5);
       for (int i = 0; i < 5; ++i) at[static_cast<std::size_t>(i)] = 1000 * i;
       c.in[0] = b.put(act(), {5, 20011}, noise(17, 5 * 20011, 2)), c.in[1] = b.put_i32({5}, at), c.n_in = 2;
       c.scale = 1 / 0.8, c.seed = 99, c.out[0] = b.put_i32({5}, std::vector<std::int32_t>(5));
     }},
    {CONCORD_OP_KV_APPEND,
     [](Bench& b, concord_call& c) {
       std::vector<std::int32_t> rows(300);
       for (int i = 0; i < 300; ++i) rows[static_cast<std::size_t>(i)] = 299 - i;
       c.in[0] = b.put(act(), {300, 3, 64}, noise(15, 300 * 192)),
       c.in[1] = b.put(act(), {300, 3, 64}, noise(16, 300 * 192));
       c.in[2] = b.put_i32({300}, rows), c.n_in = 3, c.out[0] = b.room(DType::kF16, {300, 3, 64}),
       c.out[1] = b.room(DType::kF16, {300, 3, 64}), c.n_out = 2;
     }},
    {CONCORD_OP_EMBEDDING,
     [](Bench& b, concord_call& c) {
       c.weight = b.weight(make_weight(kWeightForms[3], 50, 300, act(), 17).desc);
       c.in[0] = b.put_i32({500}, std::vector<std::int32_t>(500, 49)), c.n_in = 1, c.out[0] = b.room(act(), {500, 300});
     }},
};

TEST(OtherOperators, BitsDependNeitherOnThreadsNorOnTheRun) {
  for (const Recipe& r : kRecipes) {
    std::vector<std::byte> first;
    for (const unsigned threads : {1u, 1u, 2u, 2u, 3u, 8u}) {
      Device d = open_with(threads);
      Bench b(d);
      concord_call c = make_call(r.op);
      c.n_out = 1;
      r.fill(b, c);
      const Status s = b.run(c);
      ASSERT_TRUE(s.has_value()) << s.error().to_string();
      EXPECT_EQ(d.determinism(), CONCORD_ALWAYS_IDENTICAL) << op_name(r.op);
      if (first.empty()) first = b.bits(c.out[0]);
      EXPECT_EQ(first, b.bits(c.out[0])) << op_name(r.op) << " with " << threads << " threads";
    }
  }
}

TEST(Witness, NamesTheForcedVariantAndNothingFellBack) {
  Device d = open_with(2);
  for (const Shape& s : kShapes) (void)matmul_bits(d, s);
  const std::map<std::string, std::string> words = {{"cpu:strict", "strict f32, no fma, one sum, f32 weights"},
                                                    {"cpu:avx2", "avx2 f32 fma, sums of 256, f32 weights"},
                                                    {"cpu:avx512", "avx512 f32 fma, sums of 512, f32 weights"},
                                                    {"cpu:onednn", "onednn 2."},
                                                    {"cpu:bf16", "avx512_bf16 dot products, bf16 weights"}};
  ASSERT_TRUE(words.contains(d.facts().id)) << d.facts().id;
  std::uint64_t calls = 0;
  for (const auto& [kernel, count] : d.kernels()) {
    std::printf("%s: %llu calls\n", kernel.c_str(), static_cast<unsigned long long>(count));
    EXPECT_TRUE(kernel.starts_with("matmul: ")) << kernel;
    EXPECT_NE(kernel.find(words.at(d.facts().id)), std::string::npos) << kernel;
    calls += count;
  }
  EXPECT_EQ(calls, kShapes.size());
  EXPECT_EQ(d.fallbacks(), 0u);
}

std::string hex_of(Device& d) {
  std::string text;
  for (std::byte b : matmul_bits(d, {8, 64, 4096}, 99)) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

// The same program as another process, under another variant: its long sums in hexadecimal.
std::string long_sum_of(const std::string& id) {
  const std::string command =
      "CONCORD_TEST_DEVICE=" + id + " /proc/" + std::to_string(getpid()) + "/exe --print-long-sum";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return "";
  std::string text;
  char piece[4096];
  while (const std::size_t n = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, n);
  return pclose(pipe) == 0 ? text : "";
}

// Bounds are judged in operators_test.cpp; here, that forcing a variant really changes the arithmetic.
TEST(Variants, DifferInBitsOnALongSum) {
  const std::string mine = hex_of(subject());
  EXPECT_EQ(mine, long_sum_of(device_id())) << "another process, same variant";
  int others = 0;
  for (const DeviceFacts& f : backends().devices()) {
    if (f.backend != "cpu" || f.id == device_id() || !f.available || f.id == "cpu:bf16" || device_id() == "cpu:bf16")
      continue;  // another dtype
    EXPECT_NE(mine, long_sum_of(f.id)) << f.id;
    ++others;
  }
  std::printf("compared with %d other variants\n", others);
  if (others == 0) GTEST_SKIP() << "no other variant of the same activation dtype can run on this processor";
}

TEST(Variants, OpenSideBySideInOneProcess) {
  const auto alone = matmul_bits(subject(), kShapes.front());
  std::vector<Device> open;
  for (const DeviceFacts& f : backends().devices())
    if (f.backend == "cpu" && f.available) open.push_back(std::move(*backends().open(f.id)));
  ASSERT_GE(open.size(), 1u);
  EXPECT_EQ(alone, matmul_bits(subject(), kShapes.front()));
}

TEST(Variants, MaskedFeaturesAreRefusedWithAReason) {
  const auto masked = [](const char* mask) {
    setenv("CONCORD_CPU_MASK", mask, 1);
    Backends found = Backends::discover();
    return found;
  };
  const Backends none = masked("avx2");
  for (const char* id : {"cpu:avx2", "cpu:avx512", "cpu:onednn", "cpu:bf16"}) {
    const auto d = none.open(id);
    ASSERT_FALSE(d.has_value()) << id;
    EXPECT_EQ(d.error().code, "device.unavailable");
    EXPECT_EQ(exit_code(d.error().kind), exit_codes::kMissingDevice);
    EXPECT_NE(d.error().message.find("lacks"), std::string::npos) << d.error().message;
    EXPECT_NE(d.error().message.find("CONCORD_CPU_MASK=avx2"), std::string::npos) << d.error().message;
  }
  EXPECT_EQ(none.resolve("cpu").value(), "cpu:strict");
  EXPECT_NE(masked("bf16,avx512").resolve("cpu").value(), "cpu:avx512");
  unsetenv("CONCORD_CPU_MASK");
}

TEST(Variants, ABareBackendNameNeverMeansBf16) {
  const std::string id = Backends::discover().resolve("cpu").value();
  EXPECT_TRUE(id == "cpu:avx512" || id == "cpu:avx2" || id == "cpu:strict") << id;
}

TEST(Variants, UnservedDtypesAreUnsupportedNotConverted) {
  Bench b(subject());
  std::vector<DType> refused = {DType::kF64};
  if (device_id() == "cpu:bf16") refused.insert(refused.end(), {DType::kF32, DType::kF16});
  for (const DType dtype : refused) {
    concord_call c = make_call(CONCORD_OP_ADD);
    c.n_in = 2, c.n_out = 1;
    for (int i : {0, 1}) c.in[i] = b.put(dtype, {4}, {1, 2, 3, 4});
    c.out[0] = b.room(dtype, {4});
    for (const Status& s : {subject().supports(c), b.run(c)}) {
      ASSERT_FALSE(s.has_value()) << dtype_name(dtype);
      EXPECT_EQ(s.error().code, "device.unsupported");
      EXPECT_NE(s.error().message.find("(dtype)"), std::string::npos) << s.error().message;
    }
    const auto w = subject().create_weight(make_weight(kWeightForms[0], 4, 4, dtype, 1).desc);
    ASSERT_FALSE(w.has_value());
    EXPECT_EQ(w.error().code, "device.unsupported");
  }
}

// Ends without exit handlers: OpenMP's workers are still spinning, and the leak checker of a sanitizer build cannot
// walk them.
[[noreturn]] int print_long_sum() {
  const bool written = std::fputs(hex_of(subject()).c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  std::_Exit(written ? 0 : 1);
}
const bool kPrinting = modes().emplace("--print-long-sum", print_long_sum).second;

}  // namespace
}  // namespace concord::testing
