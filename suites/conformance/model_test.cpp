// Whole models on one device, against implementations that share no code with it. CTest runs this program once for each device.
//
// Limits, by their cause:
//   1e-12  the reference device (float64) against the NumPy decoder (float64): rounding of two different orders of summation over a few layers
//   1e-5   float32 arithmetic against float64, relative L2 of a hidden-state row. Correct float32 engines reach 1e-6 to 8e-6 (docs/conformance.md), the mildest
//          real deviation seen, a half-precision KV cache, gives 7e-4.
#include "base/counting_new.hpp"
#include "model/sampler.hpp"
#include "states.hpp"

namespace concord::testing_support {
namespace {

constexpr double kFloat64Limit = 1e-12, kFloat32Limit = 1e-5;

std::vector<std::int32_t> text_tokens(const std::string& text) {
  std::vector<std::int32_t> out;
  for (unsigned char c : text) out.push_back(c);
  return out;
}
const std::vector<std::int32_t> kText = text_tokens("It was a bright cold morning in the country, and Mr. Bennet had not yet spoken to his wife.");

// float64 on the reference, float32 on everything else.
std::string full_precision(const std::string& device) { return device == "reference" ? "f32/f64" : "f32"; }

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    device_ = device_under_test();
    if (const std::string why = unavailable(device_); !why.empty()) GTEST_SKIP() << why;
  }
  std::string device_;
};

// A device may refuse float32 by design (cpu:bf16 multiplies bfloat16 and nothing else); the refusal itself is tested below.
class OnFloat32Device : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (device_ == "cpu:bf16") GTEST_SKIP() << device_ << " has no float32 arithmetic; HalfPrecisionsAgree... judges it";
  }
};

// The digest of the weights as they run, from whole matrices quantised at once and their parts laid end to end.
Result<std::string> digest_of_whole_matrices(const Model& m, const RunPrecision& p) {
  const HfTensors tensors(*m.checkpoint, m.spec.heads, m.spec.kv_heads);
  std::vector<NamedDigest> digests;
  for (const ExpectedTensor& t : expected_tensors(m.spec)) {
    CONCORD_TRY(const std::vector<float> values, tensors.read(t.name, t.shape));
    const bool outside = t.name == "model.embed_tokens.weight" || t.name == "lm_head.weight";
    const WeightPrecision kind = t.matrix ? outside ? p.unquantized() : p.weights : WeightPrecision{};
    const std::int64_t cols = t.matrix ? t.shape[1] : 1;
    CONCORD_TRY(const QuantizedMatrix q, quantize(values, t.shape[0], cols, kind));
    std::vector<std::byte> all = q.data;
    all.insert(all.end(), q.scales.begin(), q.scales.end());
    for (const std::uint8_t zero : q.zeros) all.push_back(std::byte{zero});
    digests.push_back({t.name, framed_tensor_digest(t.name, t.matrix ? kind.name() : "F32", t.shape, all)});
  }
  return hex(framed_model_digest(std::move(digests)));
}

TEST_F(OnDevice, LoadingGivesTheDigestsOfTheWholeTensors) {
  for (const std::string& path : {embedded_path(), golden_path("qwen2-tied-bias"), golden_path("llama-sharded")})
    for (const char* weights : {"f32", "f16", "bf16", "int8", "int4-g32-sym", "int4-g128-asym"}) {
      const Model m = open(path);
      const RunPrecision precision = RunPrecision::parse(std::string(weights) + "/bf16").value();
      auto session = load(device_, m, precision.name());
      ASSERT_TRUE(session) << session.error().to_string();
      EXPECT_EQ(session->model->weights_digest(), digest_of_whole_matrices(m, precision).value()) << path << " " << weights;
      EXPECT_EQ(session->model->source_digest(), source_digest(*m.checkpoint));
      EXPECT_EQ(&session->model->lm_head() == &session->model->embedding(), m.spec.tied_embeddings);
    }
}

TEST_F(OnDevice, ManySmallBatchesLoadTheSameModel) {
  const Model m = open(embedded_path());
  std::vector<std::size_t> done;
  const LoadProgress small{.step = [&](std::size_t now, std::size_t total) {
                             done.push_back(now);
                             EXPECT_EQ(total, expected_tensors(m.spec).size());
                           },
                           .batch_bytes = 1};
  const auto one = load(device_, m, "int8/bf16"), many = load(device_, m, "int8/bf16", 0, small);
  ASSERT_TRUE(one && many);
  EXPECT_GT(done.size(), 8u);
  EXPECT_TRUE(std::ranges::is_sorted(done, std::less_equal()));
  EXPECT_EQ(done.back(), expected_tensors(m.spec).size());
  EXPECT_EQ(one->model->weights_digest(), many->model->weights_digest());
  EXPECT_EQ(one->model->source_digest(), many->model->source_digest());
  EXPECT_EQ(one->model->weight_bytes(), many->model->weight_bytes());
}

// A checkpoint one of whose tensors cannot be read.
class BrokenCheckpoint final : public Checkpoint {
 public:
  BrokenCheckpoint(const Checkpoint& whole, std::string broken) : whole_(whole), broken_(std::move(broken)) {
    files_ = whole.files(), tensors_ = whole.tensors(), metadata_ = whole.metadata();
  }
  std::string format() const override { return whole_.format(); }
  std::span<const std::byte> raw(const TensorInfo& t) const override { return whole_.raw(t); }
  std::uint64_t block_size(const TensorInfo& t) const override { return whole_.block_size(t); }
  Status unchanged() const override { return whole_.unchanged(); }
  Status read_f32(const TensorInfo& t, std::uint64_t begin, std::uint64_t count, float* out) const override {
    if (t.name == broken_) return bad_input("test.broken", "cannot read " + t.name);
    return whole_.read_f32(t, begin, count, out);
  }

 private:
  const Checkpoint& whole_;
  std::string broken_;
};

TEST_F(OnDevice, AnErrorInAnyBatchEndsTheLoad) {
  const Model m = open(embedded_path());
  auto device = backends().open(device_);
  ASSERT_TRUE(device);
  const RunPrecision precision = RunPrecision::parse("int8/bf16").value();
  for (const char* name : {"model.layers.0.input_layernorm.weight", "model.layers.1.mlp.up_proj.weight",
                           "model.layers.3.self_attn.o_proj.weight", "model.norm.weight"}) {
    const BrokenCheckpoint broken(*m.checkpoint, name);
    ASSERT_NE(broken.find(name), nullptr);
    const auto loaded = LoadedModel::load(*device, broken, m.spec, precision, {.step = {}, .batch_bytes = 1});
    ASSERT_FALSE(loaded) << name;
    EXPECT_EQ(loaded.error().code, "test.broken");
    EXPECT_NE(loaded.error().message.find(name), std::string::npos);
  }
}

class Golden_ : public OnFloat32Device, public testing::WithParamInterface<std::string> {};

TEST_P(Golden_, AgreesWithTransformers) {
  const Model m = open(golden_path(GetParam()));
  const Golden golden = read_golden(m.path + "/golden.safetensors", m.spec.layers);
  const auto mine = run(device_, m, full_precision(device_), golden.tokens, one_shot(golden.tokens.size()));
  ASSERT_TRUE(mine) << mine.error().to_string();
  const Worst w = worst_row(*mine, golden.states);
  EXPECT_EQ(w.rows, (m.spec.layers + 1) * golden.states.rows);
  EXPECT_LE(w.value, kFloat32Limit) << w.where;
  RecordProperty("rel_l2_max", std::to_string(w.value));
  Worst logits;
  worst_row(logits, "logits", std::vector<double>(mine->logits.begin(), mine->logits.end()),
            std::vector<double>(golden.states.logits.begin(), golden.states.logits.end()), m.spec.vocab);
  EXPECT_LE(logits.value, kFloat32Limit) << logits.where;
}

TEST_P(Golden_, AgreesWithTheNumpyDecoder) {
  const Model m = open(golden_path(GetParam()));
  const Golden numpy = read_golden(CONCORD_NUMPY_STATES "/" + GetParam() + ".safetensors", m.spec.layers);
  const auto mine = run(device_, m, full_precision(device_), numpy.tokens, one_shot(numpy.tokens.size()));
  ASSERT_TRUE(mine) << mine.error().to_string();
  const Worst w = worst_row(*mine, numpy.states);
  EXPECT_EQ(w.rows, (m.spec.layers + 1) * numpy.states.rows);
  EXPECT_LE(w.value, device_ == "reference" ? kFloat64Limit : kFloat32Limit) << w.where;
}

INSTANTIATE_TEST_SUITE_P(Models, Golden_, testing::ValuesIn(golden_models()), [](const auto& golden) {
  std::string name = golden.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST_F(OnFloat32Device, EmbeddedModelAgreesWithTheReference) {
  const Model m = open(embedded_path());
  const auto truth = run("reference", m, "f32/f64", kText, one_shot(kText.size()));
  ASSERT_TRUE(truth) << truth.error().to_string();
  const auto mine = run(device_, m, full_precision(device_), kText, one_shot(kText.size()));
  ASSERT_TRUE(mine) << mine.error().to_string();
  const Worst w = worst_row(*mine, *truth);
  EXPECT_EQ(w.rows, 19 * static_cast<std::int64_t>(kText.size()));
  EXPECT_LE(w.value, device_ == "reference" ? 0 : kFloat32Limit) << w.where;
}

TEST_F(OnFloat32Device, RepeatsAreBitEqual) {
  const Model m = open(embedded_path());
  auto session = load(device_, m, full_precision(device_));
  ASSERT_TRUE(session) << session.error().to_string();
  const auto first = run(*session, kText, one_shot(kText.size())), second = run(*session, kText, one_shot(kText.size()));
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(*first == *second);
}

// Where every sum belongs to one token alone, how tokens are put into steps cannot matter. A library's matmul promises less.
bool one_token_one_sum(const std::string& device) { return device != "cpu:onednn"; }

TEST_F(OnFloat32Device, DecodeAndChunkedPrefillAgreeWithOnePrefill) {
  const Model m = open(embedded_path());
  auto session = load(device_, m, full_precision(device_));
  ASSERT_TRUE(session) << session.error().to_string();
  const auto whole = run(*session, kText, one_shot(kText.size()));
  const auto decoded = run(*session, kText, prefill_then_decode(kText.size(), 31));
  const auto chunked = run(*session, kText, {32, 33, static_cast<std::int64_t>(kText.size()) - 65});
  ASSERT_TRUE(whole && decoded && chunked);
  const double limit = device_ == "reference" ? kFloat64Limit : kFloat32Limit;
  EXPECT_LE(worst_row(*decoded, *whole).value, limit);
  EXPECT_LE(worst_row(*chunked, *whole).value, limit);
  if (one_token_one_sum(device_)) {
    EXPECT_TRUE(*decoded == *whole) << "decode and prefill differ in bits";
    EXPECT_TRUE(*chunked == *whole) << "chunks and one prefill differ in bits";
  }
}

// Three prompts of different length, prefilled together and then decoded together, against each of them alone.
TEST_F(OnDevice, SequencesInOneStepAreWhatTheyAreAlone) {
  const Model m = open(embedded_path());
  for (const char* precision : {"bf16", "bf16/bf16/int8", "int4-g32-sym/bf16"}) {
    auto session = load(device_, m, precision);
    ASSERT_TRUE(session) << session.error().to_string();
    const std::vector<std::vector<std::int32_t>> prompts{{kText.begin(), kText.begin() + 40}, {kText.begin() + 5, kText.begin() + 12}, {kText.begin() + 50, kText.end()}};
    const auto together = run_batch(*session, prompts, 5);
    ASSERT_TRUE(together) << together.error().to_string();
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto alone = run(*session, prompts[i], prefill_then_decode(prompts[i].size(), static_cast<std::int64_t>(prompts[i].size()) - 5));
      ASSERT_TRUE(alone) << alone.error().to_string();
      EXPECT_EQ((*together)[i].hidden.size(), 19u);
      const double limit = one_token_one_sum(device_) ? 0 : 2 * 0x1p-9 * std::sqrt(10.0 * static_cast<double>(m.spec.layers));
      EXPECT_LE(worst_row((*together)[i], *alone).value, limit) << precision << " sequence " << i;
    }
  }
}

// Rounding keys and values to int8 moves the states. Which way a value near a boundary is rounded differs between devices, a difference that grows from layer
// to layer; at worst both round independently of each other, and then they are sqrt(2) times as far apart as one of them is from no rounding at all.
// (The bytes of a cache and one attention over them are judged exactly and to float32 in backends/cpu/invariance_test.cpp.)
TEST_F(OnFloat32Device, AnInt8CacheMeansTheSameEverywhere) {
  const Model m = open(embedded_path());
  const bool reference = device_ == "reference";
  const auto full = run("reference", m, "f32/f64", kText, one_shot(kText.size()));
  const auto truth = run("reference", m, "f32/f64/int8", kText, one_shot(kText.size()));
  const auto mine = run(device_, m, reference ? "f32/f64/int8" : "f32/f32/int8", kText, one_shot(kText.size()));
  ASSERT_TRUE(full && truth && mine);
  const double moved = worst_row(*truth, *full).value, apart = worst_row(*mine, *truth).value;
  RecordProperty("moved", std::to_string(moved));
  RecordProperty("apart", std::to_string(apart));
  EXPECT_GE(moved, 100 * kFloat32Limit) << "the cache was not quantised";
  EXPECT_LE(apart, std::sqrt(2.0) * moved);
  // Behind the first layer nothing has grown yet: what differs is the rounding of its arithmetic and the few values that lie on a boundary within it.
  Worst first_moved, first_apart;
  worst_row(first_moved, "hidden.1", truth->hidden.at(1), full->hidden.at(1), truth->width);
  worst_row(first_apart, "hidden.1", mine->hidden.at(1), truth->hidden.at(1), truth->width);
  EXPECT_LE(first_apart.value, first_moved.value / 10) << first_apart.where;
}

// Decoding must not ask the allocator for anything once the first tokens are through: neither the harness nor, through the same operator new, the plug-in.
TEST_F(OnDevice, DecodingATokenAllocatesNothing) {
  if (device_ == "reference" || device_ == "cpu:onednn") GTEST_SKIP() << device_ << " allocates by design: one for clarity, one in its library";
  const Model m = open(embedded_path());
  auto session = load(device_, m, "bf16/bf16/int8");
  ASSERT_TRUE(session) << session.error().to_string();
  auto decoder = Decoder::create(*session->device, *session->model, 64, 1);
  ASSERT_TRUE(decoder) << decoder.error().to_string();
  std::vector<float> logits(static_cast<std::size_t>(m.spec.vocab));
  std::uint64_t before = 0;
  for (std::int64_t p = 0; p < 60; ++p) {
    if (p == 10) before = allocations();
    ASSERT_TRUE(decoder->forward(std::span(kText).subspan(static_cast<std::size_t>(p), 1), p));
    ASSERT_TRUE(decoder->logits(0, 1, logits));
    ASSERT_TRUE(choose_token({}, logits, p + 1));
  }
  EXPECT_GT(before, 0u) << "nothing is counted";
  EXPECT_EQ(allocations() - before, 0u);
}

TEST_F(OnDevice, TheForcedVariantRanAndNothingFellBack) {
  const Model m = open(embedded_path());
  auto session = load(device_, m, "bf16");
  ASSERT_TRUE(session) << session.error().to_string();
  ASSERT_TRUE(run(*session, kText, one_shot(kText.size())));
  EXPECT_EQ(session->device->fallbacks(), 0u);
  // "cpu:avx2" must show in the witness of every operator; the reference says so too. cpu:bf16 and cpu:onednn are the AVX-512 and the AVX2 device with another matmul.
  const std::string variant = device_ == "reference" ? "reference" : device_.substr(device_.find(':') + 1);
  const std::map<std::string, std::string> others{{"bf16", "avx512"}, {"onednn", "avx2"}};
  ASSERT_FALSE(session->device->kernels().empty());
  for (const auto& [kernel, calls] : session->device->kernels()) {
    const std::string expected = others.contains(variant) && !kernel.starts_with("matmul") ? others.at(variant) : variant;
    EXPECT_NE(kernel.find(expected), std::string::npos) << kernel << " was called " << calls << " times";
  }
}

// Two honest runs with rounded storage differ where a value lies near a rounding boundary. A hidden state has passed about ten roundings to storage per layer, each
// of relative size at most u (2^-9 for bfloat16, 2^-12 for float16, half a unit in the last place of a mantissa in [1, 2)), with independent signs: relative L2
// about u * sqrt(10 L). Twice that, because both sides are rounded.
TEST_F(OnDevice, HalfPrecisionsAgreeWithTheReferenceUpToTheirRounding) {
  const Model m = open(embedded_path());
  const std::pair<const char*, double> precisions[] = {{"bf16", 0x1p-9}, {"f16", 0x1p-12}};
  for (const auto& [precision, u] : precisions) {
    if (device_ == "cpu:bf16" && std::string(precision) == "f16") continue;
    const auto truth = run("reference", m, precision, kText, one_shot(kText.size()));
    ASSERT_TRUE(truth) << truth.error().to_string();
    auto session = load(device_, m, precision);
    ASSERT_TRUE(session) << session.error().to_string();
    const auto mine = run(*session, kText, one_shot(kText.size())), again = run(*session, kText, one_shot(kText.size()));
    ASSERT_TRUE(mine && again) << mine.error().to_string();
    EXPECT_TRUE(*mine == *again) << precision << ": repeats differ";
    const Worst w = worst_row(*mine, *truth);
    EXPECT_LE(w.value, 2 * u * std::sqrt(10.0 * static_cast<double>(m.spec.layers))) << precision << " " << w.where;
  }
}

TEST_F(OnDevice, WhatADeviceCannotComputeItRefuses) {
  if (device_ != "cpu:bf16") GTEST_SKIP() << device_ << " computes every precision of this suite";
  const Model m = open(embedded_path());
  for (const char* precision : {"f32", "f16", "int8/f32"}) {
    auto session = load(device_, m, precision);
    const auto states = session ? run(*session, kText, one_shot(kText.size())) : Result<States>(std::unexpected(session.error()));
    ASSERT_FALSE(states) << precision << " was computed in bfloat16 without a word";
    EXPECT_EQ(states.error().kind, ErrorKind::kUnsupported) << states.error().to_string();
  }
}

// Weight-only quantisation is defined by the values in docs/quantisation.md: the float32 device must agree with the float64 reference on the SAME quantised
// weights as closely as it does on full-precision ones, while quantising itself moves the states by orders of magnitude more.
TEST_F(OnFloat32Device, QuantisedWeightsMeanTheSameEverywhere) {
  const Model m = open(embedded_path());
  const auto full = run("reference", m, "f32/f64", kText, one_shot(kText.size()));
  ASSERT_TRUE(full);
  for (const char* weights : {"int8", "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym"}) {
    const auto truth = run("reference", m, std::string(weights) + "/f64", kText, one_shot(kText.size()));
    ASSERT_TRUE(truth) << truth.error().to_string();
    const auto mine = run(device_, m, std::string(weights) + (device_ == "reference" ? "/f64" : "/f32"), kText, one_shot(kText.size()));
    ASSERT_TRUE(mine) << mine.error().to_string();
    EXPECT_LE(worst_row(*mine, *truth).value, kFloat32Limit) << weights;
    EXPECT_GE(worst_row(*truth, *full).value, 100 * kFloat32Limit) << weights << " did not quantise anything";
  }
}

}  // namespace
}  // namespace concord::testing_support
