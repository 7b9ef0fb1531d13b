// concord submit and concord judge from the outside: a small run becomes a bundle, is judged, is tampered with.
#include <nlohmann/json.hpp>

#include "program.hpp"

namespace cli_test {
namespace {

const char* kRun =
    "conform --backends cpu:strict --save all --case add/N=33,R=3,in=uniform,place=0,x=f32 "
    "--case softmax/N=33,R=2,in=gaussian,place=0,x=f32 --out ";

class Bundle : public Scratch {
 protected:
  void SetUp() override {
    Scratch::SetUp();
    const Outcome run = concord(kRun + at("run"));
    ASSERT_EQ(run.exit, 0) << run.output;
    const Outcome made = concord("submit " + at("run") + " --out " + at("bundle") + " --statement 'made by a test'");
    ASSERT_EQ(made.exit, 0) << made.output;
  }
};

TEST_F(Bundle, IsDerivedAgainFromItsOutputsAndIsPartialWithoutAllThatIsRequired) {
  const Outcome judged = concord("judge " + at("bundle") + " --format md=" + at("report.md") +
                                 " --format junit=" + at("report.xml") + " --json");
  EXPECT_EQ(judged.exit, 5) << judged.output;
  const auto json = nlohmann::json::parse(judged.output);
  EXPECT_EQ(json["schema"], "concord.judgement/1");
  EXPECT_FALSE(json["green"]);
  EXPECT_EQ(json["bundles"][0]["from_outputs"], 2);
  EXPECT_TRUE(json["bundles"][0]["contradictions"].empty());
  EXPECT_NE(json["verdict"].get<std::string>().find("PARTIAL"), std::string::npos);
  EXPECT_TRUE(fs::exists(at("report.md")) && fs::exists(at("report.xml")));
}

TEST_F(Bundle, TheSameRunTwiceIsRefused) {
  fs::copy(at("bundle"), at("again"), fs::copy_options::recursive);
  const Outcome judged = concord("judge " + at("bundle") + " " + at("again"));
  EXPECT_EQ(judged.exit, 2);
  EXPECT_NE(judged.output.find("judge.same_run"), std::string::npos) << judged.output;
}

TEST_F(Bundle, AChangedFileIsExitCode2) {
  std::ofstream(at("bundle/cases.jsonl"), std::ios::app) << "\n";
  const Outcome judged = concord("judge " + at("bundle"));
  EXPECT_EQ(judged.exit, 2);
  EXPECT_NE(judged.output.find("bundle.size"), std::string::npos) << judged.output;
}

TEST_F(Bundle, SubmitDoesNotOverwrite) {
  const Outcome again = concord("submit " + at("run") + " --out " + at("bundle"));
  EXPECT_EQ(again.exit, 2);
  EXPECT_NE(again.output.find("submit.target_exists"), std::string::npos) << again.output;
}

TEST(BundleUsage, WrongArgumentsAreExitCode2) {
  for (const char* arguments : {"judge", "judge /nonexistent", "submit /nonexistent --out /tmp/concord-never",
                                "submit .", "judge /nonexistent --recompute some", "judge . --format svg=x"})
    EXPECT_EQ(concord(arguments).exit, 2) << arguments;
}

}  // namespace
}  // namespace cli_test
