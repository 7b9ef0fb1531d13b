#include "conformance/suite/suite.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "base/json.hpp"
#include "conformance/numerics/expectation.hpp"
#include "conformance/numerics/problem.hpp"
#include "conformance/suite/definition.hpp"

namespace concord::conformance {
namespace {

const OperatorSuite& suite() {
  static const OperatorSuite kSuite = OperatorSuite::load(CONCORD_SOURCE_DIR "/suites/ops").value();
  return kSuite;
}
using Words = std::vector<std::string>;
const Words kDtypes{"f32", "f16", "bf16"}, kWeights{"f32", "f16", "bf16", "i8", "u4g32", "u4g32z", "u4g128", "u4g128z"}, kCaches{"f32", "f16", "bf16", "i8"};

// What the suite must cover, written down a second time, beside the definitions.
struct Demand {
  const char *op, *family;
  Words inputs;
  std::map<std::string, Words> options;
};
const std::vector<Demand>& demands() {
  static const std::vector<Demand> kDemands = {
      {"embedding", "embedding", {"uniform", "special", "subnormal"}, {{"w", kWeights}}},
      {"rmsnorm", "norm", {"uniform", "gaussian", "heavy", "subnormal", "special", "exact"}, {{"eps", {"1e-5", "1e-6"}}, {"place", {"0", "1"}}}},
      {"layernorm", "norm", {"uniform", "gaussian", "heavy", "subnormal", "special", "exact", "cancel"}, {{"eps", {"1e-5", "1e-6"}}, {"place", {"0", "1"}}}},
      {"matmul", "matmul", {"exact", "uniform", "gaussian", "heavy", "cancel", "subnormal", "special"},
       {{"w", kWeights}, {"bias", {"0", "1"}}, {"fuse", {"none", "plus", "gated"}}, {"place", {"0", "1"}}}},
      {"rope", "rope", {"uniform", "gaussian", "exact", "special"}, {{"place", {"0", "1"}}}},
      {"kv_append", "kv", {"uniform", "heavy", "special", "subnormal"}, {{"kv", kCaches}}},
      {"attention", "attention", {"gaussian", "heavy", "shift", "exact", "cancel"}, {{"kv", kCaches}}},
      {"swiglu", "activation", {"uniform", "gaussian", "heavy", "special", "subnormal"}, {{"place", {"0", "1"}}}},
      {"gelu", "activation", {"uniform", "gaussian", "heavy", "special", "subnormal"}, {{"form", {"erf", "tanh"}}, {"place", {"0", "1"}}}},
      {"add", "activation", {"exact", "uniform", "heavy", "cancel", "special", "subnormal"}, {{"place", {"0", "1"}}}},
      {"softmax", "softmax", {"gaussian", "heavy", "shift", "exact", "special"}, {{"place", {"0", "1"}}}},
      {"topk_routing", "select", {"exact", "gaussian", "shift"}, {{"norm", {"0", "1"}}}},
      {"argmax", "select", {"exact", "gaussian", "special"}, {}},
      {"sample", "select", {"exact", "gaussian", "heavy", "cancel", "special"}, {{"temp", {"0.7", "1", "1.5", "cold"}}}},
  };
  return kDemands;
}
bool exists(const char* op, Tier tier, const std::function<bool(const CaseSpec&)>& wanted) {
  return std::ranges::any_of(suite().cases(), [&](const PlannedCase& c) { return c.spec.op == op && c.tier <= tier && !has_empty_extent(c.spec) && wanted(c.spec); });
}

TEST(Suite, DefinesEveryOperatorOfTheAbi) {
  Words expected;
  for (const Demand& d : demands()) expected.emplace_back(d.op);
  EXPECT_EQ(expected.size(), static_cast<std::size_t>(CONCORD_OP_COUNT));
  EXPECT_THAT(suite().operators(), testing::UnorderedElementsAreArray(expected));
  for (const Demand& d : demands())
    for (const Definition& found : suite().definitions())
      if (found.op == d.op) {
        EXPECT_EQ(found.family, d.family);
      }
}

TEST(Suite, IdsAreUniqueCanonicalAndSorted) {
  std::set<std::string> seen;
  for (const PlannedCase& c : suite().cases()) {
    EXPECT_TRUE(seen.insert(c.id).second) << c.id;
    const auto parsed = CaseSpec::parse(c.id);
    ASSERT_TRUE(parsed) << c.id;
    EXPECT_EQ(*parsed, c.spec);
  }
  EXPECT_TRUE(std::ranges::is_sorted(suite().cases(), {}, [](const PlannedCase& c) { return std::pair(c.spec.op, c.id); }));
}

TEST(Suite, EveryCaseIsAProblem) {
  for (const PlannedCase& c : suite().cases()) {
    const auto problem = make_problem(c.spec);
    ASSERT_TRUE(problem) << problem.error().message;
    EXPECT_EQ(problem->expect_refusal, has_empty_extent(c.spec)) << c.id;
    const std::uint64_t limit = std::uint64_t{c.tier == Tier::kSmoke ? 64u : c.tier == Tier::kFull ? 1024u : 4096u} << 20;
    EXPECT_LE(problem->input_bytes + problem->output_bytes, limit) << c.id;
  }
}

// Every input family and every word of every option, each with every dtype.
TEST(Suite, CoversEveryWordWithEveryDtypeInFull) {
  for (const Demand& d : demands())
    for (const std::string& x : kDtypes) {
      for (const std::string& in : d.inputs)
        EXPECT_TRUE(exists(d.op, Tier::kFull, [&](const CaseSpec& s) { return s.option("x") == x && s.option("in") == in; })) << d.op << " " << x << " " << in;
      for (const auto& [key, words] : d.options)
        for (const std::string& word : words)
          EXPECT_TRUE(exists(d.op, Tier::kFull, [&](const CaseSpec& s) { return s.option("x") == x && s.option(key) == word; })) << d.op << " " << x << " " << key << "=" << word;
    }
}
TEST(Suite, CoversEveryWordWithEveryDtypeInSmoke) {
  for (const Demand& d : demands())
    for (const std::string& x : kDtypes) {
      for (const std::string& in : d.inputs)
        EXPECT_TRUE(exists(d.op, Tier::kSmoke, [&](const CaseSpec& s) { return s.option("x") == x && s.option("in") == in; })) << d.op << " " << x << " " << in;
      for (const auto& [key, words] : d.options)
        for (const std::string& word : words)
          EXPECT_TRUE(exists(d.op, Tier::kSmoke, [&](const CaseSpec& s) { return s.option("x") == x && s.option(key) == word; })) << d.op << " " << x << " " << key << "=" << word;
    }
}
TEST(Suite, CoversEveryWeightAndCacheWithEveryFamilyInFull) {
  for (const Demand& d : demands())
    for (const auto& [key, words] : d.options)
      for (const std::string& word : words)
        for (const std::string& in : d.inputs) {
          if (in == "exact" && (word == "gated" || (d.op == std::string("matmul") && key == "place" && word == "1"))) continue;  // not exact by construction; in place wants z
          EXPECT_TRUE(exists(d.op, Tier::kFull, [&](const CaseSpec& s) { return s.option("in") == in && s.option(key) == word; })) << d.op << " " << in << " " << key << "=" << word;
        }
}

TEST(Suite, EveryOperatorHasEmptyAndOneElementCases) {
  for (const Demand& d : demands()) {
    const auto of_op = [&](const PlannedCase& c) { return c.tier == Tier::kSmoke && c.spec.op == d.op; };
    EXPECT_TRUE(std::ranges::any_of(suite().cases(), [&](const PlannedCase& c) { return of_op(c) && has_empty_extent(c.spec); })) << d.op;
    if (d.op == std::string("rope")) continue;  // a pair is the least
    EXPECT_TRUE(exists(d.op, Tier::kSmoke, [](const CaseSpec& s) { return std::ranges::all_of(s.axes, [](const auto& a) { return a.second == 1; }); })) << d.op;
  }
}

// What has to be in the smoke tier, in float32 and in BF16, for a fault of each kind to have an effect.
TEST(Suite, SmokeGivesPlantedFaultsSomethingToBreak) {
  struct Need {
    const char *fault, *op;
    std::function<bool(const CaseSpec&)> shape;
  };
  const auto a = [](const CaseSpec& s, const char* key) { return s.axis(key); };
  const auto in = [](const CaseSpec& s, const char* word) { return s.option("in") == word; };
  const std::vector<Need> needs = {
      {"last input dropped", "matmul", [&](const CaseSpec& s) { return in(s, "exact") && a(s, "K") > 1 && a(s, "K") < 200; }},
      {"last inputs of a vector dropped", "matmul", [&](const CaseSpec& s) { return in(s, "gaussian") && a(s, "K") % 16 != 0 && a(s, "K") > 16; }},
      {"last panel of outputs wrong", "matmul", [&](const CaseSpec& s) { return a(s, "N") % 16 != 0 && a(s, "N") > 64; }},
      {"last tile of tokens wrong", "matmul", [&](const CaseSpec& s) { return a(s, "M") > 6 && a(s, "M") % 6 != 0; }},
      {"narrow inputs", "matmul", [&](const CaseSpec& s) { return in(s, "gaussian") && a(s, "K") <= 64; }},
      {"sums that cancel", "matmul", [&](const CaseSpec& s) { return in(s, "cancel") && a(s, "K") > 16; }},
      {"z ignored", "matmul", [&](const CaseSpec& s) { return s.option("fuse") != "none" && s.option("bias") == "1"; }},
      {"mask off by one", "attention", [&](const CaseSpec& s) { return a(s, "T") / a(s, "S") > 1 && a(s, "L") > 2; }},
      {"rows behind the context read", "attention", [&](const CaseSpec& s) { return a(s, "L") < a(s, "P"); }},
      {"heads mapped wrongly", "attention", [&](const CaseSpec& s) { return a(s, "H") > a(s, "G") && a(s, "G") > 1; }},
      {"sequences mixed", "attention", [&](const CaseSpec& s) { return a(s, "S") > 1; }},
      {"softmax without a maximum", "attention", [&](const CaseSpec& s) { return in(s, "shift") && a(s, "L") > 2; }},
      {"cache slot off by one", "kv_append", [&](const CaseSpec& s) { return a(s, "T") > 1 && a(s, "T") < a(s, "P"); }},
      {"heads of the cache swapped", "kv_append", [&](const CaseSpec& s) { return a(s, "G") > 1; }},
      {"pairs (2i, 2i+1)", "rope", [&](const CaseSpec& s) { return a(s, "D") > 2 && a(s, "T") > 1; }},
      {"position of the first token for all", "rope", [&](const CaseSpec& s) { return a(s, "T") > 1 && a(s, "P") > 1 && a(s, "H") > 1; }},
      {"epsilon missing", "rmsnorm", [&](const CaseSpec& s) { return in(s, "subnormal") && a(s, "N") > 16; }},
      {"epsilon missing", "layernorm", [&](const CaseSpec& s) { return in(s, "subnormal") && a(s, "N") > 16; }},
      {"mean of squares without the mean", "layernorm", [&](const CaseSpec& s) { return in(s, "cancel") && a(s, "N") > 8; }},
      {"remainder of a row", "rmsnorm", [&](const CaseSpec& s) { return a(s, "N") % 16 != 0 && a(s, "N") > 16 && a(s, "R") > 1; }},
      {"remainder of a row", "swiglu", [&](const CaseSpec& s) { return a(s, "N") % 16 != 0 && a(s, "N") > 16; }},
      {"remainder of a row", "gelu", [&](const CaseSpec& s) { return a(s, "N") % 16 != 0 && a(s, "N") > 16; }},
      {"remainder of a row", "add", [&](const CaseSpec& s) { return a(s, "N") % 16 != 0 && a(s, "N") > 16; }},
      {"overflow of e^x", "softmax", [&](const CaseSpec& s) { return in(s, "shift") && a(s, "N") > 8; }},
      {"later index among equals", "argmax", [&](const CaseSpec& s) { return in(s, "exact") && a(s, "V") > 16; }},
      {"noise in float32", "sample", [&](const CaseSpec& s) { return in(s, "cancel") && a(s, "T") > 4 && a(s, "V") > 200; }},
      {"later index among equal scores", "sample", [&](const CaseSpec& s) { return in(s, "exact") && s.option("temp") == "cold" && a(s, "V") > 16; }},
      {"later expert among equals", "topk_routing", [&](const CaseSpec& s) { return in(s, "exact") && a(s, "K") > 1; }},
      {"row of the previous token", "embedding", [&](const CaseSpec& s) { return a(s, "T") > 4 && a(s, "V") > 40; }},
  };
  for (const Need& n : needs)
    for (const char* x : {"f32", "bf16"})
      EXPECT_TRUE(exists(n.op, Tier::kSmoke, [&](const CaseSpec& s) { return s.option("x") == x && n.shape(s); })) << n.fault << ": " << n.op << " " << x;
}

// A case whose every result is the same number proves little: the oracle's own values must differ in each.
TEST(Suite, NoSmokeCaseHasADegenerateAnswer) {
  for (const PlannedCase& c : suite().cases()) {
    if (c.tier != Tier::kSmoke || has_empty_extent(c.spec)) continue;
    const Problem problem = make_problem(c.spec).value();
    std::vector<std::byte> inputs(problem.input_bytes), outputs(problem.output_bytes);
    fill_inputs(problem, 0, inputs);
    fill_outputs(problem, 0, inputs, outputs);
    const auto expectation = expect(problem, inputs, {});
    ASSERT_TRUE(expectation) << expectation.error().message;
    for (const OutputFindings& found : judge_outputs(problem, *expectation, inputs, outputs)) EXPECT_FALSE(found.degenerate) << c.id << " " << found.name;
  }
}

// What the tiers may cost: 607, 2241 and 167 cases when this was written.
TEST(Suite, TiersStayWithinTheirBudgets) {
  std::map<Tier, std::size_t> count;
  std::map<Tier, double> flops;
  for (const PlannedCase& c : suite().cases()) {
    ++count[c.tier], flops[c.tier] += c.flops;
    const double limit = c.tier == Tier::kSmoke ? 4e7 : c.tier == Tier::kFull ? 4e8 : 4e10;
    EXPECT_LE(c.flops, limit) << c.id;
  }
  EXPECT_GE(count[Tier::kSmoke], 350u);
  EXPECT_LE(count[Tier::kSmoke], 640u);
  EXPECT_GE(count[Tier::kSmoke] + count[Tier::kFull], 1500u);
  EXPECT_LE(count[Tier::kSmoke] + count[Tier::kFull], 2900u);
  EXPECT_LE(count[Tier::kNightly], 400u);
  EXPECT_LE(flops[Tier::kSmoke], 1e9);
  EXPECT_LE(flops[Tier::kFull], 2e10);
}

TEST(Suite, FormulasGiveWhatIsCountedByHand) {
  struct Known {
    const char* id;
    double bytes, flops;
  };
  const Known kKnown[] = {
      // 3 tokens of 10 inputs in bf16, 4 x 10 weights in bf16 and 3 x 4 results; 3*4*10 multiply-adds
      {"matmul/K=10,M=3,N=4,bias=0,fuse=none,in=uniform,place=0,w=bf16,x=bf16", 60 + 80 + 24, 240},
      // f32 activations, int8 weights with a float32 scale per row, a float32 bias, and z is read
      {"matmul/K=10,M=3,N=4,bias=1,fuse=plus,in=uniform,place=0,w=i8,x=f32", 120 + 40 + 16 + 16 + 2 * 48, 240},
      // 64 inputs: two groups of 16 bytes with an f16 scale and a byte of zero point, for each of 2 rows
      {"matmul/K=64,M=1,N=2,bias=0,fuse=none,in=uniform,place=0,w=u4g32z,x=f16", 128 + 2 * 2 * (16 + 2 + 1) + 4, 256},
      // 2 tokens, the first sees 4 rows and the second 5: 9 pairs of a query and a key for each of 4 heads, 8 numbers, two products each
      {"attention/D=8,G=2,H=4,L=5,P=7,S=1,T=2,in=gaussian,kv=i8,x=f32", 2 * 2 * 4 * 8 * 4 + 2 * 5 * 2 * (8 + 4) + 8, 4 * 9 * 4 * 8},
      // the same for each of 2 sequences
      {"attention/D=8,G=2,H=4,L=5,P=7,S=2,T=4,in=gaussian,kv=bf16,x=f32", 2 * 4 * 4 * 8 * 4 + 2 * 2 * 5 * 2 * 16 + 16, 2 * 4 * 9 * 4 * 8},
      {"embedding/K=6,T=3,V=9,in=uniform,w=f16,x=f32", 36 + 12 + 72, 0},
      {"add/N=5,R=2,in=exact,place=0,x=bf16", 60, 10},
      {"topk_routing/E=8,K=2,T=3,in=exact,norm=1,x=f32", 96 + 48, 126},
      {"sample/T=3,V=10,in=gaussian,temp=1,x=bf16", 60 + 12 + 12, 120},  // two logarithms and a multiply-add
  };
  for (const Known& k : kKnown) {
    const auto planned = suite().plan(CaseSpec::parse(k.id).value());
    ASSERT_TRUE(planned) << planned.error().message;
    EXPECT_EQ(planned->bytes, k.bytes) << k.id;
    EXPECT_EQ(planned->flops, k.flops) << k.id;
  }
}

TEST(Suite, TheEmbeddedModelIsDescribedAsItIs) {
  const Json config = read_json(CONCORD_SOURCE_DIR "/fixtures/models/concord-byte-3m/config.json").value();
  const Json model = read_json(CONCORD_SOURCE_DIR "/suites/ops/models/concord-byte-3m.json").value();
  const std::pair<const char*, const char*> kSame[] = {{"hidden", "hidden_size"}, {"intermediate", "intermediate_size"}, {"heads", "num_attention_heads"},
                                                       {"kv_heads", "num_key_value_heads"}, {"layers", "num_hidden_layers"}, {"vocab", "vocab_size"},
                                                       {"context", "max_position_embeddings"}};
  for (const auto& [ours, theirs] : kSame) EXPECT_EQ(model["dimensions"][ours], config[theirs]) << ours;
  EXPECT_EQ(model["dimensions"]["head_dim"].get<int>() * config["num_attention_heads"].get<int>(), config["hidden_size"]);
  EXPECT_EQ(std::stod(model["words"]["eps"].get<std::string>()), config["rms_norm_eps"]);
}

TEST(Suite, ModelsAreUsedForPrefillAndDecode) {
  for (const char* model : {"llama-3.1-8b", "qwen2.5-7b", "qwen3-1.7b", "qwen3-30b-a3b", "smollm2-135m", "concord-byte-3m"})
    for (const char* stage : {"stage:prefill", "stage:decode"})
      for (const char* family : {"matmul", "attention", "norm", "rope", "kv"})
        EXPECT_TRUE(std::ranges::any_of(suite().cases(), [&](const PlannedCase& c) {
          const auto tagged = [&](const std::string& tag) { return std::ranges::find(c.tags, tag) != c.tags.end(); };
          return c.family == family && tagged(std::string("model:") + model) && tagged(stage);
        })) << model << " " << stage << " " << family;
  EXPECT_TRUE(exists("matmul", Tier::kFull, [](const CaseSpec& s) { return s.axis("N") == 14336 && s.axis("K") == 4096; }));
  EXPECT_TRUE(exists("matmul", Tier::kNightly, [](const CaseSpec& s) { return s.axis("N") == 151936 && s.axis("K") == 2048; }));
  EXPECT_TRUE(exists("attention", Tier::kNightly, [](const CaseSpec& s) { return s.axis("L") == 32768 && s.axis("H") == 32 && s.axis("G") == 8; }));
}

TEST(Suite, PlansCasesThatItDoesNotList) {
  const auto code = [](const char* id) {
    const auto planned = suite().plan(CaseSpec::parse(id).value());
    return planned ? "planned" : planned.error().code;
  };
  EXPECT_EQ(code("add/N=77,R=3,in=exact,place=0,x=bf16"), "planned");
  EXPECT_EQ(code("subtract/N=77"), "case.unknown_operator");
  EXPECT_EQ(code("add/N=77,in=exact,place=0,x=bf16"), "case.missing_key");
  EXPECT_EQ(code("add/N=77,R=3,in=exact,x=bf16"), "case.missing_key");
  EXPECT_EQ(code("add/N=77,Q=1,R=3,in=exact,place=0,x=bf16"), "case.unknown_key");
  EXPECT_EQ(code("add/N=77,R=3,in=exact,place=0,w=f32,x=bf16"), "case.unknown_key");
  EXPECT_EQ(code("add/N=77,R=3,in=exact,place=0,x=f64"), "case.bad_value");
  EXPECT_EQ(code("add/N=77,R=3,in=shift,place=0,x=f32"), "case.bad_value");
  EXPECT_EQ(code("add/N=4294967296,R=3,in=exact,place=0,x=f32"), "case.bad_value");
  EXPECT_EQ(code("rope/D=7,H=1,P=4,T=1,in=exact,place=0,x=f32"), "case.constraint");
  EXPECT_EQ(code("attention/D=8,G=2,H=3,L=5,P=7,S=1,T=2,in=gaussian,kv=i8,x=f32"), "case.constraint");
  EXPECT_EQ(code("attention/D=8,G=1,H=3,L=8,P=7,S=1,T=2,in=gaussian,kv=i8,x=f32"), "case.constraint");
  EXPECT_EQ(code("attention/D=8,G=1,H=3,L=1,P=7,S=1,T=2,in=gaussian,kv=i8,x=f32"), "case.constraint");
  EXPECT_EQ(code("attention/D=8,G=1,H=3,L=2,P=7,S=2,T=3,in=gaussian,kv=i8,x=f32"), "case.constraint");
  EXPECT_EQ(code("attention/D=8,G=1,H=3,L=0,P=7,S=1,T=1,in=gaussian,kv=i8,x=f32"), "case.bad_value");
  EXPECT_EQ(code("matmul/K=4,M=3,N=4,bias=0,fuse=none,in=uniform,place=1,w=f32,x=f32"), "case.constraint");
  EXPECT_EQ(code("topk_routing/E=4,K=5,T=3,in=exact,norm=0,x=f32"), "case.constraint");
}

// ---------------------------------------------------------------- reading

class SuiteFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "models");
    write("models/m.json", {{"schema", "concord.dimensions/1"}, {"model", "m"}, {"source", "here"}, {"dimensions", {{"hidden", 12}}}, {"words", {{"eps", "1e-5"}}}});
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, const Json& json) const { std::ofstream(folder_ / name) << json.dump(); }
  Result<OperatorSuite> load() const { return OperatorSuite::load(folder_.string()); }
  std::string code(const Json& json) const {
    write("a.json", json);
    const auto loaded = load();
    return loaded ? "loaded" : loaded.error().code;
  }
  static Json workload() {
    return {{"name", "w"}, {"tier", "full"}, {"tags", {"stage:decode"}}, {"shapes", {{{"N", {1, 2}}}}}, {"options", {{"x", {"f32"}}, {"eps", {"1e-5"}}}}};
  }
  static Json definition() {
    return {{"schema", "concord.operator/1"},
            {"operator", "scale"},
            {"family", "norm"},
            {"summary", "s"},
            {"axes", {{"N", {{"min", 0}, {"max", 100}, {"about", "numbers"}}}}},
            {"options", {{"x", {{"words", {"f32", "bf16"}}, {"about", "dtype"}}}, {"eps", {{"words", {"1e-5", "1e-6"}}, {"about", "epsilon"}}}}},
            {"constraints", {"N != 13"}},
            {"bytes", "N*size(x)"},
            {"flops", "N"},
            {"workloads", {workload()}}};
  }
  static Json with(const char* pointer, const Json& value) {
    Json j = definition();
    j[Json::json_pointer(pointer)] = value;
    return j;
  }
  static Json without(const char* key) {
    Json j = definition();
    j.erase(key);
    return j;
  }
  const std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) / ("concord_suite_test_" + std::to_string(::getpid()));
};

TEST_F(SuiteFiles, AGoodFileIsRead) {
  EXPECT_EQ(code(definition()), "loaded");
  EXPECT_EQ(load()->cases().size(), 2u);
  EXPECT_EQ(load()->cases()[0].id, "scale/N=1,eps=1e-5,x=f32");
}

TEST_F(SuiteFiles, WhatIsWrongIsRefused) {
  const std::pair<Json, const char*> kWrong[] = {
      {Json::array(), "suite.wrong_type"},
      {with("/schema", "concord.operator/2"), "suite.schema_version"},
      {with("/extra", 1), "suite.unknown_field"},
      {without("flops"), "suite.missing_field"},
      {without("constraints"), "suite.missing_field"},
      {with("/operator", "Scale"), "suite.out_of_range"},
      {with("/axes/n", {{"min", 0}, {"max", 1}, {"about", ""}}), "suite.bad_key"},
      {with("/axes/N/max", -1), "suite.out_of_range"},
      {with("/axes/N/least", 1), "suite.unknown_field"},
      {with("/options/Q", {{"words", {"a"}}, {"about", ""}}), "suite.bad_key"},
      {with("/options/x/words", Json::array()), "suite.out_of_range"},
      {with("/options/x/words/0", "F32"), "suite.out_of_range"},
      {with("/constraints/0", "N <> 2"), "expression.syntax"},
      {with("/bytes", "N*size(y)"), "expression.unknown_name"},
      {with("/flops", "N*("), "expression.syntax"},
      {with("/flops", "Q"), "expression.unknown_name"},
      {with("/implications", {{{"when", "q"}, {"is", "a"}, {"then", "x"}, {"in", {"f32"}}}}), "suite.bad_key"},
      {with("/workloads/0/tier", "quick"), "case.unknown_tier"},
      {with("/workloads/0/more", 1), "suite.unknown_field"},
      {with("/workloads/0/tags/0", "decode"), "suite.out_of_range"},
      {with("/workloads/0/cover", "some"), "suite.out_of_range"},
      {with("/workloads/0/shapes/0/N", -1), "suite.wrong_type"},
      {with("/workloads/0/shapes/0/N", 1.5), "suite.wrong_type"},
      {with("/workloads/0/shapes/0/N", 101), "case.bad_value"},
      {with("/workloads/0/shapes/0/N", 13), "case.constraint"},
      {with("/workloads/0/shapes/0/N", "hidden"), "expression.unknown_name"},
      {with("/workloads/0/shapes/0/n", 1), "suite.bad_key"},
      {with("/workloads/0/shapes/0/Q", 1), "case.unknown_key"},
      {with("/workloads/0/shapes", Json::array()), "suite.out_of_range"},
      {with("/workloads/0/axes", {{"N", 1}}), "suite.contradiction"},
      {with("/workloads/0/models", {"nobody"}), "suite.unknown_model"},
      {with("/workloads/0/options/eps/0", "$eps"), "suite.unknown_word"},
      {with("/workloads/0/options/x/0", "f64"), "case.bad_value"},
      {with("/workloads/0/options/x", Json::array()), "suite.out_of_range"},
      {with("/workloads/0/options", {{"x", {"f32"}}}), "case.missing_key"},
      {with("/workloads/1", workload()), "suite.duplicate_workload"},
      {with("/workloads/0/shapes/0/N", std::vector<int>(100'001, 1)), "suite.out_of_range"},
  };
  for (const auto& [json, expected] : kWrong) EXPECT_EQ(code(json), expected) << json.dump().substr(0, 900);
}

TEST_F(SuiteFiles, AFileCannotAskForTooManyCases) {
  Json j = definition();
  j["axes"] = {{"A", {{"min", 0}, {"max", 1000}, {"about", ""}}}, {"B", {{"min", 0}, {"max", 1000}, {"about", ""}}}};
  j["constraints"] = Json::array(), j["bytes"] = "A", j["flops"] = "B";
  std::vector<int> many(400);
  for (int i = 0; i < 400; ++i) many[static_cast<std::size_t>(i)] = i;
  j["workloads"][0]["shapes"] = {{{"A", many}, {"B", many}}};
  EXPECT_EQ(code(j), "suite.too_many_cases");
  j["workloads"][0].erase("shapes");
  j["workloads"][0]["axes"] = {{"A", many}, {"B", many}};
  EXPECT_EQ(code(j), "suite.too_many_cases");
}

TEST_F(SuiteFiles, FormulasUseTheModelsDimensions) {
  Json j = with("/workloads/0/models", {"m"});
  j["workloads"][0]["shapes"] = {{{"N", {"hidden", "hidden/4 + 1"}}}};
  j["workloads"][0]["options"]["eps"] = {"$eps"};
  ASSERT_EQ(code(j), "loaded");
  const OperatorSuite loaded = load().value();
  ASSERT_EQ(loaded.cases().size(), 2u);
  EXPECT_EQ(loaded.cases()[0].id, "scale/N=12,eps=1e-5,x=f32");
  EXPECT_EQ(loaded.cases()[1].id, "scale/N=4,eps=1e-5,x=f32");
  EXPECT_THAT(loaded.cases()[0].tags, testing::UnorderedElementsAre("model:m", "stage:decode"));
  j["workloads"][0]["shapes"] = {{{"N", "hidden/5"}}};
  EXPECT_EQ(code(j), "expression.not_integer");
}

TEST_F(SuiteFiles, EqualCasesAreMergedIntoTheLowerTier) {
  Json j = definition();
  j["workloads"][1] = workload();
  j["workloads"][1]["name"] = "v", j["workloads"][1]["tier"] = "smoke", j["workloads"][1]["tags"] = {"shape:odd"};
  ASSERT_EQ(code(j), "loaded");
  const OperatorSuite loaded = load().value();
  ASSERT_EQ(loaded.cases().size(), 2u);
  EXPECT_EQ(loaded.cases()[0].tier, Tier::kSmoke);
  EXPECT_THAT(loaded.cases()[0].tags, testing::ElementsAre("shape:odd", "stage:decode"));
}

TEST_F(SuiteFiles, OneFileForEachOperatorAndModel) {
  write("a.json", definition());
  write("b.json", definition());
  EXPECT_EQ(load().error().code, "suite.duplicate_operator");
  std::filesystem::remove(folder_ / "b.json");
  std::filesystem::copy(folder_ / "models/m.json", folder_ / "models/n.json");
  EXPECT_EQ(load().error().code, "suite.duplicate_model");
  EXPECT_EQ(OperatorSuite::load((folder_ / "nowhere").string()).error().code, "suite.not_found");
}

TEST_F(SuiteFiles, AnEmptyExtentIsARefusalAndAsksNoConstraint) {
  Json j = with("/constraints/0", "1/N > 0");
  j["workloads"][0]["shapes"] = {{{"N", 0}}};
  ASSERT_EQ(code(j), "loaded");
  EXPECT_EQ(load()->cases()[0].flops, 0);
}

}  // namespace
}  // namespace concord::conformance
