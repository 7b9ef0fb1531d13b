// Captures against each other: refusals, verdicts, where the first failure is, thread counts, dtypes that differ.
#include <tbb/global_control.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "compare/testing.hpp"

namespace concord {
namespace {
namespace fs = std::filesystem;
using testing::kFloats;
using testing::normal;

constexpr std::int64_t kHidden = 40;

class CompareCaptures : public ::testing::Test {
 protected:
  CompareCaptures() : folder_(fs::path(::testing::TempDir()) / ("concord_compare_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~CompareCaptures() override { fs::remove_all(folder_); }

  // 50 positions (two chunks, the second of 18), hidden states 0, 8, 12, 16 of a model of 16 layers.
  static CaptureHeader header() {
    CaptureHeader h;
    h.workload_digest = std::string(64, 'a');
    h.weights_digest = std::string(64, 'b');
    h.source_digest = std::string(64, 'c');
    h.nonce = "0011";
    h.role = "prover";
    h.configuration = OrderedJson::object();
    h.provenance = OrderedJson::object();
    h.hidden = kHidden;
    h.model_layers = 16;
    h.prompt_tokens = 10;
    h.layers = {0, 8, 12, 16};
    for (std::int32_t i = 0; i < 50; ++i) h.positions.push_back(9 + i);
    for (std::int32_t i = 0; i < 60; ++i) h.tokens.push_back(i);
    return h;
  }
  // value(layer, position, element); the default is a normal deviate of the cell.
  using Values = std::function<double(std::int64_t, std::int32_t, std::int64_t)>;
  static double honest(std::int64_t layer, std::int32_t position, std::int64_t i) {
    return normal(11, static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(position * kHidden + i));
  }
  static Values noisy(double noise, std::int64_t from_layer = 0, std::int32_t from_position = 0) {
    return [=](std::int64_t layer, std::int32_t position, std::int64_t i) {
      const double v = honest(layer, position, i);
      if (layer < from_layer || position < from_position) return v;
      return v +
             noise * normal(12, static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(position * kHidden + i));
    };
  }
  Capture capture(const CaptureHeader& h, const Values& value = honest) {
    const auto path = folder_ / (std::to_string(count_++) + ".safetensors");
    auto writer = CaptureWriter::create(path, h);
    EXPECT_TRUE(writer) << writer.error().to_string();
    for (std::int64_t layer : h.layers)
      for (std::size_t p = 0; p < h.positions.size(); ++p) {
        std::vector<double> row;
        for (std::int64_t i = 0; i < h.hidden; ++i) row.push_back(value(layer, h.positions[p], i));
        EXPECT_TRUE(writer->put(layer, p, testing::from_doubles(h.dtype, row)));
      }
    const auto root = writer->finish(h.tokens, h.provenance);
    EXPECT_TRUE(root) << root.error().to_string();
    auto opened = Capture::open(path);
    if (!opened) throw std::runtime_error(opened.error().to_string());
    return std::move(*opened);
  }
  static std::vector<Profile> profiles(std::initializer_list<const char*> names) {
    std::vector<Profile> out;
    for (const char* n : names) out.push_back(Profile::load(n).value());
    return out;
  }
  static std::vector<Comparison> run(const Capture& a, const Capture& b, std::initializer_list<const char*> names,
                                     const CompareContext& context = {}) {
    auto r = compare(a, b, profiles(names), context);
    if (!r) throw std::runtime_error(r.error().to_string());
    return std::move(*r);
  }

  fs::path folder_;
  int count_ = 0;
};

TEST_F(CompareCaptures, EqualCapturesAreAcceptedByEveryProfile) {
  for (DType dtype : kFloats) {
    auto h = header();
    h.dtype = dtype;
    const auto a = capture(h), b = capture(h);
    std::vector<std::uint64_t> shown(3);
    CompareContext context;
    context.on_verdict = [&](std::size_t profile, const CellVerdict& v) { shown[profile] += v.accepted; };
    const auto results = run(a, b, {"paper", "seed", "toploc"}, context);
    ASSERT_EQ(results.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(shown[i], results[i].cells);
    for (const auto& c : results) {
      EXPECT_EQ(c.verdict, Verdict::kAccept) << c.profile << ": " << c.rule;
      EXPECT_EQ(c.accepted, c.cells);
      EXPECT_FALSE(c.first_failure);
      EXPECT_EQ(c.total.pe(), 0);
      EXPECT_EQ(c.total.pw(), 1);
      EXPECT_EQ(c.layers.size(), 4u);
    }
    EXPECT_EQ(results[0].cells, 6u) << "three layers without the embedding, two chunks each";
    EXPECT_EQ(results[0].unit, "chunk");
    EXPECT_EQ(results[0].pm_skipped, 6u);
    EXPECT_EQ(results[0].total.count, 3u * 50 * kHidden);
    EXPECT_EQ(results[1].cells, 150u) << "hidden states 0, 8, 16 by 50 positions";
    EXPECT_EQ(results[2].cells, 2u) << "two chunks of the final norm";
  }
}

TEST_F(CompareCaptures, UnrelatedCapturesAreRejectedByEveryProfile) {
  const auto a = capture(header()), b = capture(header(), [](std::int64_t l, std::int32_t p, std::int64_t i) {
                                      return honest(l + 100, p, i);
                                    });
  for (const auto& c : run(a, b, {"paper", "seed", "toploc", "rel-l2"})) {
    EXPECT_EQ(c.verdict, Verdict::kReject) << c.profile << ": " << c.rule;
    ASSERT_TRUE(c.first_failure) << c.profile;
    EXPECT_EQ(c.first_failure->position, 9) << c.profile;
    EXPECT_FALSE(c.metric.empty());
    EXPECT_NE(c.value, c.threshold);
  }
}

TEST_F(CompareCaptures, TheEmbeddingOutputCountsInSeedOnly) {
  const auto a = capture(header());
  const auto b = capture(header(), [](std::int64_t l, std::int32_t p, std::int64_t i) {
    return l == 0 ? -3 * honest(l, p, i) : honest(l, p, i);
  });
  const auto results = run(a, b, {"paper", "seed", "toploc", "rel-l2"});
  for (const auto& c : results) {
    EXPECT_EQ(c.verdict, c.profile == "seed" ? Verdict::kReject : Verdict::kAccept) << c.profile << ": " << c.rule;
    EXPECT_GT(c.layers[0].stats.pe(), 0.5) << "still reported";
  }
  EXPECT_EQ(results[1].first_failure->layer, 0);
  EXPECT_EQ(results[0].layers[0].cells, 0u);
}

TEST_F(CompareCaptures, FirstFailureNamesLayerAndPosition) {
  const auto a = capture(header()), b = capture(header(), noisy(0.5, 12, 30));
  const auto results = run(a, b, {"paper", "rel-l2", "toploc"});
  EXPECT_EQ(results[0].first_failure->layer, 12);
  EXPECT_EQ(results[0].first_failure->position, 9) << "the chunk that holds position 30 begins at 9";
  EXPECT_EQ(results[1].first_failure->layer, 12);
  EXPECT_EQ(results[1].first_failure->position, 30);
  EXPECT_EQ(results[2].first_failure->layer, 16);
  EXPECT_NE(results[1].rule.find("layer 12 position 30: rel_l2"), std::string::npos) << results[1].rule;
  EXPECT_EQ(results[1].layers[1].accepted, 50u);
  EXPECT_EQ(results[1].layers[2].accepted, 21u);
}

TEST_F(CompareCaptures, ASingleSpecialElementRejects) {
  const auto a = capture(header());
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (std::int64_t where : {std::int64_t{0}, std::int64_t{12}}) {
      const auto b = capture(header(), [&](std::int64_t l, std::int32_t p, std::int64_t i) {
        return l == where && p == 50 && i == 3 ? bad : honest(l, p, i);
      });
      for (const auto& c : run(a, b, {"paper", "seed", "toploc", "rel-l2"})) {
        EXPECT_EQ(c.verdict, Verdict::kReject) << c.profile;
        EXPECT_EQ(c.metric, "special") << c.profile;
        EXPECT_NE(c.rule.find("position 50"), std::string::npos) << c.rule;
      }
    }
  }
}

TEST_F(CompareCaptures, NanOnBothSidesIsInconclusive) {
  const auto nan_at = [](std::int64_t l, std::int32_t p, std::int64_t i) {
    return l == 12 && p == 50 && i == 3 ? std::nan("") : honest(l, p, i);
  };
  const auto a = capture(header(), nan_at), b = capture(header(), nan_at);
  EXPECT_EQ(run(a, b, {"paper"})[0].verdict, Verdict::kInconclusive);
  EXPECT_EQ(run(a, b, {"rel-l2"})[0].verdict, Verdict::kInconclusive);
}

TEST_F(CompareCaptures, MissingFinalNormIsInconclusiveForToploc) {
  auto h = header();
  h.layers = {0, 8, 12};
  const auto a = capture(h), b = capture(h);
  const auto c = run(a, b, {"toploc"})[0];
  EXPECT_EQ(c.verdict, Verdict::kInconclusive);
  EXPECT_NE(c.rule.find("hidden state 16"), std::string::npos) << c.rule;
  EXPECT_EQ(c.cells, 0u);
}

TEST_F(CompareCaptures, NothingToJudgeIsInconclusiveNeverAccept) {
  auto h = header();
  h.layers = {0};
  EXPECT_EQ(run(capture(h), capture(h), {"paper"})[0].verdict, Verdict::kInconclusive);
  h.layers = {3, 5};
  EXPECT_EQ(run(capture(h), capture(h), {"seed"})[0].verdict, Verdict::kInconclusive);
  h.layers = {16};
  h.positions = {9};
  const auto c = run(capture(h), capture(h), {"toploc"})[0];
  EXPECT_EQ(c.verdict, Verdict::kInconclusive) << "40 elements are fewer than 128";
  EXPECT_NE(c.rule.find("too few samples"), std::string::npos);
}

TEST_F(CompareCaptures, MissingLimitIsInconclusiveAndNamed) {
  auto h = header();
  h.dtype = DType::kF16;
  CompareContext context;
  context.class_name = "heterogeneous";
  const auto c = run(capture(h), capture(h), {"rel-l2"}, context)[0];
  EXPECT_EQ(c.verdict, Verdict::kInconclusive);
  EXPECT_NE(c.rule.find("no limits for f16/heterogeneous"), std::string::npos) << c.rule;
  context.activations = "f32";
  EXPECT_EQ(run(capture(h), capture(h), {"rel-l2"}, context)[0].verdict, Verdict::kAccept);
}

TEST_F(CompareCaptures, EveryDifferingFieldIsNamedWithBothValues) {
  const auto a = capture(header());
  auto h = header();
  h.workload_digest = std::string(64, 'd');
  h.nonce = "0022";
  h.hidden = 44;
  h.model_layers = 17;
  h.layers = {0, 8, 13, 16};
  h.positions.pop_back();
  h.tokens[7] = 777;
  const auto r = compare(a, capture(h), profiles({"paper"}));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, "compare.different_workload");
  EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  for (const std::string& text :
       {"workload digest: " + std::string(64, 'a') + " against " + std::string(64, 'd'),
        std::string("nonce: 0011 against 0022"), std::string("hidden size: 40 against 44"),
        std::string("model layers: 16 against 17"), std::string("layers[2]: 12 against 13"),
        std::string("positions: 50 of them"), std::string("against 49"), std::string("tokens[7]: 7 against 777")})
    EXPECT_NE(r.error().message.find(text), std::string::npos) << text << "\n" << r.error().message;
}

TEST_F(CompareCaptures, NonceMayBeIgnoredAndThatIsNoted) {
  auto h = header();
  h.nonce = "0022";
  const auto a = capture(header()), b = capture(h);
  ASSERT_FALSE(compare(a, b, profiles({"paper"})));
  CompareContext context;
  context.ignore_nonce = true;
  const auto c = run(a, b, {"paper"}, context)[0];
  EXPECT_EQ(c.verdict, Verdict::kAccept);
  EXPECT_NE(c.notes[0].find("nonces differ"), std::string::npos);
}

TEST_F(CompareCaptures, DifferingDtypesAreRoundedToTheNarrower) {
  const DType kPairs[][3] = {{DType::kF32, DType::kF16, DType::kF16},
                             {DType::kBF16, DType::kF32, DType::kBF16},
                             {DType::kF16, DType::kBF16, DType::kBF16}};
  for (const auto& [x, y, narrow] : kPairs) {
    auto hx = header(), hy = header(), hn = header();
    hx.dtype = x;
    hy.dtype = y;
    hn.dtype = narrow;
    // Values that bf16 holds exactly, so that both roads to the narrow dtype meet.
    const Values coarse = [](std::int64_t l, std::int32_t p, std::int64_t i) {
      return bf16_to_f32(f64_to_bf16(honest(l, p, i)));
    };
    const auto c = run(capture(hx, coarse), capture(hy, coarse), {"paper"})[0];
    EXPECT_EQ(c.verdict, Verdict::kAccept);
    EXPECT_EQ(c.total.share_bit_equal(), 1);
    EXPECT_NE(c.dtype_note.find("rounded to " + std::string(dtype_name(narrow))), std::string::npos) << c.dtype_note;
    EXPECT_EQ(run(capture(hn), capture(hn), {"paper"})[0].dtype_note, "");
  }
}

TEST_F(CompareCaptures, IndependentOfTheThreadCountBitForBit) {
  const auto a = capture(header()), b = capture(header(), noisy(1e-3));
  tbb::global_control five(tbb::global_control::max_allowed_parallelism, 5);  // on a machine with fewer processors, too
  const auto at = [&](int threads) {
    CompareContext context;
    context.threads = threads;
    OrderedJson all = OrderedJson::array();
    for (const auto& c : run(a, b, {"paper", "seed", "toploc", "rel-l2"}, context)) all.push_back(to_json(c));
    return all.dump();
  };
  const auto one = at(1);
  EXPECT_NE(one.find("REJECT"), std::string::npos);
  EXPECT_EQ(one, at(2));
  EXPECT_EQ(one, at(5));
}

// The pooled figures of a capture are those of the bare arrays.
TEST_F(CompareCaptures, PooledStatisticsEqualTheArrays) {
  const auto a = capture(header()), b = capture(header(), noisy(1e-2));
  const auto c = run(a, b, {"paper"})[0];
  for (const auto& layer : c.layers) {
    const auto s = element_stats(DType::kF32, a.states(layer.layer), b.states(layer.layer));
    EXPECT_EQ(layer.stats.exponent_mismatch, s.exponent_mismatch);
    EXPECT_EQ(layer.stats.match_small, s.match_small);
    EXPECT_EQ(layer.stats.partition, s.partition);
    EXPECT_EQ(layer.stats.ulp_histogram, s.ulp_histogram);
    EXPECT_NEAR(layer.stats.sum_sq_delta, s.sum_sq_delta, 1e-12 * s.sum_sq_delta)
        << "another order of summation, in double";
  }
}

TEST_F(CompareCaptures, OwnTauForOneProfileOrForAll) {
  const auto a = capture(header()), b = capture(header(), noisy(3e-2));
  auto list = profiles({"paper", "paper"});
  list[1].parameters.tau_w = 0;
  const auto two = compare(a, b, list).value();
  EXPECT_GT(two[0].total.pw().value(), two[1].total.pw().value());
  CompareContext context;
  context.parameters = MetricParameters{0.5, 0};
  EXPECT_EQ(compare(a, b, list, context).value()[0].total.pw(), two[1].total.pw());
}

TEST_F(CompareCaptures, CalibratedUlpLimitUsesEachCell) {
  const auto a = capture(header()), b = capture(header(), noisy(1e-3, 8, 40));
  Profile p = Profile::load("rel-l2").value();
  p.limits = {{"f32", "*", std::numeric_limits<double>::infinity(), 100, "test"}};
  const auto c = compare(a, b, std::span(&p, 1)).value()[0];
  EXPECT_EQ(c.verdict, Verdict::kReject);
  EXPECT_EQ(c.metric, "ulp_p99");
  EXPECT_EQ(c.first_failure->layer, 8);
  EXPECT_EQ(c.first_failure->position, 40);
}

// 200,000 cells in 8 profiles: what is kept per cell would show. 64 MiB is what docs/metrics.md promises (for up to 16
// threads).
// Five standard errors of a rank; the values are independent.
TEST_F(CompareCaptures, LargeLayersSampleTheUlpQuantiles) {
  CaptureHeader h = header();
  h.hidden = 2048;
  h.layers = {16};
  const auto value = [](std::uint64_t noise) {
    return [noise](std::int64_t, std::int32_t position, std::int64_t i) {
      const auto at = static_cast<std::uint64_t>(position * 2048 + i);
      const double v = normal(11, 0, at);
      return noise ? v * (1 + 1e-4 * normal(noise, 1, at)) : v;
    };
  };
  const Capture a = capture(h, value(0)), b = capture(h, value(12));
  const ElementStats all = element_stats(DType::kF32, a.states(16), b.states(16));
  const ElementStats sampled = run(a, b, {"paper"})[0].layers[0].stats;
  EXPECT_EQ(all.ulp_sample(), 50u * 2048);
  EXPECT_EQ(sampled.ulp_sample(), 50u * 2048 / 8);
  EXPECT_EQ(sampled.ulp_max, all.ulp_max);
  EXPECT_EQ(to_json(sampled)["ulp_sample"], 50u * 2048 / 8);
  for (double q : {0.5, 0.99}) {
    const double error = 5 * std::sqrt(q * (1 - q) / (50.0 * 2048 / 8));
    EXPECT_GE(sampled.ulp_quantile(q), all.ulp_quantile(q - error));
    EXPECT_LE(sampled.ulp_quantile(q), all.ulp_quantile(std::min(1.0, q + error)));
  }
  Profile judged = Profile::load("paper").value();
  judged.kind = Profile::Kind::kCalibrated;
  judged.limits = {{"*", "*", 1, 1e9, "by hand"}};
  const auto exact = compare(a, b, std::vector{judged});
  ASSERT_TRUE(exact);
  EXPECT_EQ((*exact)[0].layers[0].stats.ulp_histogram, all.ulp_histogram);
}

TEST_F(CompareCaptures, MemoryDoesNotGrowWithTheCells) {
#if defined(CONCORD_ASAN)
  GTEST_SKIP() << "the address sanitizer keeps freed memory, so what is resident says nothing";
#endif
  auto h = header();
  h.hidden = 8;
  h.layers = {8, 16};
  h.positions.clear();
  for (std::int32_t i = 0; i < 100'000; ++i) h.positions.push_back(i);
  h.tokens.assign(100'001, 1);
  const auto value = [](std::int64_t, std::int32_t position, std::int64_t i) { return position % 7 + i; };
  const auto a = capture(h, value), b = capture(h, value);
  const auto anonymous_kib = [] {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("RssAnon:")) return std::stol(line.substr(8));
    return 0L;
  };
  const long before = anonymous_kib();
  long most = 0;
  std::uint64_t shown = 0;
  CompareContext context;
  context.threads = 16;
  context.on_verdict = [&](std::size_t, const CellVerdict&) {
    if (++shown % 100'000 == 0) most = std::max(most, anonymous_kib() - before);
  };
  const auto results = run(a, b, {"seed", "seed", "seed", "seed", "rel-l2", "rel-l2", "rel-l2", "rel-l2"}, context);
  EXPECT_EQ(shown, 8u * 200'000);
  for (const auto& c : results) EXPECT_EQ(c.accepted, 200'000u) << c.profile << ": " << c.rule;
  EXPECT_LT(std::max(most, anonymous_kib() - before), 64 << 10);
}

TEST_F(CompareCaptures, JsonCarriesTheVerdictAndNoBareInfinity) {
  const auto a = capture(header()), b = capture(header(), [](std::int64_t, std::int32_t, std::int64_t) { return 0.0; });
  const auto text = to_json(run(a, b, {"toploc"})[0]).dump();
  const Json j = *parse_json(text, "json");
  EXPECT_EQ(j["verdict"], "REJECT");
  EXPECT_EQ(j["total"]["rel_l2"], "inf");
  EXPECT_EQ(j["cells"], 2);
  EXPECT_EQ(j["accepted"], 0);
  EXPECT_EQ(j["layers"].size(), 4u);
  EXPECT_FALSE(j.contains("verdicts"));
}

}  // namespace
}  // namespace concord
