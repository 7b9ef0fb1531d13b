// The concord program as a user meets it: commands, wrong input, exit codes, interruption. Each row is a command line, the exit code and what must be printed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "program.hpp"

namespace {
using namespace cli_test;

class CommandLine : public testing::TestWithParam<Row> {};

TEST_P(CommandLine, EndsAsDocumented) { expect_row(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Rows, CommandLine,
    testing::Values(Row{"--version", 0, "concord 0."}, Row{"--help", 0, "Exit codes"}, Row{"", 2, "subcommand"}, Row{"no-such-command", 2, ""},
                    Row{"run --no-such-option", 2, ""}, Row{"doctor", 0, "cpu:strict"}, Row{"doctor --require-backends cuda", 3, "cuda"},
                    Row{"run exp1 --require-backends cuda", 3, "cuda"}, Row{"run exp1 --backends no-such-device", 3, "no-such-device"},
                    Row{"run exp2 --backends cpu:strict --out /tmp/concord-cli-never", 5, "needs two devices"}, Row{"run exp9", 2, "file.not_found"},
                    Row{"run exp1 exp1", 2, "named twice"}, Row{"run exp1 --model /no/such/model", 2, "file.not_found"},
                    Row{"run exp1 --trials 0", 2, "trials"}, Row{"run exp1 --layers 99 --backends cpu:strict --out /proc/concord", 2, ""},
                    Row{"run exp1 --workload suites/workloads/smollm2-prompts.json", 2, "workload.wrong_tokenizer"},
                    Row{"run exp1 --workload suites/workloads/byte-prompts.json:nobody", 5, "nobody"},
                    Row{"capture --precision f33 --out /tmp/x", 2, "precision.unknown"}, Row{"capture --backend cpu:none --out /tmp/x", 3, "cpu:none"},
                    Row{"checkpoint inspect fixtures/models/concord-byte-3m", 0, "model.embed_tokens.weight"},
                    Row{"checkpoint inspect README.md", 2, "byte"}, Row{"checkpoint inspect /dev/zero", 2, "file.not_regular"},
                    Row{"compare /no/such/a /no/such/b", 2, "file.not_found"}, Row{"inspect README.md", 2, ""}));

class Captures : public Scratch {};

TEST_F(Captures, ProveVerifyCompareInspectAndOpen) {
  const std::string common = " --workload suites/workloads/byte-prompts.json:short --precision f32 ";
  ASSERT_EQ(concord("capture --backend cpu:strict" + common + "--out " + at("p")).exit, 0);
  const Outcome verified = concord("capture --backend reference" + common + "--replay " + at("p") + " --out " + at("v"));
  ASSERT_EQ(verified.exit, 0) << verified.output;
  EXPECT_NE(verified.output.find("16 of 16 tokens"), std::string::npos) << verified.output;
  const Outcome compared = concord("compare " + at("p") + " " + at("v") + " --profile paper,seed,rel-l2");
  EXPECT_EQ(compared.exit, 0) << compared.output;
  EXPECT_NE(compared.output.find("ACCEPT"), std::string::npos);
  EXPECT_EQ(concord("inspect --verify " + at("p")).exit, 0);
  EXPECT_EQ(concord("open " + at("p") + " --layer 8 --chunk 0 --out " + at("o.json")).exit, 0);
}

// Where a device sums every token alone, the company it has in a step must not show: equal Merkle roots.
TEST_F(Captures, ABatchAndChunksChangeNoBit) {
  const std::string common = "capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:short --layers all --positions all --json --out ";
  const auto root = [&](const std::string& options) {
    const Outcome out = concord(common + at("c") + options);
    EXPECT_EQ(out.exit, 0) << out.output;
    const std::size_t at = out.output.find("\"root\": \"");
    return at == std::string::npos ? std::string() : out.output.substr(at + 9, 64);
  };
  const std::string alone = root("");
  EXPECT_EQ(alone.size(), 64u);
  EXPECT_EQ(root(" --batch 4"), alone);
  EXPECT_EQ(root(" --batch 3 --chunk 5 --threads 1"), alone);
  EXPECT_EQ(concord(common + at("v") + " --batch 2 --replay " + at("c")).exit, 2);
}

TEST_F(Captures, SampledTokensAreTheSameOnEveryBackend) {
  const std::string common = " --workload suites/workloads/byte-sampled.json:medium --precision f32 ";
  std::string tokens;
  for (const char* device : {"reference", "cpu:strict"}) {
    const Outcome out = concord("capture --backend " + std::string(device) + common + "--out " + at("s"));
    ASSERT_EQ(out.exit, 0) << out.output;
    const std::size_t begin = out.output.find("tokens    ");
    ASSERT_NE(begin, std::string::npos);
    const std::string line = out.output.substr(begin, out.output.find('\n', begin) - begin);
    EXPECT_GT(line.size(), 60u);
    if (tokens.empty()) tokens = line;
    EXPECT_EQ(line, tokens);
  }
  const Outcome greedy = concord("capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:medium --precision f32 --out " + at("g"));
  EXPECT_EQ(greedy.output.find(tokens), std::string::npos) << "sampling chose exactly the greedy tokens";
}

TEST_F(Captures, OfDifferentWorkloadsAreRefusedWithTheFieldsThatDiffer) {
  ASSERT_EQ(concord("capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:short --out " + at("a")).exit, 0);
  ASSERT_EQ(concord("capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:medium --out " + at("b")).exit, 0);
  const Outcome out = concord("compare " + at("a") + " " + at("b") + " --profile seed");
  EXPECT_EQ(out.exit, 2) << out.output;
  for (const char* field : {"compare.different_workload", "workload", "tokens", "positions"}) EXPECT_NE(out.output.find(field), std::string::npos) << out.output;
  EXPECT_EQ(concord("capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:medium --replay " + at("a") + " --out " + at("c")).exit, 2);
  EXPECT_FALSE(fs::exists(at("c")));
}

TEST_F(Captures, AFlippedBitIsSeen) {
  ASSERT_EQ(concord("capture --backend cpu:strict --workload suites/workloads/byte-prompts.json:short --out " + at("a")).exit, 0);
  fs::copy(at("a"), at("b"));
  {
    std::fstream file(at("b"), std::ios::in | std::ios::out | std::ios::binary);
    std::uint64_t header = 0;  // the states follow the safetensors header
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    const auto place = static_cast<std::streamoff>(8 + header + 1000);
    file.seekg(place);
    const char byte = static_cast<char>(file.get());
    file.seekp(place);
    file.put(static_cast<char>(byte ^ 1));
  }
  const Outcome out = concord("compare " + at("a") + " " + at("b") + " --profile seed");
  EXPECT_EQ(out.exit, 2) << out.output;
  EXPECT_NE(out.output.find("root_mismatch"), std::string::npos) << out.output;
}

class Runs : public Scratch {};

TEST_F(Runs, AQuantisedProverIsCaughtAndAWrongExpectationIsRed) {
  const Outcome honest = concord("run exp1 --backends cpu:strict --workload suites/workloads/byte-prompts.json:short --out " + at("r1"));
  EXPECT_EQ(honest.exit, 0) << honest.output;
  EXPECT_NE(honest.output.find("GREEN: 3 executed of 3 required"), std::string::npos) << honest.output;
  std::ifstream in(kSource + "/suites/verification/exp3.json");
  std::string suite((std::istreambuf_iterator<char>(in)), {});
  suite.replace(suite.find("\"reject\""), 8, "\"accept\"");
  write("exp3-wrong.json", suite);
  const Outcome wrong = concord("run " + at("exp3-wrong.json") + " --backends cpu:strict --workload suites/workloads/byte-prompts.json:short --out " + at("r2"));
  EXPECT_EQ(wrong.exit, 1) << wrong.output;
  EXPECT_NE(wrong.output.find("RED: 3 executed of 3 required, 0 as expected"), std::string::npos) << wrong.output;
}

// A device that runs out of memory costs its cases, by name, and nothing else: the worker that said so serves the next case.
TEST_F(Runs, ADeviceOutOfMemoryIsOomAndNotACrash) {
  const std::string folders = std::string(CONCORD_BINARY_DIR) + "/test_plugins/late:" + CONCORD_BINARY_DIR + "/bin";
  const std::string arguments = "exp1 --backends late:all --workload suites/workloads/byte-prompts.json:short --out ";
  ::setenv("CONCORD_BACKEND_PATH", folders.c_str(), 1);
  ::setenv("CONCORD_TEST_LIMIT", "100000", 1);  // bytes: not enough for the weights
  const Outcome out = concord("run " + arguments + at("small"));
  ::unsetenv("CONCORD_TEST_LIMIT");
  const Outcome whole = concord("run " + arguments + at("whole"));
  ::unsetenv("CONCORD_BACKEND_PATH");
  EXPECT_EQ(out.exit, 1) << out.output;
  const auto read = [&](const std::string& name) {
    std::ifstream in(at(name));
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  const std::string small = read("small/records.jsonl");
  EXPECT_NE(small.find("\"status\":\"OOM\""), std::string::npos) << small;
  EXPECT_NE(small.find("device.out_of_memory"), std::string::npos) << small;
  EXPECT_EQ(small.find("CRASH"), std::string::npos) << small;
  EXPECT_EQ(whole.exit, 0) << whole.output;
  const std::string records = read("whole/records.jsonl");
  EXPECT_NE(records.find("\"digests\":\"computed by this device\""), std::string::npos) << records.substr(0, 3000);
  EXPECT_EQ(records.find("\"device_memory_peak\":{\"prover\":null"), std::string::npos);
}

TEST_F(Runs, UnsupportedCasesAreNeverCountedAsPassed) {
  std::ifstream in(kSource + "/suites/verification/exp1.json");
  std::string suite((std::istreambuf_iterator<char>(in)), {});
  for (std::size_t i; (i = suite.find("\"bf16\"")) != std::string::npos;) suite.replace(i, 6, "\"f32/f64\"");
  write("exp1-f64.json", suite);
  const Outcome out = concord("run " + at("exp1-f64.json") + " --backends cpu:strict --workload suites/workloads/byte-prompts.json:short --out " + at("r"));
  EXPECT_EQ(out.exit, 5) << out.output;
  EXPECT_NE(out.output.find("UNSUPPORTED"), std::string::npos) << out.output;
  EXPECT_NE(out.output.find("RED: 0 executed of 3 required"), std::string::npos) << out.output;
}

TEST_F(Runs, ResumingUnderOtherThresholdsIsRefused) {
  fs::copy(kSource + "/suites", at("suites"), fs::copy_options::recursive);
  ::setenv("CONCORD_SUITES", at("suites").c_str(), 1);
  const std::string arguments = "run exp1 --backends cpu:strict --workload suites/workloads/byte-prompts.json:short ";
  EXPECT_EQ(concord(arguments + "--out " + at("r")).exit, 0);
  EXPECT_EQ(concord(arguments + "--resume " + at("r")).exit, 0);
  std::ifstream in(at("suites/profiles/rel-l2.json"));
  std::string profile((std::istreambuf_iterator<char>(in)), {});
  ASSERT_NE(profile.find("0.024"), std::string::npos);
  write("suites/profiles/rel-l2.json", profile.replace(profile.find("0.024"), 5, "0.9"));
  const Outcome out = concord(arguments + "--resume " + at("r"));
  ::unsetenv("CONCORD_SUITES");
  EXPECT_EQ(out.exit, 2) << out.output;
  EXPECT_NE(out.output.find("rules_sha256"), std::string::npos) << out.output;
}

TEST_F(Runs, AKilledWorkerCostsOneCaseAndIsNamed) {
  const pid_t child = start({"run", "exp1", "--backends", "cpu:strict", "--trials", "4", "--out", at("r")});
  wait_for_lines("r/records.jsonl", 1);
  std::vector<pid_t> workers;  // of one device, one for each number of threads that is in use
  for (const auto& [device, pids] : workers_of(child)) workers.insert(workers.end(), pids.begin(), pids.end());
  ASSERT_FALSE(workers.empty());
  for (const pid_t worker : workers) ::kill(worker, SIGKILL);
  EXPECT_EQ(exit_of(child), 1);
  const std::string log = text_of("log");
  EXPECT_NE(log.find("CRASH"), std::string::npos) << log;
  EXPECT_NE(log.find("signal 9"), std::string::npos) << log;
  EXPECT_NE(log.find("of 36 required"), std::string::npos) << log;
  std::ifstream journal(at("r/records.jsonl"));
  std::size_t passed = 0, crashed = 0;
  for (std::string line; std::getline(journal, line);) {
    passed += line.find("\"status\":\"PASS\"") != std::string::npos;
    crashed += line.find("\"status\":\"CRASH\"") != std::string::npos;
  }
  EXPECT_GE(crashed, 1u);
  EXPECT_LE(crashed, workers.size());  // each dead worker costs the case that met it, no more
  EXPECT_EQ(passed + crashed, 36u);
}

TEST_F(Runs, AnInterruptKeepsWhatWasFinishedAndResumeCompletesIt) {
  const std::string arguments = "run exp1 --backends cpu:strict --trials 8 ";
  const pid_t child = start({"run", "exp1", "--backends", "cpu:strict", "--trials", "8", "--out", at("r")});
  wait_for_lines("r/records.jsonl", 1);
  ::kill(child, SIGINT);
  ASSERT_EQ(exit_of(child), 130) << text_of("log");
  const std::string log = text_of("log");
  EXPECT_NE(log.find("--resume"), std::string::npos) << log;
  const auto before = fs::file_size(at("r/records.jsonl"));
  EXPECT_GT(before, 0u);
  EXPECT_EQ(concord("run exp1 --backends cpu:strict --trials 7 --resume " + at("r")).exit, 2) << "another plan must be refused";
  std::ofstream(at("r/records.jsonl"), std::ios::app) << "{\"schema\":\"concord.rec";  // what a crash in the middle of a write leaves
  const Outcome out = concord(arguments + "--resume " + at("r"));
  EXPECT_EQ(out.exit, 0) << out.output;
  EXPECT_NE(out.output.find("GREEN: 72 executed of 72 required"), std::string::npos) << out.output;
}

}  // namespace
