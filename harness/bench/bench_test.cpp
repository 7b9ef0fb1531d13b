// The formulas, statistics and helpers behind the measurements. No speed is asserted: a speed is not a property of the
// code alone.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "bench/blocks.hpp"
#include "bench/compare_bench.hpp"
#include "bench/cost.hpp"
#include "bench/growth.hpp"
#include "bench/load.hpp"
#include "bench/memory.hpp"
#include "bench/model_bench.hpp"
#include "bench/model_session.hpp"
#include "bench/peaks.hpp"
#include "bench/statistics.hpp"
#include "capture/capture.hpp"

namespace concord::bench {
namespace {

const std::atomic<bool> kGoOn{false}, kStop{true};

TEST(Statistics, MedianAndSpread) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_TRUE(std::isnan(median({})));
  const Spread s = spread({5, 1, 9});
  EXPECT_EQ(s.median, 5);
  EXPECT_EQ(s.low, 1);
  EXPECT_EQ(s.high, 9);
  EXPECT_EQ(ratios(std::vector<double>{6, 8}, std::vector<double>{2, 4}), (std::vector<double>{3, 2}));
}

TEST(Statistics, SlopeOfPowersIsTheirExponent) {
  for (const double exponent : {0.0, 1.0, 2.0}) {
    std::vector<double> x, y;
    for (const double v : {1.0, 2.0, 4.0, 8.0}) x.push_back(v), y.push_back(3 * std::pow(v, exponent));
    EXPECT_NEAR(log_log_slope(x, y), exponent, 1e-14);  // a dozen roundings of numbers of size 1
  }
  EXPECT_TRUE(std::isnan(log_log_slope(std::vector<double>{2, 2}, std::vector<double>{1, 3})));
  EXPECT_TRUE(std::isnan(log_log_slope(std::vector<double>{1, 2}, std::vector<double>{0, 3})));
}

TEST(Growth, SizesSpanADecade) {
  EXPECT_EQ(growth_sizes(640, 1), (std::vector<std::int64_t>{64, 114, 202, 360, 640}));
  const auto few = growth_sizes(32, 32);  // all five round to one unit
  EXPECT_EQ(few, (std::vector<std::int64_t>{32}));
  const Growth g{{{.size = 10, .seconds = {1, 2, 3}, .expected = 10, .memory = 0},
                  {.size = 100, .seconds = {20, 20, 90}, .expected = 1000, .memory = 0}}};
  EXPECT_NEAR(g.slope(), 1, 1e-14);
  EXPECT_NEAR(g.expected_slope(), 2, 1e-14);
}

TEST(MemoryStatus, ReadsTheKernelsText) {
  const Memory m = parse_memory(
      "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t1024 kB\nRssAnon:\t 512 kB\nRssFile:\t 256 kB\nRssShmem:\t 4 kB\n");
  EXPECT_EQ(m.peak, 2048u * 1024);
  EXPECT_EQ(m.resident, 1024u * 1024);
  EXPECT_EQ(m.anonymous, 512u * 1024);
  EXPECT_EQ(m.file_backed, 260u * 1024);
  EXPECT_EQ(parse_memory("VmHWM").peak, 0u);
}

TEST(MemoryStatus, SeesAnAllocation) {
  const std::uint64_t before = read_memory().anonymous;
  std::vector<char> block(std::size_t{64} << 20, 1);
  EXPECT_GE(read_memory().anonymous, before + (std::uint64_t{60} << 20));
  EXPECT_EQ(block[12345], 1);
}

TEST(Load, CountsEverythingButIdleAndWaiting) {
  const auto busy = parse_busy_seconds("cpu  100 20 30 9999 500 4 5 6 0 0\ncpu0 1 1 1 1 1 1 1 1\n", 100);
  ASSERT_TRUE(busy);
  EXPECT_EQ(*busy, 1.65);
  EXPECT_FALSE(parse_busy_seconds("cpu 1 2 3", 100));
  EXPECT_FALSE(parse_busy_seconds("intr 1 2 3 4 5 6 7 8 9", 100));
  const OtherLoad load;
  EXPECT_GE(load.share(), 0);
  EXPECT_LE(load.share(), 1);
}

TEST(Blocks, KeepsEveryRepetitionInOrder) {
  const auto samples =
      run_block("numbers", 4, kGoOn, [](int i) -> Result<Sample> { return Sample{1.0 + i, {{"other", 10.0 * i}}}; });
  ASSERT_TRUE(samples) << samples.error().to_string();
  EXPECT_EQ(seconds_of(*samples), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(extra_of(*samples, "other"), (std::vector<double>{0, 10, 20, 30}));
  EXPECT_TRUE(extra_of(*samples, "none").empty());
}

TEST(Blocks, StopsAtTheFirstError) {
  int calls = 0;
  const auto failed = run_block("failing", 5, kGoOn, [&](int i) -> Result<Sample> {
    ++calls;
    if (i == 2) return fail(ErrorKind::kConformance, "test.wrong", "as planned");
    return Sample{1, {}};
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, "test.wrong");
  EXPECT_EQ(calls, 3);
  const auto stopped = run_block("stopped", 5, kStop, [](int) -> Result<Sample> { return Sample{1, {}}; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, "bench.interrupted");
}

TEST(Peaks, ArePositiveAndFinite) {
  for (int i = 0; i < kArithmetics; ++i) {
    const auto a = static_cast<Arithmetic>(i);
    if (!processor_has(a)) continue;
    const double flops = measure_flops(a, 2);
    EXPECT_TRUE(std::isfinite(flops) && flops > 0) << arithmetic_name(a) << ": " << flops;
  }
  const Peaks peaks = measure_peaks(arithmetic_of("cpu:strict", DType::kF32), 2);
  ASSERT_TRUE(peaks.arithmetic);
  for (const double v : {peaks.flops, peaks.read, peaks.read_one}) EXPECT_TRUE(std::isfinite(v) && v > 0) << v;
  EXPECT_GE(peaks.read_bytes, std::uint64_t{512} << 20);
}

TEST(Peaks, NoDeviceIsJudgedByAnothersArithmetic) {
  EXPECT_FALSE(arithmetic_of("reference", DType::kF64));
  EXPECT_FALSE(arithmetic_of("cuda:0", DType::kF32));
  EXPECT_FALSE(arithmetic_of("cpu:strict", DType::kF64));
  EXPECT_EQ(arithmetic_of("cpu:strict", DType::kF32), Arithmetic::kSse2);
}

TEST(Peaks, LargerIsFigureByFigure) {
  const Peaks a{.flops = 1, .read_one = 5, .read = 3}, b{.flops = 2, .read_one = 4, .read = 6};
  const Peaks c = larger(a, b);
  EXPECT_EQ(c.flops, 2);
  EXPECT_EQ(c.read_one, 5);
  EXPECT_EQ(c.read, 6);
}

// One round of each kernel, whose accumulators are known: chain i starts at i, lane 0 is i * f + a (twice that product
// in bf16).
TEST(PeakKernels, DoTheArithmeticTheyCount) {
  const auto lane = [](Arithmetic a, std::uint64_t rounds) { return flops_kernel(a).run(rounds, 0.5f, 0.25f); };
  EXPECT_EQ(lane(Arithmetic::kSse2, 2), (0 + 1 + 2 + 3 + 4 + 5) * 0.25f + 15 + 6 * 0.5f);
  for (const Arithmetic a : {Arithmetic::kAvx2, Arithmetic::kAvx512}) {
    if (processor_has(a)) {
      EXPECT_EQ(lane(a, 2), 66 * 0.25f + 12 * (0.25f * 0.5f + 0.25f)) << arithmetic_name(a);
    }
  }
  if (processor_has(Arithmetic::kAvx512Bf16)) {
    EXPECT_EQ(lane(Arithmetic::kAvx512Bf16, 2), 66 + 2 * 12 * (2 * 0.5f * 0.25f));
  }
}

TEST(PeakKernels, ReadEveryByte) {
  std::vector<std::byte> a(4096 + 520 + 3), b(a.size());
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<std::byte>(i * 37 + 11), b[i] = static_cast<std::byte>(i * 101 + 7);
    expected ^= static_cast<std::uint64_t>(a[i] ^ b[i]) << (i % 8 * 8);
  }
  const std::byte* both[] = {a.data(), b.data()};
  EXPECT_EQ(read_streams(both, 2, a.size()), expected);
  EXPECT_EQ(read_streams(both, 1, a.size()) ^ read_streams(both + 1, 1, a.size()), expected);
  const std::uint64_t whole = read_streams(both, 1, a.size());
  for (const std::size_t i : {std::size_t{0}, std::size_t{700}, std::size_t{4096 + 515}, a.size() - 1}) {
    a[i] ^= std::byte{1};
    EXPECT_NE(read_streams(both, 1, a.size()), whole) << i;
    a[i] ^= std::byte{1};
  }
}

TEST(Cost, MatrixBytesAreWhatQuantisingMakes) {
  std::vector<float> weights(6 * 72);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<int>(i * 29 % 41) - 20) / 16;
  for (const char* name :
       {"f32", "f16", "bf16", "int8", "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym"}) {
    const auto precision = WeightPrecision::parse(name);
    ASSERT_TRUE(precision);
    const auto q = quantize(weights, 6, 72, *precision);  // 72: the last group of 32 is short
    ASSERT_TRUE(q) << q.error().to_string();
    EXPECT_EQ(matrix_bytes(6, 72, *precision), q->data.size() + q->scales.size() + q->zeros.size()) << name;
  }
}

ModelSpec tiny() {
  ModelSpec s;
  s.architecture = "llama";
  s.hidden = 8, s.intermediate = 12, s.layers = 2, s.heads = 4, s.kv_heads = 2, s.head_dim = 2, s.vocab = 10,
  s.max_positions = 64;
  return s;
}

TEST(Cost, CountsByHand) {
  const auto precision = RunPrecision::parse("f32/f32/f16");
  ASSERT_TRUE(precision);
  const ModelCost c = ModelCost::of(tiny(), *precision);
  const double block = 2 * (8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 8 * 12);  // q, k and v, o, gate and up and down
  EXPECT_EQ(c.block_parameters, block);
  EXPECT_EQ(c.head_parameters, 80);
  EXPECT_EQ(static_cast<double>(c.block_bytes), 4 * (block + 5 * 8));  // two gains a layer and the final one
  EXPECT_EQ(c.head_bytes, 320u);
  EXPECT_EQ(c.matmul_flops(3, 1), 2 * (3 * block + 80));
  EXPECT_EQ(c.kv_bytes_per_position, 2 * 2 * 2 * 2 * 2);
  // Positions 2, 3, 4 look at 3, 4 and 5 positions: scores and sums of 4 heads of 2, in 2 layers.
  EXPECT_EQ(c.attention_flops(2, 3), (3 + 4 + 5) * 2 * 4 * 2 * 2 * 2);
  EXPECT_EQ(c.decode_bytes(2, 3), 3 * (4 * (block + 40) + 320) + (3 + 4 + 5) * c.kv_bytes_per_position);
  EXPECT_EQ(c.prefill_bytes(5, 2), 3 * 4 * (block + 40) + 320 + (2 + 4 + 5) * c.kv_bytes_per_position);
}

TEST(Tokens, AreInTheVocabularyAndDependOnTheSeed) {
  const auto a = random_tokens(1, 200, 10);
  EXPECT_EQ(a, random_tokens(1, 200, 10));
  EXPECT_NE(a, random_tokens(2, 200, 10));
  std::vector<int> seen(10);
  for (const std::int32_t t : a) {
    ASSERT_TRUE(t >= 0 && t < 10);
    seen[static_cast<std::size_t>(t)] = 1;
  }
  EXPECT_EQ(std::ranges::count(seen, 1), 10);
}

TEST(States, WrongOnesAreRefused) {
  const auto states = [](std::vector<float> values, std::vector<std::int32_t> tokens) {
    FinalStates out{.bytes = std::vector<std::byte>(values.size() * 4), .tokens = std::move(tokens)};
    std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
    return out;
  };
  const FinalStates good = states({1, -2, 3}, {4});
  EXPECT_TRUE(check_states("x", DType::kF32, good, good));
  const float inf = std::numeric_limits<float>::infinity();
  const struct {
    FinalStates first, last;
    const char* code;
  } rows[] = {{states({1, NAN, 3}, {4}), states({1, NAN, 3}, {4}), "bench.not_finite"},
              {states({1, 2, -inf}, {4}), states({1, 2, -inf}, {4}), "bench.not_finite"},
              {good, states({1, -2, std::nextafter(3.0f, 4.0f)}, {4}), "bench.unstable_output"},
              {good, states({1, -2}, {4}), "bench.unstable_output"},
              {good, states({1, -2, 3}, {5}), "bench.unstable_output"}};
  for (const auto& row : rows) {
    const Status s = check_states("prefill", DType::kF32, row.first, row.last);
    ASSERT_FALSE(s) << row.code;
    EXPECT_EQ(s.error().code, row.code);
    EXPECT_EQ(exit_code(s.error().kind), exit_codes::kConformance);
  }
}

TEST(Synthetic, GaussianHasItsMoments) {
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kBlocks = 25000;
  for (int i = 0; i < kBlocks; ++i)
    for (const float v : gaussian4(7, 0, static_cast<std::uint64_t>(i)))
      sum += v, squares += double(v) * v, fourth += double(v) * v * v * v;
  const double n = 4.0 * kBlocks;  // five standard errors each: sqrt(1/n), sqrt(2/n), sqrt(96/n)
  EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(1 / n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
}

TEST(Synthetic, CapturesDifferByTheNoiseAndAreRemoved) {
  std::filesystem::path folder_path;
  {
    const auto folder = TemporaryFolder::create();
    ASSERT_TRUE(folder);
    folder_path = folder->path();
    const SyntheticSpec spec{.elements = 1000, .hidden = 64, .dtype = DType::kF32, .seed = 3};
    ASSERT_TRUE(write_synthetic(spec, folder_path));
    const auto a = Capture::open(folder_path / "subject"), b = Capture::open(folder_path / "reference");
    ASSERT_TRUE(a && b);
    EXPECT_TRUE(a->verify());
    EXPECT_EQ(a->header().positions.size(), 2u);  // 1000 elements rounded up to 2 * 8 * 64
    double error = 0, norm = 0;
    for (const std::int64_t layer : a->header().layers)
      for (std::size_t i = 0; i < 128; ++i) {
        const double x = load_as_f64(DType::kF32, a->states(layer).data(), i),
                     y = load_as_f64(DType::kF32, b->states(layer).data(), i);
        error += (x - y) * (x - y), norm += y * y;
      }
    EXPECT_NEAR(std::sqrt(error / norm), 1e-3, 2e-4);  // 1024 elements: five standard errors of about 4 %
  }
  EXPECT_FALSE(std::filesystem::exists(folder_path));
}

TEST(CompareBench, ReportsWhatItMeasured) {
  CompareBenchOptions o;
  o.synthetic = SyntheticSpec{.elements = 4096, .hidden = 64, .dtype = DType::kBF16, .seed = 1};
  o.repetitions = 3;
  o.growth = true;
  const auto report = bench_compare(o, kGoOn);
  ASSERT_TRUE(report) << report.error().to_string();
  EXPECT_EQ(report->main.elements, 4096u);
  EXPECT_EQ(report->main.bytes, 4u * 4096);
  EXPECT_EQ(report->main.samples.size(), 3u);
  EXPECT_EQ(report->main.verdicts.size(), 2u);
  ASSERT_TRUE(report->growth);
  EXPECT_EQ(report->growth->points.back().size, 4096);
  const OrderedJson json = to_json(*report);
  EXPECT_EQ(json["share_of_reading"]["samples"].size(), 3u);
  EXPECT_NE(render(*report).find("of the speed of reading"), std::string::npos);
}

}  // namespace
}  // namespace concord::bench
