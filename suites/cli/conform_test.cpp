// concord conform from the outside: exit codes, selection, resuming, outputs.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>

#include "program.hpp"

namespace cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Conform : public Scratch {
 protected:
  std::string out() const { return " --out " + at("out"); }
  std::vector<std::string> lines(const std::string& name) const {
    std::vector<std::string> all;
    std::ifstream in(at(name));
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  static nlohmann::json parse(const std::string& line) { return nlohmann::json::parse(line); }
};

const std::string kAdd = "'add/N=33,R=3,in=uniform,place=1,x=bf16'";

TEST_F(Conform, AWholeTierOnADeviceWithoutAListIsNoSuccess) {
  const Outcome o = concord("conform --backends reference" + out());
  EXPECT_EQ(o.exit, 5) << o.output;
  EXPECT_THAT(o.output, HasSubstr("PARTIAL: "));
  EXPECT_THAT(o.output, HasSubstr("no required list, so that nothing says what it should have executed"));
}

TEST_F(Conform, ASelectionThatPassesIsPartial) {
  const Outcome o = concord("conform --backends cpu:strict --case " + kAdd + out());
  EXPECT_EQ(o.exit, 0) << o.output;
  EXPECT_THAT(o.output, HasSubstr("PARTIAL: 1 executed of"));
  const auto records = lines("out/cases.jsonl");
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(parse(records[0])["status"], "PASS");
  EXPECT_EQ(parse(records[0])["schema"], "concord.case/1");
}

TEST_F(Conform, AnAbsentDeviceEndsBeforeAnythingRuns) {
  const Outcome o = concord("conform --backends cpu:strict,cpu:none --case " + kAdd + out());
  EXPECT_EQ(o.exit, 3) << o.output;
  EXPECT_THAT(o.output, HasSubstr("device.unknown"));
  EXPECT_FALSE(fs::exists(at("out")));
}

TEST_F(Conform, WhatIsNotThereIsNotGreen) {
  EXPECT_EQ(concord("conform --backends cpu:strict -p no_such_case" + out()).exit, 5);
  EXPECT_EQ(concord("conform --backends cpu:strict --case add/N=1" + out()).exit, 2);
  EXPECT_EQ(concord("conform --backends cpu:strict --format html=x" + out()).exit, 2);
  EXPECT_EQ(concord("conform --backends cpu:strict --format jsonl" + out()).exit, 2);
  EXPECT_EQ(concord("conform --backends cpu:strict --save some --case " + kAdd + out()).exit, 2);
}

// A plug-in of the tests that adds in F32 and nothing else, with one fault per device.
class ConformFaulty : public Conform {
 protected:
  void SetUp() override {
    Conform::SetUp();
    ::setenv("CONCORD_BACKEND_PATH", (std::string(CONCORD_BINARY_DIR) + "/test_plugins/session").c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("CONCORD_BACKEND_PATH");
    Conform::TearDown();
  }
};

TEST_F(ConformFaulty, EverythingUnsupportedIsNothingExecuted) {
  const Outcome o = concord("conform --backends faulty:good --case " + kAdd + out());
  EXPECT_EQ(o.exit, 5) << o.output;
  EXPECT_THAT(o.output, HasSubstr("unsupported: 1 cases on faulty:good"));
}

TEST_F(ConformFaulty, ACrashIsRedAndTheOtherDeviceIsJudged) {
  const Outcome o =
      concord("conform --backends faulty:crash,faulty:good --case 'add/N=33,R=3,in=uniform,place=0,x=f32'" + out());
  EXPECT_EQ(o.exit, 1) << o.output;
  EXPECT_THAT(o.output, HasSubstr("SIGABRT"));
  EXPECT_EQ(parse(lines("out/cases.jsonl").at(1))["status"], "PASS");
  EXPECT_THAT(o.output, HasSubstr("RED: "));
}

TEST_F(Conform, SeveralOutputsOfOneRun) {
  const Outcome o = concord("conform --backends cpu:strict --case " + kAdd + out() +
                            " --format terminal --format jsonl=" + at("a.jsonl") + " --format jsonl=" + at("b.jsonl") +
                            " --format md=" + at("r.md") + " --format junit=" + at("r.xml"));
  EXPECT_EQ(o.exit, 0) << o.output;
  EXPECT_EQ(lines("a.jsonl").size(), 1u);
  EXPECT_EQ(lines("a.jsonl"), lines("b.jsonl"));
  EXPECT_THAT(lines("r.md").at(0), HasSubstr("Operator conformance"));
  EXPECT_THAT(lines("r.svg").at(0), HasSubstr("<svg"));
  EXPECT_THAT(lines("r.xml").at(0), HasSubstr("<?xml"));
  EXPECT_THAT(o.output, HasSubstr("PARTIAL: "));
}

TEST_F(Conform, ResumeDropsATornLineAndRunsTheRest) {
  const std::string arguments = "conform --backends cpu:strict --op add";
  ASSERT_EQ(concord(arguments + out()).exit, 0);
  const auto all = lines("out/cases.jsonl");
  ASSERT_GT(all.size(), 5u);
  std::string some;
  for (std::size_t i = 0; i < 3; ++i) some += all[i] + "\n";
  write("out/cases.jsonl", some + all[3].substr(0, 50));
  EXPECT_EQ(concord(arguments + out()).exit, 2) << "the folder holds a run";
  EXPECT_EQ(concord("conform --backends cpu:strict --op gelu --resume " + at("out")).exit, 2) << "another plan";
  const Outcome o = concord(arguments + " --resume " + at("out"));
  EXPECT_EQ(o.exit, 0) << o.output;
  const auto again = lines("out/cases.jsonl");
  ASSERT_EQ(again.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    EXPECT_EQ(parse(again[i])["evidence"]["output_digest"], parse(all[i])["evidence"]["output_digest"]);
}

// A journal is a file that anybody can write to; what it says of itself is derived again before it counts.
TEST_F(Conform, ResumeBelievesNoRecordThatContradictsItself) {
  const std::string arguments = "conform --backends cpu:strict --op add",
                    resumed = arguments + " --resume " + at("out");
  ASSERT_EQ(concord(arguments + out()).exit, 0);
  auto all = lines("out/cases.jsonl");
  const auto completed = [](const std::string& line) { return parse(line)["evidence"]["outcome"] == "completed"; };
  std::iter_swap(all.begin(), std::ranges::find_if(all, completed));
  std::string rest;
  for (std::size_t i = 1; i < all.size(); ++i) rest += all[i] + "\n";
  struct Row {
    const char* what;
    std::function<std::string(nlohmann::json)> first;
    const char* words;
  };
  const Row kRows[] = {
      {"a case twice", [](const nlohmann::json& r) { return r.dump() + "\n" + r.dump(); }, "two records"},
      {"another program",
       [](nlohmann::json r) {
         r["program"]["commit"] = "0000";
         return r.dump();
       },
       "recheck.origin"},
      {"another machine",
       [](nlohmann::json r) {
         r["machine"]["processor"] = "other";
         return r.dump();
       },
       "recheck.origin"},
      {"another seed",
       [](nlohmann::json r) {
         r["seed"] = 7;
         return r.dump();
       },
       "recheck.origin"},
      {"a fallback that passes",
       [](nlohmann::json r) {
         r["evidence"]["fallbacks"] = 1;
         return r.dump();
       },
       "recheck.contradiction"},
      {"a waiver that is not there",
       [](nlohmann::json r) {
         r["status"] = "WAIVED", r["waiver"] = "mine";
         return r.dump();
       },
       "recheck.contradiction"},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.what);
    write("out/cases.jsonl", row.first(parse(all[0])) + "\n" + rest);
    const Outcome o = concord(resumed);
    EXPECT_EQ(o.exit, 2) << o.output;
    EXPECT_THAT(o.output, HasSubstr(row.words));
  }
  write("out/cases.jsonl", all[0] + "\n" + rest);
  EXPECT_EQ(concord(resumed).exit, 0);
  fs::remove(at("out/run.json"));
  EXPECT_EQ(concord(arguments + out()).exit, 2) << "another run's journal is no place for this one's";
}

// The system ends some process where memory runs out, perhaps this one; a case that cannot fit is refused first.
TEST_F(Conform, ACaseThatCannotFitIsNotRun) {
  if (static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE)) > 1e12)
    GTEST_SKIP() << "it would fit into this machine";
  const Outcome o =
      concord("conform --backends cpu:strict --case 'softmax/N=2147483647,R=3,in=shift,place=0,x=f32'" + out());
  EXPECT_EQ(o.exit, 5) << o.output;
  EXPECT_THAT(o.output, HasSubstr("GiB of memory"));
}

TEST_F(Conform, FromRepeatsWhatDidNotPass) {
  ASSERT_EQ(concord("conform --backends cpu:strict --op add" + out()).exit, 0);
  EXPECT_EQ(concord("conform --from " + at("out/cases.jsonl") + " --out " + at("again")).exit, 5) << "nothing failed";
  auto records = lines("out/cases.jsonl");
  nlohmann::json failed = parse(records[2]);
  failed["status"] = "FAIL";
  write("old.jsonl", records[0] + "\n" + failed.dump() + "\n");
  const Outcome o = concord("conform --from " + at("old.jsonl") + " --out " + at("again"));
  EXPECT_EQ(o.exit, 0) << o.output;
  const auto repeated = lines("again/cases.jsonl");
  ASSERT_EQ(repeated.size(), 1u);
  EXPECT_EQ(parse(repeated[0])["id"], failed["id"]);
  EXPECT_EQ(parse(repeated[0])["device"], "cpu:strict");
  nlohmann::json lost = parse(records[0]), waived = parse(records[1]);
  lost["status"] = "UNSUPPORTED", waived["status"] = "WAIVED", waived["waiver_expired"] = true;
  write("lost.jsonl", lost.dump() + "\n" + waived.dump() + "\n");
  EXPECT_EQ(concord("conform --from " + at("lost.jsonl") + " --out " + at("lost")).exit, 0);
  EXPECT_EQ(lines("lost/cases.jsonl").size(), 2u) << "a lost capability and an expired waiver are red";
  EXPECT_EQ(concord("conform --from " + at("lost.jsonl") + " --case " + kAdd + " --out " + at("both")).exit, 2);
  write("bad.jsonl", "{}\n");
  EXPECT_EQ(concord("conform --from " + at("bad.jsonl") + " --out " + at("third")).exit, 2);
}

TEST_F(Conform, AnInterruptionIsResumable) {
  const std::vector<std::string> arguments{"conform", "--backends", "cpu:strict", "--tier",
                                           "full",    "--op",       "attention"};
  auto first = arguments;
  first.insert(first.end(), {"--out", at("out")});
  const pid_t child = start(first);
  wait_for_lines("out/cases.jsonl", 1);
  ::kill(child, SIGINT);
  EXPECT_EQ(exit_of(child), 130) << text_of("log");
  EXPECT_THAT(text_of("log"), HasSubstr("--resume " + at("out")));
  const auto kept = lines("out/cases.jsonl");
  std::string resumed;
  for (const std::string& a : arguments) resumed += a + " ";
  const Outcome o = concord(resumed + "--resume " + at("out"));
  EXPECT_EQ(o.exit, 0) << o.output;
  const auto all = lines("out/cases.jsonl");
  EXPECT_THAT(o.output, HasSubstr("PARTIAL: " + std::to_string(all.size()) + " executed of"));
  ASSERT_GT(all.size(), kept.size()) << "too fast to be interrupted";
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), all.begin())) << "what was finished is kept as it was";
}

// A default run names the devices that it found, and says why the reference is not among them.
TEST_F(Conform, TheReferenceIsLeftOutAndSaysSo) {
  const Outcome o = concord("conform --case " + kAdd + out());
  EXPECT_THAT(o.output, HasSubstr("the device \"reference\" was left out"));
  for (const std::string& line : lines("out/cases.jsonl")) EXPECT_NE(parse(line)["device"], "reference");
  EXPECT_EQ(concord("conform --backends reference --case " + kAdd + " --out " + at("named")).exit, 0);
}

}  // namespace
}  // namespace cli_test
