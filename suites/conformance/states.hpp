// Running a model in this process and keeping everything it computes, for tests. Small models only: every hidden state is held as float64.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "device/device.hpp"
#include "model/decoder.hpp"
#include "model/spec.hpp"

namespace concord::testing_support {

inline const std::string kSource = CONCORD_SOURCE_DIR;
inline const std::string kBinaries = std::string(CONCORD_BINARY_DIR) + "/bin";

// The device that this test process judges: CTest registers the program once per device.
inline std::string device_under_test() {
  const char* id = std::getenv("CONCORD_TEST_DEVICE");
  return id ? id : "reference";
}

inline Backends& backends() {
  static Backends all = Backends::discover({kBinaries, std::string(CONCORD_BINARY_DIR) + "/test_plugins/late"});
  return all;
}

// Empty when the device can be used, else why not. A device nobody offers is a defect, not a reason to skip.
inline std::string unavailable(const std::string& id) {
  for (const DeviceFacts& d : backends().devices())
    if (d.id == id) return d.available ? "" : d.id + ": " + d.why;
  ADD_FAILURE() << "no plug-in offers " << id;
  return "no plug-in offers " + id;
}

struct States {
  std::map<std::int64_t, std::vector<double>> hidden;  // hidden-state index -> rows * width
  std::vector<float> logits;                           // rows * vocab
  std::int64_t rows = 0, width = 0;
  bool operator==(const States&) const = default;
};

struct Model {
  std::string path;
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
};

inline Model open(const std::string& path) {
  Model m;
  m.path = path;
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << (checkpoint ? "" : checkpoint.error().to_string());
  if (!checkpoint) return m;
  m.checkpoint = std::move(*checkpoint);
  auto spec = spec_from_path(path, *m.checkpoint);
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().to_string());
  if (spec) m.spec = std::move(*spec);
  return m;
}

// The sizes of the steps that a sequence is cut into: {T} is one prefill, {5, 1, 1, ...} a prefill of 5 and decoding.
using Steps = std::vector<std::int64_t>;
inline Steps one_shot(std::size_t tokens) { return {static_cast<std::int64_t>(tokens)}; }
inline Steps prefill_then_decode(std::size_t tokens, std::int64_t prompt) {
  Steps steps{prompt};
  steps.resize(1 + tokens - static_cast<std::size_t>(prompt), 1);
  return steps;
}

struct Session {
  std::unique_ptr<Device> device;
  std::unique_ptr<LoadedModel> model;
};

inline Result<Session> load(const std::string& device, const Model& m, const std::string& precision, unsigned threads = 0, const LoadProgress& progress = {}) {
  Session s;
  CONCORD_TRY(Device opened, backends().open(device, threads));
  s.device = std::make_unique<Device>(std::move(opened));
  CONCORD_TRY(const RunPrecision p, RunPrecision::parse(precision));
  CONCORD_TRY(LoadedModel model, LoadedModel::load(*s.device, *m.checkpoint, m.spec, p, progress));
  s.model = std::make_unique<LoadedModel>(std::move(model));
  return s;
}

inline Result<States> run(Session& s, const std::vector<std::int32_t>& tokens, const Steps& steps) {
  States out;
  out.rows = static_cast<std::int64_t>(tokens.size());
  out.width = s.model->spec().hidden;
  const DType act = s.model->precision().activations;
  std::vector<std::byte> step;
  const HiddenSink sink{.wants = [](std::int64_t) { return true; },
                        .open = [&](std::int64_t, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
                          step.resize(static_cast<std::size_t>(rows * out.width) * dtype_bits(act) / 8);
                          return HiddenBlock{first, rows, step};
                        },
                        .submit = [&](std::int64_t layer, const HiddenBlock& block) -> Status {
                          auto& all = out.hidden[layer];
                          for (std::int64_t i = 0; i < block.rows * out.width; ++i)
                            all.push_back(load_as_f64(act, block.bytes.data(), static_cast<std::size_t>(i)));
                          return {};
                        }};
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, out.rows, *std::max_element(steps.begin(), steps.end())));
  std::int64_t at = 0;
  for (const std::int64_t n : steps) {
    CONCORD_CHECK(decoder.forward(std::span(tokens).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)), at, &sink));
    CONCORD_TRY(const std::vector<float> logits, decoder.logits(0, n));
    out.logits.insert(out.logits.end(), logits.begin(), logits.end());
    at += n;
  }
  return out;
}

// Every sequence's hidden states: all but the last `decoded` tokens of each in one step, then one token of each in a step.
inline Result<std::vector<States>> run_batch(Session& s, const std::vector<std::vector<std::int32_t>>& sequences, std::int64_t decoded) {
  std::vector<States> out(sequences.size());
  std::vector<HiddenSink> sinks;
  const DType act = s.model->precision().activations;
  const std::int64_t width = s.model->spec().hidden;
  std::vector<std::byte> block_bytes;
  std::int64_t longest = 0, step = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto tokens = static_cast<std::int64_t>(sequences[i].size());
    out[i].rows = tokens, out[i].width = width;
    longest = std::max(longest, tokens), step += tokens;
    sinks.push_back({.wants = [](std::int64_t) { return true; },
                     .open = [&block_bytes, width, act](std::int64_t, std::int64_t first, std::int64_t rows) -> Result<HiddenBlock> {
                       block_bytes.resize(static_cast<std::size_t>(rows * width) * dtype_bits(act) / 8);
                       return HiddenBlock{first, rows, block_bytes};
                     },
                     .submit = [&states = out[i], width, act](std::int64_t layer, const HiddenBlock& block) -> Status {
                       for (std::int64_t e = 0; e < block.rows * width; ++e)
                         states.hidden[layer].push_back(load_as_f64(act, block.bytes.data(), static_cast<std::size_t>(e)));
                       return {};
                     }});
  }
  CONCORD_TRY(Decoder decoder, Decoder::create(*s.device, *s.model, longest, step, static_cast<std::int64_t>(sequences.size())));
  for (std::int64_t pass = 0; pass <= decoded; ++pass) {
    std::vector<DecoderStep> steps;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto prompt = static_cast<std::int64_t>(sequences[i].size()) - decoded, start = pass == 0 ? 0 : prompt + pass - 1;
      const auto count = pass == 0 ? prompt : 1;
      steps.push_back({std::span(sequences[i]).subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(count)), start,
                       static_cast<std::int64_t>(i), &sinks[i]});
    }
    CONCORD_CHECK(decoder.forward(steps));
  }
  return out;
}

inline Result<States> run(const std::string& device, const Model& m, const std::string& precision, const std::vector<std::int32_t>& tokens,
                          const Steps& steps, unsigned threads = 0) {
  CONCORD_TRY(Session s, load(device, m, precision, threads));
  return run(s, tokens, steps);
}

// The largest relative L2 over rows, and where. A NaN anywhere gives infinity.
struct Worst {
  double value = 0;
  std::string where = "nowhere";
  std::int64_t rows = 0;  // compared
};
inline void worst_row(Worst& w, const std::string& name, std::span<const double> a, std::span<const double> b, std::int64_t width) {
  ASSERT_EQ(a.size(), b.size()) << name;
  for (std::size_t r = 0; r * static_cast<std::size_t>(width) < a.size(); ++r) {
    double difference = 0, norm = 0;
    for (std::size_t i = r * static_cast<std::size_t>(width); i < (r + 1) * static_cast<std::size_t>(width); ++i) {
      difference += (a[i] - b[i]) * (a[i] - b[i]);
      norm += b[i] * b[i];
    }
    double value = std::sqrt(difference) / std::sqrt(norm);
    if (!(value < HUGE_VAL)) value = HUGE_VAL;
    ++w.rows;
    if (value >= w.value) w.value = value, w.where = name + " row " + std::to_string(r);
  }
}
inline Worst worst_row(const States& a, const States& b) {
  Worst w;
  EXPECT_EQ(a.hidden.size(), b.hidden.size());
  for (const auto& [layer, rows] : a.hidden) worst_row(w, "hidden." + std::to_string(layer), rows, b.hidden.at(layer), a.width);
  return w;
}

// A golden file: `tokens`, hidden.<i> and logits of another implementation.
struct Golden {
  std::vector<std::int32_t> tokens;
  States states;
};
inline Golden read_golden(const std::string& path, std::int64_t layers) {
  Golden g;
  const auto file = Checkpoint::open(path);
  EXPECT_TRUE(file) << (file ? "" : file.error().to_string());
  if (!file) return g;
  const auto doubles = [&](const std::string& name) {
    std::vector<double> out;
    const TensorInfo* t = (*file)->find(name);
    EXPECT_NE(t, nullptr) << path << ": " << name;
    if (!t) return out;
    const DType dtype = *dtype_from_name(t->type);
    for (std::size_t i = 0; i < t->elements; ++i) out.push_back(load_as_f64(dtype, (*file)->raw(*t).data(), i));
    return out;
  };
  const TensorInfo* tokens = (*file)->find("tokens");
  EXPECT_NE(tokens, nullptr) << path;
  if (!tokens) return g;
  g.tokens.resize(tokens->elements);
  std::memcpy(g.tokens.data(), (*file)->raw(*tokens).data(), g.tokens.size() * 4);
  g.states.rows = static_cast<std::int64_t>(g.tokens.size());
  for (std::int64_t i = 0; i <= layers; ++i) g.states.hidden[i] = doubles("hidden." + std::to_string(i));
  g.states.width = static_cast<std::int64_t>(g.states.hidden[0].size()) / g.states.rows;
  for (const double v : doubles("logits")) g.states.logits.push_back(static_cast<float>(v));
  return g;
}

inline const std::vector<std::string>& golden_models() {
  static const std::vector<std::string> names{"llama-default", "llama-gqa-untied", "llama-linear",    "llama-llama3",
                                              "llama-yarn",    "llama-sharded",    "qwen2-tied-bias", "qwen3-headdim"};
  return names;
}
inline std::string golden_path(const std::string& name) { return kSource + "/fixtures/golden/models/" + name; }
inline std::string embedded_path() { return kSource + "/fixtures/models/concord-byte-3m"; }

}  // namespace concord::testing_support
