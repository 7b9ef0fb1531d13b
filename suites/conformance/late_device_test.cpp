// The harness against devices that work as late, and copy in as unlucky an order, as the ABI allows: what it computes
// there must have every bit of the reference, whose operators they use. Devices that do not wait where they are told to
// show that the tests would notice.
#include <fmt/format.h>

#include <filesystem>

#include "capture/capture.hpp"
#include "experiment/runner.hpp"
#include "states.hpp"

namespace concord::testing_support {
namespace {

[[maybe_unused]] const int kWrongOnesToo =
    ::setenv("CONCORD_TEST_WRONG", "all", 1);  // before plug-ins are asked what they have
const std::vector<std::string> kRight{"late:all", "late:copies"}, kDeaf{"late:deaf-default", "late:deaf-copies"};

std::vector<std::int32_t> text(std::size_t n) {
  const std::string words = "A copy that nobody waits for is a copy of something else.";
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<unsigned char>(words[i % words.size()]));
  return out;
}

TEST(LateDevice, HasEveryBitOfTheReference) {
  const Model m = open(embedded_path());
  const std::vector<std::int32_t> tokens = text(19);
  for (const char* precision : {"f32/f64", "bf16"})
    for (const Steps& steps : {one_shot(19), Steps{7, 12}, prefill_then_decode(19, 12)}) {
      const auto truth = run("reference", m, precision, tokens, steps);
      ASSERT_TRUE(truth) << truth.error().to_string();
      ASSERT_EQ(truth->hidden.size(), 19u);
      for (const std::string& device : kRight) {
        const auto mine = run(device, m, precision, tokens, steps);
        ASSERT_TRUE(mine) << mine.error().to_string();
        EXPECT_TRUE(*mine == *truth) << device << " " << precision << " in " << steps.size() << " steps";
      }
    }
}

TEST(LateDevice, SequencesInOneStepHaveEveryBitOfTheReference) {
  const Model m = open(embedded_path());
  const std::vector<std::vector<std::int32_t>> prompts{text(9), text(4), text(14)};
  auto session = load("reference", m, "bf16");
  ASSERT_TRUE(session);
  const auto truth = run_batch(*session, prompts, 2);
  ASSERT_TRUE(truth);
  for (const std::string& device : kRight) {
    auto late = load(device, m, "bf16");
    ASSERT_TRUE(late) << late.error().to_string();
    const auto mine = run_batch(*late, prompts, 2);
    ASSERT_TRUE(mine) << mine.error().to_string();
    EXPECT_TRUE(*mine == *truth) << device;
  }
}

// Without the one or the other wait of the decoder the tests above fail: here the device leaves it out.
TEST(LateDevice, AWaitThatIsLeftOutChangesTheStates) {
  const Model m = open(embedded_path());
  const auto truth = run("reference", m, "bf16", text(19), one_shot(19));
  ASSERT_TRUE(truth);
  for (const std::string& device : kDeaf) {
    const auto mine = run(device, m, "bf16", text(19), one_shot(19));
    ASSERT_TRUE(mine) << mine.error().to_string();
    EXPECT_FALSE(mine->hidden == truth->hidden) << device;
  }
}

Result<std::string> root_of_capture(const std::string& device, const Model& m, const CapturePlan& plan,
                                    std::int64_t chunk) {
  CONCORD_TRY(Session s, load(device, m, "bf16"));
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "late-device-capture.safetensors";
  RunRequest r;
  r.companions = {text(5)}, r.plan = plan, r.chunk = chunk, r.nonce = "00", r.out = file;
  r.model_name = "m", r.source_digest = s.model->source_digest();
  r.workload.id = "late", r.workload.tokens = text(20), r.workload.new_tokens = 4;
  const std::atomic<bool> stop = false;
  CONCORD_TRY(const RunOutcome proven, run_prover(*s.device, *s.model, r, stop));
  r.companions.clear();
  r.generated.assign(proven.tokens.begin() + 20, proven.tokens.end());
  CONCORD_TRY(const RunOutcome verified, run_verifier(*s.device, *s.model, r, stop));
  std::filesystem::remove(file);
  std::string out = proven.root + " " + verified.root;
  for (const std::int32_t token : proven.tokens) out += fmt::format(" {}", token);
  return out;
}

TEST(LateDevice, CapturesHaveTheRootsOfTheReference) {
  const Model m = open(embedded_path());
  const std::pair<CapturePlan, std::int64_t> plans[] = {
      {{"all", "all"}, 9}, {{}, 0}, {{"every:3", "every:7"}, 0}, {{"0", "last:1"}, 9}};
  for (const auto& [plan, chunk] : plans) {
    const auto truth = root_of_capture("reference", m, plan, chunk);
    ASSERT_TRUE(truth) << truth.error().to_string();
    for (const std::string& device : kRight) {
      const auto mine = root_of_capture(device, m, plan, chunk);
      ASSERT_TRUE(mine) << mine.error().to_string();
      EXPECT_EQ(*mine, *truth) << device << " layers " << plan.layers << " positions " << plan.positions;
    }
  }
}

// An index out of range is found when it is computed. It is the error of this step, and not of the next one.
TEST(LateDevice, WhatIsFoundLateIsAnErrorOfItsStep) {
  const Model m = open(embedded_path());
  for (const std::string& device : kRight) {
    auto session = load(device, m, "bf16");
    ASSERT_TRUE(session) << session.error().to_string();
    auto decoder = Decoder::create(*session->device, *session->model, 32, 8);
    ASSERT_TRUE(decoder);
    const std::vector<std::int32_t> good = text(8), bad{65, 66, 1 << 30};
    std::vector<std::byte> memory(1 << 16);
    std::int64_t layers = 0;
    const HiddenSink sink{
        .wants = [](std::int64_t) { return true; },
        .open = [&](std::int64_t, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
          return HiddenBlock{first, rows, std::span(memory).first(static_cast<std::size_t>(rows * m.spec.hidden * 2))};
        },
        .submit = [&](std::int64_t, const HiddenBlock&) -> Status { return ++layers, Status{}; }};
    const auto watched = decoder->forward(bad, 0, &sink);
    ASSERT_FALSE(watched) << device;
    EXPECT_EQ(watched.error().code, "device.invalid_call") << watched.error().to_string();
    layers = 0;
    EXPECT_TRUE(decoder->forward(good, 0, &sink));
    EXPECT_EQ(layers, m.spec.layers + 1) << "states of a step that failed must not come with the next one";
    ASSERT_TRUE(decoder->forward(bad, 0)) << "nobody has asked for anything yet";
    const auto asked = decoder->logits(0, 1);
    ASSERT_FALSE(asked) << device;
    EXPECT_EQ(asked.error().code, "device.invalid_call");
    ASSERT_TRUE(decoder->forward(good, 0));
    EXPECT_TRUE(decoder->logits(7, 1));
  }
}

// A sink that fails ends the step; the next one is not disturbed.
TEST(LateDevice, ASinkThatFailsEndsItsStepAlone) {
  const Model m = open(embedded_path());
  auto session = load("late:all", m, "bf16");
  ASSERT_TRUE(session);
  auto decoder = Decoder::create(*session->device, *session->model, 32, 8);
  ASSERT_TRUE(decoder);
  const HiddenSink broken{.wants = [](std::int64_t) { return true; },
                          .open = [](std::int64_t layer, std::int64_t, std::int64_t) -> Result<HiddenBlock> {
                            if (layer == 3) return bad_input("test.full", "no room");
                            return HiddenBlock{};
                          },
                          .submit = [](std::int64_t, const HiddenBlock&) -> Status { return {}; }};
  const std::vector<std::int32_t> tokens = text(8);
  const auto ended = decoder->forward(tokens, 0, &broken);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, "test.full");
  ASSERT_TRUE(decoder->forward(tokens, 0));
  const auto logits = decoder->logits(0, 8);
  const auto truth = run("reference", m, "bf16", tokens, one_shot(8));
  ASSERT_TRUE(logits && truth);
  EXPECT_EQ(*logits, truth->logits);
}

TEST(LateDevice, ABitThatChangedOnItsWayIsNamed) {
  const Model m = open(embedded_path());
  for (const char* precision : {"bf16", "int8/bf16", "int4-g32-asym/bf16"}) {
    const auto flipped = load("late:flips-weights", m, precision);
    ASSERT_FALSE(flipped) << precision;
    EXPECT_EQ(flipped.error().code, "model.weights_differ_on_device");
    EXPECT_NE(flipped.error().message.find(".weight: digest "), std::string::npos) << flipped.error().message;
    const auto vector = load("late:flips-buffers", m, precision);
    ASSERT_FALSE(vector) << precision;
    EXPECT_EQ(vector.error().code, "model.weights_differ_on_device");
    EXPECT_NE(vector.error().message.find("norm.weight: digest "), std::string::npos) << vector.error().message;
  }
}

TEST(LateDevice, WhatWasComparedIsCounted) {
  for (const std::string& path : {embedded_path(), golden_path("qwen2-tied-bias")}) {
    const Model m = open(path);
    std::size_t matrices = 0, vectors = 0;
    for (const ExpectedTensor& t : expected_tensors(m.spec)) (t.matrix ? matrices : vectors) += 1;
    for (const char* device : {"late:all", "reference", "cpu:strict"}) {
      auto session = load(device, m, "bf16");
      ASSERT_TRUE(session) << session.error().to_string();
      const DeviceWeightCheck& check = session->model->device_check();
      EXPECT_EQ(check.offered, std::string(device) != "cpu:strict");
      EXPECT_EQ(check.matrices, matrices);
      EXPECT_EQ(check.digests, check.offered ? matrices : 0u) << device << ": what was not offered is not counted";
      EXPECT_EQ(check.vectors, vectors);
      EXPECT_EQ(session->device->memory().has_value(), std::string(device) == "late:all");
    }
  }
}

TEST(LateDevice, MemoryIsCountedAndRunsOut) {
  const Model m = open(embedded_path());
  std::uint64_t held = 0;
  {
    auto session = load("late:all", m, "bf16");
    ASSERT_TRUE(session);
    held = session->device->memory()->now;
    EXPECT_GE(held, session->model->weight_bytes());
    auto decoder = Decoder::create(*session->device, *session->model, 32, 8);
    ASSERT_TRUE(decoder);
    EXPECT_EQ(session->device->memory()->now, held + decoder->buffer_bytes());
    EXPECT_EQ(session->device->memory()->peak, held + decoder->buffer_bytes());
  }
  ::setenv("CONCORD_TEST_LIMIT", std::to_string(held + 1000).c_str(), 1);
  auto session = load("late:all", m, "bf16");
  ASSERT_TRUE(session) << session.error().to_string();
  const auto decoder = Decoder::create(*session->device, *session->model, 32, 8);
  ::unsetenv("CONCORD_TEST_LIMIT");
  ASSERT_FALSE(decoder);
  EXPECT_EQ(decoder.error().code, "device.out_of_memory");
  EXPECT_TRUE(Decoder::create(*session->device, *session->model, 32, 8)) << "the device is as good as before";
}

}  // namespace
}  // namespace concord::testing_support
