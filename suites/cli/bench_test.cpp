// `concord bench` as a user meets it: what it prints and writes, and what it refuses. No speed is asserted.
#include <nlohmann/json.hpp>

#include "program.hpp"

namespace {
using namespace cli_test;
using Json = nlohmann::json;

class BenchRefusals : public testing::TestWithParam<Row> {};

TEST_P(BenchRefusals, EndAsDocumented) {
  const Outcome out = expect_row(GetParam());
  EXPECT_EQ(out.output.find("tokens/s"), std::string::npos) << "a number in spite of the refusal:\n" << out.output;
}

INSTANTIATE_TEST_SUITE_P(Rows, BenchRefusals,
                         testing::Values(Row{"bench", 2, "subcommand"},
                                         Row{"bench model --device cpu:none", 3, "cpu:none"},
                                         Row{"bench model --model /no/such", 2, "file.not_found"},
                                         Row{"bench model --precision f33", 2, "precision.unknown"},
                                         Row{"bench model --prefill 0 --decode 0", 2, "bench.nothing_asked"},
                                         Row{"bench model --prefill 0 --capture every", 2, "bench.nothing_asked"},
                                         Row{"bench model --prefill 0 --states /tmp/s", 2, "bench.nothing_asked"},
                                         Row{"bench model --shape nobody-1b", 2, "bench.unknown_shape"},
                                         Row{"bench model --shape qwen3-30b-a3b", 2, "bench.unsupported_shape"},
                                         Row{"bench model --shape qwen2.5-7b --model x", 2, "bench.model_or_shape"},
                                         Row{"bench model --write /tmp/m", 2, "bench.write_needs_shape"},
                                         Row{"bench model --capture some", 2, "capture"},
                                         Row{"bench model --prefill 100000", 2, "bench.too_long"},
                                         Row{"bench model --verify 100000", 2, "bench.too_long"},
                                         Row{"bench model --prefill -1", 2, "prefill"},
                                         Row{"bench model --repetitions 0", 2, "repetitions"},
                                         Row{"bench compare", 2, "bench.captures_or_elements"},
                                         Row{"bench compare a", 2, "bench.captures_or_elements"},
                                         Row{"bench compare a b --elements 1Ki", 2, "bench.captures_or_elements"},
                                         Row{"bench compare a b --growth", 2, "bench.growth_needs_elements"},
                                         Row{"bench compare a b --keep /tmp", 2, "bench.keep_needs_elements"},
                                         Row{"bench compare /no/such/a /no/such/b", 2, "file.not_found"},
                                         Row{"bench compare --elements 1Ki --dtype f64", 2, "dtype"},
                                         Row{"bench compare --elements many", 2, "elements"},
                                         Row{"bench compare --elements 1Ki --hidden 6", 2, "bench.bad_hidden"},
                                         Row{"bench compare --elements 1Ki --profiles nothing", 2, "profile.unknown"}));

class Bench : public Scratch {
 protected:
  Json read(const std::string& name) const {
    std::ifstream in(at(name));
    return Json::parse(in);
  }
};

TEST_F(Bench, OfAModelHasItsFields) {
  const Outcome out = concord(
      "bench model --device cpu:strict --threads 2 --prefill 12 --decode 3 --prompt 5 --chunk 8 --capture every "
      "--verify 4 "
      "--verify-prompt 6 --repetitions 3 --loads 2 --seed 9 --json " +
      at("m.json"));
  ASSERT_EQ(out.exit, 0) << out.output;
  for (const char* text : {"prefill 12", "decode 3 after 5", "captured (every)", "verify 6 + 4", "tokens/s", "of peak",
                           "peaks before / after", "memory", "seed"})
    EXPECT_NE(out.output.find(text), std::string::npos) << text << "\n" << out.output;
  const Json j = read("m.json");
  EXPECT_EQ(j["schema"], "concord.bench.model/1");
  EXPECT_EQ(j["seed"], 9);
  EXPECT_EQ(j["threads"], 2);
  EXPECT_TRUE(j["provenance"]["program"].contains("commit"));
  EXPECT_TRUE(j["provenance"]["machine"].contains("processor"));
  EXPECT_EQ(j["load"]["seconds"]["samples"].size(), 2u);
  EXPECT_EQ(j["load"]["first_state_seconds"]["samples"].size(), 2u);
  EXPECT_GT(j["memory"]["peak_bytes"].get<double>(), j["memory"]["weight_bytes"].get<double>());
  ASSERT_EQ(j["blocks"].size(), 5u);
  for (const Json& block : j["blocks"]) {
    EXPECT_EQ(block["seconds"]["samples"].size(), 3u) << block["name"];
    EXPECT_GT(block["tokens_per_second"].get<double>(), 0) << block["name"];
    for (const char* when : {"before", "after"}) {
      EXPECT_EQ(block["peaks"][when]["arithmetic"], "f32 SSE2 multiply and add");
      EXPECT_GT(block["peaks"][when]["read_bytes_per_second"].get<double>(), 0);
    }
  }
  EXPECT_EQ(j["blocks"][0]["tokens"], 12);
  EXPECT_EQ(j["blocks"][1]["tokens"], 3);
  EXPECT_TRUE(j["blocks"][2].contains("time_with_over_without"));
  EXPECT_EQ(j["blocks"][2]["name"], "copy_out");
  EXPECT_TRUE(j["blocks"][3].contains("time_with_over_without"));
  EXPECT_TRUE(j["blocks"][4].contains("times_as_fast_as_generating"));
  EXPECT_EQ(j["verification"], "4 of 4 tokens are the verifier's own choice");
}

TEST_F(Bench, OfADeviceWithoutAPeakSaysSo) {
  const Outcome out = concord("bench model --device reference --prefill 2 --decode 0 --repetitions 2");
  ASSERT_EQ(out.exit, 0) << out.output;
  EXPECT_NE(out.output.find("no arithmetic peak"), std::string::npos) << out.output;
  EXPECT_EQ(out.output.find("GFLOP/s;"), std::string::npos) << out.output;
}

TEST_F(Bench, OfTheComparisonHasItsFieldsAndLeavesNothingBehind) {
  const Outcome out = concord(
      "bench compare --elements 16Ki --hidden 64 --dtype f16 --threads 2 --profiles paper,seed --repetitions 3 "
      "--growth --json " +
      at("c.json"));
  ASSERT_EQ(out.exit, 0) << out.output;
  for (const char* text : {"of the speed of reading", "plain read", "above the mapped files", "log-log slope",
                           "paper ACCEPT", "seed ACCEPT"})
    EXPECT_NE(out.output.find(text), std::string::npos) << text << "\n" << out.output;
  const Json j = read("c.json");
  EXPECT_EQ(j["elements"], 16384);
  EXPECT_EQ(j["mapped_bytes"], 2 * 2 * 16384);
  EXPECT_EQ(j["share_of_reading"]["samples"].size(), 3u);
  EXPECT_EQ(j["growth"]["points"].size(), 5u);
  EXPECT_TRUE(j["growth"]["slope"].is_number());
}

TEST_F(Bench, ComparesCapturesGivenByName) {
  const std::string common = "capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:short --out ";
  ASSERT_EQ(concord(common + at("a")).exit, 0);
  ASSERT_EQ(concord(common + at("b")).exit, 0);
  const Outcome out = concord("bench compare " + at("a") + " " + at("b") + " --repetitions 2");
  EXPECT_EQ(out.exit, 0) << out.output;
  EXPECT_NE(out.output.find("of the speed of reading"), std::string::npos) << out.output;
}

}  // namespace
