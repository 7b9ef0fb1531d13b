// Sessions with workers that misbehave, and with the real plug-ins. This program is its own worker: `op-worker` as its
// first argument.
#include "conformance/run/session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.hpp"
#include "conformance/run/verdict.hpp"

namespace concord::conformance {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const char* const kAdd = "add/N=5,R=4,in=uniform,place=0,x=f32";
const char* const kAddExact = "add/N=3,R=2,in=exact,place=0,x=f32";
const char* const kEmpty = "add/N=0,R=4,in=uniform,place=0,x=f32";

PlannedCase planned(const std::string& id) {
  PlannedCase c{.spec = *CaseSpec::parse(id), .id = id, .family = "activation", .tags = {"shape:test"}};
  c.bytes = c.flops = 20;
  return c;
}

std::vector<PlannedCase> plan_of(const std::vector<std::string>& ids) {
  std::vector<PlannedCase> plan;
  for (const std::string& id : ids) plan.push_back(planned(id));
  return plan;
}

class SessionTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("concord-session-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    settings_.program = "/proc/self/exe";
    settings_.backend_path = std::string(CONCORD_BINARY_DIR) + "/test_plugins/session";
    settings_.today = "2026-11-21";
    settings_.timeout = std::chrono::seconds(20);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<CaseRecord> run(const std::vector<std::string>& ids, const std::vector<CaseRecord>& done = {}) {
    auto records = run_cases(plan_of(ids), done, settings_, progress_, stop_);
    EXPECT_TRUE(records) << records.error().to_string();
    return records ? *records : std::vector<CaseRecord>();
  }
  CaseRecord one(const std::string& device, const std::string& id = kAdd) {
    settings_.devices = {device};
    const auto records = run({id});
    return records.size() == 1 ? records[0] : CaseRecord();
  }

  fs::path folder_;
  SessionSettings settings_;
  SessionProgress progress_;
  std::atomic<bool> stop_{false};
};

struct Row {
  const char* device;
  CaseStatus status;
  const char *check, *words;
};

TEST_F(SessionTest, EveryFaultHasItsStatusAndCheck) {
  const Row kRows[] = {
      {"good", CaseStatus::kPass, "none", ""},
      {"crash", CaseStatus::kCrash, "outcome", "SIGABRT"},
      {"exit", CaseStatus::kCrash, "outcome", "exited with code 0"},
      {"kill", CaseStatus::kOom, "outcome", "by inference"},
      {"oom", CaseStatus::kOom, "outcome", "42 bytes were wanted"},
      {"error", CaseStatus::kError, "outcome", "on fire"},
      {"nothing", CaseStatus::kFail, "unwritten", "never written"},
      {"stale", CaseStatus::kNondeterministic, "determinism", "0 of 1 repetitions"},
      {"lost_transfer", CaseStatus::kFail, "guard", ""},
      {"input", CaseStatus::kFail, "input", "its input b"},
      {"guard", CaseStatus::kFail, "guard", "behind its end"},
      {"fallback", CaseStatus::kFail, "fallback", "moved by"},
      {"no_kernel", CaseStatus::kError, "witness", ""},
      {"other_kernel", CaseStatus::kFail, "witness", "another kernel"},
      {"varying_kernel", CaseStatus::kPass, "none", ""},
      {"varying_wrong", CaseStatus::kFail, "bound", ""},
      {"threads", CaseStatus::kNondeterministic, "determinism", "0 of 2 thread counts"},
      {"rows", CaseStatus::kNondeterministic, "determinism", "0 of 3 rows alone"},
      {"invalid", CaseStatus::kError, "refusal", ""},
      {"wrong", CaseStatus::kFail, "bound", "1 of 20 elements"},
      {"open_crash", CaseStatus::kCrash, "outcome", "while the worker started"},
      {"open_fails", CaseStatus::kError, "outcome", "the driver is missing"},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.device);
    const CaseRecord r = one(std::string("faulty:") + row.device);
    EXPECT_STREQ(status_name(r.status), status_name(row.status)) << r.reason;
    EXPECT_EQ(r.check, row.check) << r.reason;
    EXPECT_THAT(r.reason, HasSubstr(row.words));
  }
}

TEST_F(SessionTest, AHangCostsOneCaseAndIsNamed) {
  settings_.timeout = std::chrono::milliseconds(700);
  const auto begin = std::chrono::steady_clock::now();
  const CaseRecord r = one("faulty:hang");
  EXPECT_EQ(r.status, CaseStatus::kTimeout) << r.reason;
  EXPECT_THAT(r.reason, HasSubstr("0.7 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(SessionTest, AnExtentOfZeroMustBeRefused) {
  EXPECT_EQ(one("faulty:good", kEmpty).status, CaseStatus::kPass);
  const CaseRecord r = one("faulty:accepts_empty", kEmpty);
  EXPECT_EQ(r.status, CaseStatus::kFail);
  EXPECT_EQ(r.check, "refusal");
}

TEST_F(SessionTest, UnsupportedIsARecordWithItsReason) {
  const CaseRecord r = one("faulty:good", "softmax/N=4,R=2,in=gaussian,place=0,x=f32");
  EXPECT_EQ(r.status, CaseStatus::kUnsupported);
  EXPECT_THAT(r.reason, HasSubstr("it can only add"));
  EXPECT_TRUE(r.evidence.outputs.empty());
}

// The crash of one device neither stops the session nor touches another device's cases.
TEST_F(SessionTest, ACrashCostsOneCaseOnOneDevice) {
  settings_.devices = {"faulty:crash", "faulty:good"};
  const auto records = run({kAdd, "softmax/N=4,R=2,in=gaussian,place=0,x=f32", kAddExact});
  ASSERT_EQ(records.size(), 6u);
  const CaseStatus expected[] = {CaseStatus::kCrash,       CaseStatus::kPass,  CaseStatus::kUnsupported,
                                 CaseStatus::kUnsupported, CaseStatus::kCrash, CaseStatus::kPass};
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_STREQ(status_name(records[i].status), status_name(expected[i]))
        << records[i].key() << ": " << records[i].reason;
}

TEST_F(SessionTest, ADeviceThatCannotBeStartedIsGivenUp) {
  settings_.devices = {"faulty:open_crash"};
  const auto records =
      run({kAdd, kAddExact, "add/N=1,R=1,in=uniform,place=0,x=f32", "add/N=2,R=1,in=uniform,place=0,x=f32"});
  ASSERT_EQ(records.size(), 4u);
  EXPECT_THAT(records[3].reason, HasSubstr("given up"));
  EXPECT_EQ(records[3].status, CaseStatus::kError);
}

TEST_F(SessionTest, RecordsHoldWhatIsNeededToDecideAgain) {
  settings_.folder = folder_.string();
  settings_.devices = {"faulty:good"};
  settings_.witness = {{"faulty:good", "add: faulty 0*"}};
  run({kAdd, kEmpty, kAddExact});
  const auto journal = read_case_journal((folder_ / "cases.jsonl").string());
  ASSERT_TRUE(journal) << journal.error().to_string();
  ASSERT_EQ(journal->records.size(), 3u);
  for (const CaseRecord& r : journal->records) {
    const Decision d = decide(*CaseSpec::parse(r.id), r.evidence, r.body["witness_pattern"].get<std::string>());
    EXPECT_EQ(d.status, r.status);
    EXPECT_EQ(d.status, CaseStatus::kPass) << d.reason;
    EXPECT_EQ(d.reason, r.reason);
    for (const char* key : {"tier", "tags", "seed", "facts", "program", "machine", "date", "repro"})
      EXPECT_TRUE(r.body.contains(key)) << key;
  }
  EXPECT_EQ(journal->records[0].body["repro"],
            std::string("concord conform --case '") + kAdd + "' --backends faulty:good --seed 0");
  const Evidence& e = journal->records[0].evidence;
  EXPECT_EQ(e.again.repeats_equal, 1u);
  EXPECT_EQ(e.again.threads_equal, (std::vector<std::uint32_t>{1, 3}));
  EXPECT_EQ(e.again.rows_equal, 3u);
  EXPECT_EQ(e.output_digest.size(), 64u);
}

TEST_F(SessionTest, AnotherKernelThanTheListSaysIsAFailure) {
  settings_.witness = {{"faulty:good", "add: cpu*"}};
  EXPECT_EQ(one("faulty:good").check, "witness");
}

TEST_F(SessionTest, WaiversApply) {
  settings_.waivers = {{.id = "known",
                        .cases = "add/*",
                        .devices = {"faulty:crash"},
                        .statuses = {CaseStatus::kCrash},
                        .reason = "r",
                        .link = "l",
                        .expires = "2026-12-31"}};
  EXPECT_EQ(one("faulty:crash").status, CaseStatus::kWaived);
  EXPECT_EQ(one("faulty:crash").waiver, "known");
  settings_.today = "2027-01-01";
  EXPECT_EQ(one("faulty:crash").status, CaseStatus::kCrash);
  EXPECT_TRUE(one("faulty:crash").waiver_expired);
}

TEST_F(SessionTest, WrongOutputsAreSaved) {
  settings_.folder = folder_.string();
  const CaseRecord wrong = one("faulty:wrong");
  const fs::path file = folder_ / wrong.body["saved"]["file"].get<std::string>();
  EXPECT_EQ(fs::file_size(file), 80u);
  EXPECT_EQ(wrong.body["saved"]["outputs"][0]["dims"], (OrderedJson{4, 5}));
  EXPECT_FALSE(one("faulty:good").body.contains("saved"));
  settings_.save = Save::kAll;
  EXPECT_TRUE(one("faulty:good").body.contains("saved"));
  settings_.save = Save::kNone;
  EXPECT_FALSE(one("faulty:wrong").body.contains("saved"));
}

TEST_F(SessionTest, WhatIsDoneIsNotRunAgain) {
  settings_.devices = {"faulty:good"};
  settings_.folder = folder_.string();
  auto done = run({kAdd});
  done[0].reason = "from the earlier journal";
  int ran = 0;
  progress_.after = [&](const CaseRecord&) { ++ran; };
  const auto records = run({kAdd, kAddExact}, done);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].reason, "from the earlier journal");
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(read_case_journal((folder_ / "cases.jsonl").string())->records.size(), 2u);
}

TEST_F(SessionTest, AnInterruptionKeepsWhatIsFinished) {
  settings_.devices = {"faulty:good"};
  settings_.folder = folder_.string();
  progress_.after = [&](const CaseRecord&) { stop_ = true; };
  const auto records = run_cases(plan_of({kAdd, kAddExact}), {}, settings_, progress_, stop_);
  ASSERT_FALSE(records);
  EXPECT_EQ(records.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(read_case_journal((folder_ / "cases.jsonl").string())->records.size(), 1u);
}

TEST_F(SessionTest, AnInterruptionEndsAHangingCase) {
  settings_.devices = {"faulty:hang"};
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    stop_ = true;
  });
  const auto records = run_cases(plan_of({kAdd}), {}, settings_, progress_, stop_);
  ASSERT_FALSE(records);
  EXPECT_EQ(records.error().code, "session.interrupted");
}

// A few cases of each kind on the real plug-ins: every one comes out PASS or UNSUPPORTED, and the first device supports
// them all.
TEST_F(SessionTest, RealPluginsPass) {
  settings_.backend_path = std::string(CONCORD_BINARY_DIR) + "/bin";
  settings_.devices = {"cpu:strict", "reference"};
  const std::vector<std::string> ids = {kAdd,
                                        kAddExact,
                                        kEmpty,
                                        "add/N=33,R=3,in=uniform,place=1,x=bf16",
                                        "argmax/T=3,V=100,in=gaussian,x=f32",
                                        "attention/D=8,G=2,H=4,L=7,P=9,S=2,T=4,in=gaussian,kv=f32,x=f32",
                                        "embedding/K=8,T=4,V=16,in=uniform,w=f32,x=f32",
                                        "gelu/N=40,R=2,form=erf,in=gaussian,place=0,x=f32",
                                        "kv_append/D=8,G=2,P=6,T=3,in=uniform,kv=i8,x=f32",
                                        "layernorm/N=64,R=2,eps=1e-5,in=gaussian,place=0,x=f32",
                                        "matmul/K=64,M=3,N=17,bias=1,fuse=none,in=gaussian,place=0,w=f32,x=f32",
                                        "matmul/K=128,M=3,N=16,bias=0,fuse=plus,in=gaussian,place=1,w=u4g32z,x=f32",
                                        "rmsnorm/N=64,R=3,eps=1e-6,in=gaussian,place=1,x=f32",
                                        "rope/D=8,H=2,P=16,T=3,in=gaussian,place=0,x=f32",
                                        "softmax/N=50,R=3,in=gaussian,place=0,x=f32",
                                        "swiglu/N=20,R=2,in=gaussian,place=0,x=f32",
                                        "topk_routing/E=16,K=2,T=3,in=gaussian,norm=1,x=f32"};
  const auto records = run(ids);
  ASSERT_EQ(records.size(), ids.size() * 2);
  for (const CaseRecord& r : records) {
    if (r.device == "reference" && r.status == CaseStatus::kUnsupported) continue;
    EXPECT_STREQ(status_name(r.status), "PASS") << r.key() << ": " << r.check << ": " << r.reason;
  }
}

}  // namespace
}  // namespace concord::conformance

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  if (argc > 1 && std::string(argv[1]) == "op-worker") {
    concord::conformance::OpWorkerKey key;
    int input_fd = -1, output_fd = -1;
    for (int i = 2; i + 1 < argc; i += 2) {
      const std::string name = argv[i];
      if (name == "--device") key.device = argv[i + 1];
      if (name == "--threads") key.threads = static_cast<unsigned>(std::atoi(argv[i + 1]));
      if (name == "--input-fd") input_fd = std::atoi(argv[i + 1]);
      if (name == "--output-fd") output_fd = std::atoi(argv[i + 1]);
    }
    const int protocol = ::dup(STDOUT_FILENO);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    return concord::conformance::serve_op_worker(key, STDIN_FILENO, protocol, input_fd, output_fd);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
