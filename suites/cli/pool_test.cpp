// `concord run --devices`: one experiment spread over interchangeable devices. The devices are a test plug-in's, each
// of which computes as the reference does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "program.hpp"

namespace {
using namespace cli_test;
using nlohmann::json;

class Pool : public Scratch {
 protected:
  void SetUp() override {
    Scratch::SetUp();
    ::setenv("CONCORD_BACKEND_PATH", (std::string(CONCORD_BINARY_DIR) + "/test_plugins/twin").c_str(), 1);
    // One prompt and one verifier: small enough that a machine with two processors does it many times over.
    std::ifstream in(kSource + "/suites/verification/exp1.json");
    json suite = json::parse(in);
    suite["prompts"] = {"short"};
    suite["verifiers"] = json::array({{{"threads", 0}, {"chunk", 0}}});
    suite["prover"] = suite["verifier"] = "f32";
    write("tiny.json", suite.dump());
  }
  void TearDown() override {
    ::unsetenv("CONCORD_BACKEND_PATH");
    Scratch::TearDown();
  }
  std::string tiny(int trials) const { return "run " + at("tiny.json") + " --trials " + std::to_string(trials) + " "; }

  // By case id, each once.
  std::map<std::string, json> records(const std::string& folder) const {
    std::map<std::string, json> out;
    std::ifstream in(at(folder + "/records.jsonl"));
    for (std::string line; std::getline(in, line);) {
      json r = json::parse(line, nullptr, false);
      if (r.is_discarded()) continue;
      const std::string id = r["id"];
      EXPECT_TRUE(out.emplace(id, std::move(r)).second) << "two records of " << id;
    }
    return out;
  }
};

// What does not depend on the device that did it, nor on time.
json lasting(json record) {
  for (const char* side : {"prover", "verifier"})
    for (const char* key : {"device", "pool"}) record[side].erase(key);
  for (const char* key : {"cost", "date"}) record.erase(key);
  return record;
}

TEST_F(Pool, TrialsAreSpreadAndTheVerdictsAreThoseOfOneDevice) {
  const Outcome one = concord(tiny(5) + "--devices twin:0 --out " + at("one"));
  ASSERT_EQ(one.exit, 0) << one.output;
  const Outcome two = concord(tiny(5) + "--devices twin:0,twin:1 --out " + at("two"));
  ASSERT_EQ(two.exit, 0) << two.output;
  EXPECT_NE(two.output.find("GREEN: 5 executed of 5 required"), std::string::npos) << two.output;
  const auto expected = records("one"), found = records("two");
  ASSERT_EQ(expected.size(), 5u);
  ASSERT_EQ(found.size(), 5u);
  for (const auto& [id, r] : found) {
    ASSERT_TRUE(expected.contains(id)) << id;
    EXPECT_EQ(lasting(r), lasting(expected.at(id)))
        << "placement must not change what is computed, nor nonces and seeds";
    EXPECT_FALSE(expected.at(id)["prover"].contains("pool"));
    const int trial = r["trial"];
    EXPECT_EQ(r["prover"]["device"], trial % 2 ? "twin:1" : "twin:0") << id;
    EXPECT_EQ(r["verifier"]["device"], trial % 2 ? "twin:0" : "twin:1") << id << ": another device judges";
    EXPECT_EQ(r["prover"]["pool"], "twin:0");
    EXPECT_TRUE(id.find("twin:0>twin:0") != std::string::npos) << id;
  }
  const std::string report = text_of("two/report.md");
  EXPECT_NE(report.find("--devices twin:0,twin:1"), std::string::npos) << report;
  EXPECT_NE(report.find("stands for 2 interchangeable devices"), std::string::npos) << report;
}

// Each device waits in its first call for the other one's: were they used one after the other, both would give up and
// fail.
TEST_F(Pool, MembersWorkAtTheSameTime) {
  fs::create_directories(at("meet"));
  ::setenv("CONCORD_TEST_TWINS_MEET", at("meet").c_str(), 1);
  const Outcome out = concord(tiny(2) + "--devices twin:0,twin:1 --out " + at("two"));
  fs::remove_all(at("meet"));
  fs::create_directories(at("meet"));
  const Outcome alone = concord(tiny(1) + "--devices twin:0 --out " + at("one"), "CONCORD_TEST_TWINS_PATIENCE=1 ");
  ::unsetenv("CONCORD_TEST_TWINS_MEET");
  EXPECT_EQ(out.exit, 0) << out.output;
  EXPECT_EQ(alone.exit, 1) << "the meeting can fail\n" << alone.output;
  EXPECT_NE(alone.output.find("the other twin did not come"), std::string::npos) << alone.output;
}

TEST_F(Pool, OtherDevicesTakePartBesideThePool) {
  std::ifstream in(at("tiny.json"));
  json suite = json::parse(in);
  suite["pairs"] = "cross", suite["id"] = "tiny2";
  write("cross.json", suite.dump());
  const std::string run = "run " + at("tiny.json") + " " + at("cross.json") + " --trials 2 --devices twin:0,twin:1 ";
  EXPECT_EQ(concord("run " + at("cross.json") + " --devices twin:0,twin:1 --out " + at("alone")).exit, 5)
      << "a pool is one device: it is no pair with itself";
  const Outcome out = concord(run + "--backends twin:2 --out " + at("r"));
  ASSERT_EQ(out.exit, 0) << out.output;
  std::map<std::string, std::set<std::string>> ran;  // "experiment/prover>verifier" -> the devices that did it
  for (const auto& [id, r] : records("r"))
    ran[id.substr(0, id.find("/short"))].insert(r["prover"]["device"].get<std::string>() + ">" +
                                                r["verifier"]["device"].get<std::string>());
  const std::map<std::string, std::set<std::string>> expected{
      {"exp1/twin:0>twin:0", {"twin:0>twin:1", "twin:1>twin:0"}},
      {"exp1/twin:2>twin:2", {"twin:2>twin:2"}},
      {"tiny2/twin:0>twin:2", {"twin:0>twin:2", "twin:1>twin:2"}},
      {"tiny2/twin:2>twin:0", {"twin:2>twin:0", "twin:2>twin:1"}}};
  EXPECT_EQ(ran, expected);
}

TEST_F(Pool, DevicesThatCannotStandForEachOtherAreRefused) {
  const struct {
    const char* devices;
    int exit;
    const char* printed;
  } kRows[] = {
      {"twin:0,twin:4", 3, "it fell off the bus"},
      {"twin:0,twin:9", 3, "found: twin:0"},
      {"twin:0,twin:2", 2, "the architecture of twin:0 is \"portable C++\", that of twin:2 is \"another\""},
      {"twin:0,twin:3", 2, "the features of twin:0 is \"f64\", that of twin:3 is \"f64,more\""},
      {"twin:0,twin:1:portable", 2, "the kind of twin:0 is \"twin\", that of twin:1:portable is \"twin:portable\""},
      {"twin:0,twin:1,twin:0", 2, "names twin:0 twice"},
      {"twin,twin:0", 2, "names twin:0 twice"},
      {"twin:0,twin:1 --backends twin:1", 2, "--backends names twin:1, which is one of --devices"},
      {"twin:0,twin:1 --backends twin", 2, "--backends names twin:0, which is one of --devices"},
  };
  for (const auto& row : kRows) {
    const Outcome out = concord(tiny(1) + "--out " + at("never") + " --devices " + row.devices);
    EXPECT_EQ(out.exit, row.exit) << row.devices << "\n" << out.output;
    EXPECT_NE(out.output.find(row.printed), std::string::npos) << out.output;
  }
  EXPECT_FALSE(fs::exists(at("never")));
  ::setenv("CONCORD_BACKEND_PATH", (std::string(CONCORD_BINARY_DIR) + "/bin").c_str(), 1);
  const Outcome variants = concord(tiny(1) + "--out " + at("never") + " --devices cpu:strict,reference");
  EXPECT_EQ(variants.exit, 2) << variants.output;
  EXPECT_NE(variants.output.find("the backend of cpu:strict is \"cpu\""), std::string::npos) << variants.output;
}

TEST_F(Pool, AKilledWorkerCostsItsCaseAlone) {
  const pid_t child = start({"run", at("tiny.json"), "--trials", "12", "--devices", "twin:0,twin:1", "--out", at("r")});
  wait_for_lines("r/records.jsonl", 2);
  const auto workers = workers_of(child);
  ASSERT_TRUE(workers.contains("twin:1")) << workers.size();
  for (const pid_t worker : workers.at("twin:1")) ::kill(worker, SIGKILL);
  EXPECT_EQ(exit_of(child), 1) << text_of("log");
  const auto all = records("r");
  EXPECT_EQ(all.size(), 12u);
  std::size_t crashed = 0;
  for (const auto& [id, r] : all) {
    if (r["status"] == "PASS") continue;
    ++crashed;
    EXPECT_EQ(r["status"], "CRASH") << r;
    EXPECT_NE(r["reason"].get<std::string>().find("twin:1"), std::string::npos) << r["reason"];
    EXPECT_TRUE(r["prover"]["device"] == "twin:1" || r["verifier"]["device"] == "twin:1") << r;
  }
  EXPECT_EQ(crashed, 1u) << text_of("log");
}

TEST_F(Pool, AnInterruptStopsAllTracksAndResumeCompletesThem) {
  const std::vector<std::string> arguments{"run", at("tiny.json"), "--trials", "12", "--devices", "twin:0,twin:1"};
  auto first = arguments;
  first.insert(first.end(), {"--out", at("r")});
  const pid_t child = start(first);
  wait_for_lines("r/records.jsonl", 2);
  ::kill(child, SIGINT);
  ASSERT_EQ(exit_of(child), 130) << text_of("log");
  EXPECT_TRUE(workers_of(child).empty());
  const auto before = records("r");
  EXPECT_GE(before.size(), 2u);
  EXPECT_LT(before.size(), 12u) << "too fast to be interrupted";
  for (const char* other : {"--backends twin:0", "--devices twin:0", "--devices twin:1,twin:0"})
    EXPECT_EQ(concord(tiny(12) + other + std::string(" --resume ") + at("r")).exit, 2) << other << ": another plan";
  std::string line;
  for (const std::string& a : arguments) line += a + " ";
  const Outcome out = concord(line + "--resume " + at("r"));
  EXPECT_EQ(out.exit, 0) << out.output;
  EXPECT_NE(out.output.find("GREEN: 12 executed of 12 required"), std::string::npos) << out.output;
  const auto after = records("r");
  EXPECT_EQ(after.size(), 12u);
  for (const auto& [id, r] : before) EXPECT_EQ(after.at(id), r) << "what was finished is kept as it was";
}

// The report is made of the records in the order of the plan, whatever order they were finished in.
TEST_F(Pool, TheReportDoesNotDependOnTheOrderOfTheJournal) {
  const std::string run = tiny(4) + "--devices twin:0,twin:1 ";
  ASSERT_EQ(concord(run + "--out " + at("r")).exit, 0);
  ASSERT_EQ(concord(run + "--resume " + at("r")).exit,
            0);  // everything is there: the report is of the journal alone, as it is below
  const std::string report = text_of("r/report.md"), journal = text_of("r/records.jsonl");
  std::vector<std::string> lines;
  for (std::size_t at = 0, end; (end = journal.find('\n', at)) != std::string::npos; at = end + 1)
    lines.push_back(journal.substr(at, end - at + 1));
  std::ranges::reverse(lines);
  std::string reversed;
  for (const std::string& l : lines) reversed += l;
  ASSERT_NE(reversed, journal);
  write("r/records.jsonl", reversed);
  ASSERT_EQ(concord(run + "--resume " + at("r")).exit, 0);
  EXPECT_EQ(text_of("r/report.md"), report);
}

}  // namespace
