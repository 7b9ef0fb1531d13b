// `concord plugin-check` on plug-ins with one fault each: the right check must report it. And on right ones: every
// check must pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "program.hpp"

namespace {
using namespace cli_test;
using Json = nlohmann::json;
using ::testing::HasSubstr;

const std::string kBad = std::string(CONCORD_BINARY_DIR) + "/test_plugins/bad/libconcord_backend_";
const std::string kChecked = std::string(CONCORD_BINARY_DIR) + "/test_plugins/check/libconcord_backend_";
const std::string kGood = std::string(CONCORD_BINARY_DIR) + "/bin/libconcord_backend_";

struct Report {
  int exit = -1;
  Json json;
  std::string of(const std::string& check, const char* field) const {
    for (const Json& c : json.value("checks", Json::array()))
      if (c["name"] == check) return c[field];
    return "no such check";
  }
};

Report check(const std::string& plugin, const std::string& fault = "", const std::string& options = "") {
  const std::string command = "CONCORD_TEST_FAULT=" + fault + " " + kProgram + " plugin-check --json " + options + " " +
                              plugin + " 2>/dev/null </dev/null";
  Report r;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return r;
  std::string text;
  std::array<char, 4096> chunk;
  for (std::size_t n; (n = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) text.append(chunk.data(), n);
  r.exit = WEXITSTATUS(::pclose(pipe));
  r.json = Json::parse(text, nullptr, false);
  return r;
}

struct Row {
  const char* fault;
  const char* check;  // that must report it
  const char* verdict;
  const char* says;
  friend void PrintTo(const Row& row, std::ostream* out) { *out << row.fault << " is reported by " << row.check; }
};
class PluginFaults : public testing::TestWithParam<Row> {};

TEST_P(PluginFaults, AreReportedByTheRightCheck) {
  const Row& row = GetParam();
  const bool hangs = std::string_view(row.fault).ends_with("hang");
  const Report r = check(kChecked + "faulty.so", row.fault, hangs ? "--timeout 2" : "");
  ASSERT_FALSE(r.json.is_discarded());
  EXPECT_EQ(r.of(row.check, "verdict"), row.verdict) << r.json.dump(1);
  EXPECT_THAT(r.of(row.check, "detail"), HasSubstr(row.says));
  EXPECT_EQ(r.exit, 1);
}

// clang-format off
const Row kRows[] = {
    {"any-major", "version", "FAIL", "OK, expected UNSUPPORTED"},
    {"silent-major", "version", "FAIL", "without a message"},
    {"minor-refused", "version", "FAIL", "minor version"},
    {"second-entry", "entry-twice", "FAIL", "no table"},
    {"other-ids-later", "entry-twice", "FAIL", "names its devices differently"},
    {"no-devices", "device-info", "FAIL", "no device"},
    {"id-twice", "device-info", "FAIL", "two devices have the id"},
    {"foreign-id", "device-info", "FAIL", "cpu:avx2"},
    {"unterminated-name", "device-info", "FAIL", "name has no terminator"},
    {"silent-why", "device-info", "FAIL", "does not say why"},
    {"any-index", "device-info", "FAIL", "expected INVALID"},
    {"info-overwrite", "older-host", "FAIL", "behind the 4"},
    {"error-overwrite", "older-host", "FAIL", "concord_error.struct_size"},
    {"open-hang", "open-close", "FAIL", "no answer within 2 s at: faulty:0: device_open"},
    {"open-leaks-memory", "open-close", "FAIL", "bytes on the heap"},
    {"open-leaks-thread", "open-close", "FAIL", "threads"},
    {"open-leaks-file", "open-close", "FAIL", "file descriptors"},
    {"close-crash", "null-arguments", "FAIL", "killed by SIGSEGV (Segmentation fault) at: device_close of NULL"},
    {"null-crash", "null-arguments", "FAIL", "killed by SIGSEGV (Segmentation fault) at: faulty:0: upload with buffer NULL"},
    {"shared-memory", "two-devices", "FAIL", "a buffer changed"},
    {"dirty-buffer", "buffers", "FAIL", "not filled with zeros"},
    {"huge-crash", "buffers", "FAIL", "killed by SIGSEGV"},
    {"huge-accepted", "buffers", "FAIL", "OK, expected OUT_OF_MEMORY"},
    {"buffer-leak", "buffer-leaks", "FAIL", "bytes"},
    {"copy-unchecked", "copies", "FAIL", "OK, expected INVALID"},
    {"copy-loses-a-byte", "copies", "FAIL", "bit for bit"},
    {"stream-leak", "streams", "FAIL", "bytes on the heap"},
    {"weight-unchecked", "weights", "FAIL", "OK, expected INVALID"},
    {"weight-leak", "weight-leaks", "FAIL", "bytes on the heap"},
    {"no-reason", "supports", "FAIL", "without a reason code"},
    {"supports-lies", "supports", "FAIL", "supports says OK, run says UNSUPPORTED"},
    {"unterminated-message", "supports", "FAIL", "no terminator"},
    {"no-witness", "witness", "FAIL", "no witness"},
    {"other-witness", "witness", "FAIL", "does not begin with the operator's name"},
    {"odd-determinism", "witness", "FAIL", "determinism class 9"},
    {"unterminated-witness", "witness", "FAIL", "no terminator"},
    {"witness-overwrite", "witness", "FAIL", "behind the host's older struct"},
    {"witness-null-crash", "witness", "FAIL", "killed by SIGSEGV (Segmentation fault) at: faulty:0: add F32: run with witness NULL"},
    {"newest-call-only", "witness", "FAIL", "that of ABI 2.0"},
    {"throws", "witness", "FAIL", "a C++ exception crossed the ABI at: faulty:0: add F32: run (thrown by its test)"},
    {"aborts", "witness", "FAIL", "killed by SIGABRT (Aborted)"},
    {"exits", "witness", "FAIL", "exit code 0 at: faulty:0: add F32: run"},
    {"accepts-flags", "bad-calls", "FAIL", "an unknown flag: OK"},
    {"silent-refusal", "bad-calls", "FAIL", "without a message"},
    {"writes-then-refuses", "bad-calls", "FAIL", "wrote to its output"},
    {"call-leak", "call-leaks", "FAIL", "bytes on the heap"},
    {"host-none", "host-memory", "FAIL", "gave no memory"},
    {"host-huge-accepted", "host-memory", "FAIL", "OK, expected OUT_OF_MEMORY"},
    {"host-leak", "host-memory", "FAIL", "bytes on the heap"},
    {"host-half", "host-memory", "FAIL", "without the other"},
    {"wait-null-refused", "stream-order", "FAIL", "stream_wait of the default stream for itself: INVALID"},
    {"digest-constant", "weight-digest", "FAIL", "a bit changed and the digest did not"},
    {"digest-other", "weight-digest", "FAIL", "by docs/weight-digest.md it is"},
    {"memory-stays", "memory", "FAIL", "bytes in use before a buffer"},
    {"memory-peak-below", "memory", "FAIL", "more than the peak"},
    {"memory-forgets", "memory", "FAIL", "forgets"},
    {"memory-ignores-buffers", "memory", "FAIL", "moved the memory in use by 0"},
    {"crash-at-exit", "load", "FAIL", "killed by SIGABRT (Aborted) at: the end of its process"},
};
// clang-format on
INSTANTIATE_TEST_SUITE_P(Rows, PluginFaults, testing::ValuesIn(kRows));

void expect_all_ok(const Report& r) {
  ASSERT_FALSE(r.json.is_discarded());
  EXPECT_EQ(r.exit, 0);
  EXPECT_GT(r.json["checks"].size(), 20u);
  EXPECT_EQ(r.json["ok"], r.json["checks"].size()) << r.json.dump(1);
}
TEST(PluginCheck, ThePlugInWithoutAFaultPassesEveryCheck) { expect_all_ok(check(kChecked + "faulty.so")); }
TEST(PluginCheck, ATableOfAbi20PassesEveryCheck) { expect_all_ok(check(kChecked + "faulty.so", "older")); }
// Devices that are late in every way that is allowed fail nothing; those that do not wait, or change bits, do.
TEST(PluginCheck, StreamsThatDoNotWaitAndBitsThatChangeAreSeen) {
  const std::string late = std::string(CONCORD_BINARY_DIR) + "/test_plugins/late/libconcord_backend_late.so";
  const Report right = check(late);
  ASSERT_FALSE(right.json.is_discarded());
  EXPECT_EQ(right.exit, 0) << right.json.dump(1);
  EXPECT_EQ(right.of("stream-order", "verdict"), "ok");
  const std::pair<const char*, const char*> rows[] = {{"late:deaf-default", "stream-order"},
                                                      {"late:deaf-copies", "stream-order"},
                                                      {"late:flips-weights", "weight-digest"},
                                                      {"late:flips-buffers", "copies"}};
  for (const auto& [device, name] : rows) {
    ::setenv("CONCORD_TEST_WRONG", device, 1);
    const Report wrong = check(late);
    ::unsetenv("CONCORD_TEST_WRONG");
    ASSERT_FALSE(wrong.json.is_discarded());
    EXPECT_EQ(wrong.exit, 1) << device;
    EXPECT_EQ(wrong.of(name, "verdict"), "FAIL") << device;
    EXPECT_THAT(wrong.of(name, "detail"), HasSubstr(device));
    EXPECT_THAT(wrong.of(name, "detail"), testing::Not(HasSubstr("late:all: "))) << device;
  }
}
TEST(PluginCheck, TheReferencePassesEveryCheck) { expect_all_ok(check(kGood + "reference.so")); }
TEST(PluginCheck, TheCpuBackendPassesEveryCheck) { expect_all_ok(check(kGood + "cpu.so")); }

TEST(PluginCheck, FaultsOfTheBuildAreNamed) {
  const Report undefined = check(kChecked + "undefined.so");
  EXPECT_EQ(undefined.exit, 1);
  EXPECT_THAT(undefined.of("load", "detail"), HasSubstr("concord_test_nobody_has_this"));
  EXPECT_EQ(undefined.of("witness", "verdict"), "skipped");
  EXPECT_THAT(undefined.of("witness", "detail"), HasSubstr("\"load\" failed"));
  const Report borrowed = check(kChecked + "borrowed.so");
  EXPECT_EQ(borrowed.exit, 1);
  EXPECT_THAT(borrowed.of("symbols", "detail"), HasSubstr("OpenSSL_version"));
  EXPECT_EQ(borrowed.of("exports", "verdict"), "warn");
  EXPECT_THAT(borrowed.of("exports", "detail"), HasSubstr("concord_test_borrowed"));
}

TEST(PluginCheck, TablesThatCannotBeUsedCloseTheGate) {
  const std::pair<const char*, std::pair<const char*, const char*>> rows[] = {
      {"no_entry", {"load", "exports no concord_backend_entry"}},
      {"null", {"load", "plug-in serves ABI 7.3"}},
      {"null_silent", {"load", "without a message"}},
      {"major", {"table", "ABI 3.1"}},
      {"small", {"table", "64 bytes"}},
      {"empty_entry", {"table", "no supports"}},
      {"no_name", {"table", "no name"}}};
  for (const auto& [name, expected] : rows) {
    const Report r = check(kBad + name + ".so");
    EXPECT_EQ(r.exit, 1) << name;
    EXPECT_EQ(r.of(expected.first, "verdict"), "FAIL") << name;
    EXPECT_THAT(r.of(expected.first, "detail"), HasSubstr(expected.second)) << name;
    EXPECT_EQ(r.of("copies", "verdict"), "skipped") << name;
  }
}

TEST(PluginCheck, WithoutADeviceItIsNotGreen) {
  const Report r = check(kChecked + "faulty.so", "none-available");
  EXPECT_EQ(r.exit, 5);
  EXPECT_EQ(r.of("copies", "verdict"), "skipped");
  EXPECT_THAT(r.of("copies", "detail"), HasSubstr("switched off by its test"));
  EXPECT_EQ(r.of("device-info", "verdict"), "ok");
  EXPECT_EQ(check(kChecked + "faulty.so", "none-available", "--allow-no-device").exit, 0);
  const Outcome said = concord("plugin-check " + kGood + "reference.so");
  EXPECT_THAT(said.output, HasSubstr("GREEN: 25 executed of 25"));
}

TEST(PluginCheck, WrongUseHasItsExitCode) {
  EXPECT_EQ(concord("plugin-check").exit, 2);
  EXPECT_EQ(concord("plugin-check /no/such/file.so").exit, 2);
  EXPECT_EQ(concord("plugin-check .").exit, 2);
  EXPECT_EQ(concord("plugin-check README.md").exit, 1);
  const Outcome one = concord("plugin-check --only nothing " + kGood + "reference.so");
  EXPECT_EQ(one.exit, 2);
  EXPECT_THAT(one.output, HasSubstr("null-arguments"));
  EXPECT_EQ(concord("plugin-check --only copies " + kGood + "reference.so").exit, 0);
  EXPECT_THAT(concord("plugin-check --list").output, HasSubstr("bad-calls"));
}

}  // namespace
