// `concord bench op` as a user meets it. No speed is asserted.
#include <nlohmann/json.hpp>

#include "program.hpp"

namespace {
using namespace cli_test;
using Json = nlohmann::json;

const std::string kCase = "--case add/N=64,R=7,in=uniform,place=0,x=f32 ";

class BenchOpRefusals : public testing::TestWithParam<Row> {};

TEST_P(BenchOpRefusals, EndAsDocumented) {
  const Outcome out = expect_row(GetParam());
  EXPECT_EQ(out.output.find("GFLOP/s"), std::string::npos) << "a table in spite of the refusal:\n" << out.output;
}

INSTANTIATE_TEST_SUITE_P(
    Rows, BenchOpRefusals,
    testing::Values(Row{"bench op --case add/N=1", 2, "case."}, Row{"bench op --case nothing", 2, "case.syntax"},
                    Row{"bench op --backends cpu:none", 3, "cpu:none"}, Row{"bench op -p matches_no_case", 5, "select.nothing"},
                    Row{"bench op --tier daily", 2, "tier"}, Row{"bench op --cache hot", 2, "cache"},
                    Row{"bench op --min-samples 5", 2, "min-samples"}, Row{"bench op --precision 0", 2, "precision"},
                    Row{"bench op --max-seconds -1", 2, "max-seconds"}));

class BenchOp : public Scratch {
 protected:
  Json read(const std::string& name) const {
    std::ifstream in(at(name));
    return Json::parse(in);
  }
};

TEST_F(BenchOp, HasItsTableAndItsFields) {
  const Outcome out = concord("bench op --backends cpu:strict --threads 1 --precision 100 " + kCase + "--json " +
                              at("o.json") + " --markdown " + at("o.md"));
  ASSERT_EQ(out.exit, 0) << out.output;
  for (const char* text :
       {"add/N=64,R=7,in=uniform,place=0,x=f32", "cpu:strict", "warm", "cold", "95 % interval", "of roofline", "PASS",
        "2 measured and verified", "timed in this process", "peaks before / after"})
    EXPECT_NE(out.output.find(text), std::string::npos) << text << "\n" << out.output;
  const Json j = read("o.json");
  EXPECT_EQ(j["schema"], "concord.bench.op/1");
  EXPECT_TRUE(j["provenance"]["program"].contains("commit"));
  ASSERT_EQ(j["measurements"].size(), 2u);
  for (const Json& m : j["measurements"]) {
    EXPECT_EQ(m["status"], "PASS");
    EXPECT_GE(m["time"]["seconds_per_call"].size(), 9u);
    EXPECT_GT(m["rates"]["bytes_per_second"].get<double>(), 0);
    EXPECT_GT(m["rates"]["share_of_roofline"].get<double>(), 0);
    EXPECT_EQ(m["first_call"]["outcome"], "completed");
  }
  EXPECT_GT(j["measurements"][1]["bytes_between_uses"], j["last_level_cache_bytes"]);
  std::ifstream markdown(at("o.md"));
  std::string first;
  std::getline(markdown, first);
  EXPECT_EQ(first.find("| case | device | cache |"), 0u) << first;
}

TEST_F(BenchOp, AnIntervalThatIsNotReachedEndsWithSixWhenStrict) {
  const std::string hopeless = "bench op --backends cpu:strict --cache warm --precision 0.01 --max-seconds 0 " + kCase;
  const Outcome lenient = concord(hopeless), strict = concord(hopeless + "--strict");
  EXPECT_EQ(lenient.exit, 0) << lenient.output;
  EXPECT_NE(lenient.output.find("INSUFFICIENT"), std::string::npos) << lenient.output;
  EXPECT_EQ(strict.exit, 6) << strict.output;
}

TEST_F(BenchOp, WhereNothingIsMeasuredItEndsWithFive) {
  const Outcome out = concord("bench op --backends cpu:strict --case add/N=0,R=7,in=uniform,place=0,x=f32");
  EXPECT_EQ(out.exit, 5) << out.output;
  EXPECT_NE(out.output.find("SKIPPED"), std::string::npos) << out.output;
}

}  // namespace
