#include "base/child_process.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/memory_file.hpp"

namespace concord {
namespace {

using testing::HasSubstr;
using Received = ChildProcess::Received;

class ChildProcessTest : public testing::Test {
 protected:
  void SetUp() override { std::signal(SIGPIPE, SIG_IGN); }
  std::unique_ptr<ChildProcess> shell(const std::string& script, std::span<const int> inherited = {},
                                      const std::vector<std::string>& environment = {}) {
    auto child = ChildProcess::start({"/bin/sh", "-c", script}, inherited, environment);
    EXPECT_TRUE(child) << child.error().to_string();
    return child ? std::move(*child) : nullptr;
  }
  Received receive(ChildProcess& child, std::chrono::milliseconds time = std::chrono::seconds(20),
                   std::size_t limit = 1000) {
    return child.receive(line_, std::chrono::steady_clock::now() + time, stop_, limit);
  }
  std::string line_;
  std::atomic<bool> stop_{false};
};

TEST_F(ChildProcessTest, LinesGoBothWays) {
  const auto child = shell("while read x; do echo \"got $x\"; echo again; done");
  ASSERT_TRUE(child->send("one\n"));
  ASSERT_EQ(receive(*child), Received::kLine);
  EXPECT_EQ(line_, "got one");
  ASSERT_EQ(receive(*child), Received::kLine);
  EXPECT_EQ(line_, "again");
}

TEST_F(ChildProcessTest, SaysHowItEnded) {
  struct Row {
    const char *script, *words;
    int signal, code;
  };
  const Row kRows[] = {{"exit 0", "exited with code 0", 0, 0},
                       {"exit 7", "exited with code 7", 0, 7},
                       {"kill -SEGV $$", "signal 11", SIGSEGV, 0},
                       {"kill -KILL $$", "signal 9", SIGKILL, 0}};
  for (const Row& row : kRows) {
    const auto child = shell(row.script);
    EXPECT_EQ(receive(*child), Received::kEnded) << row.script;
    const ProcessEnd end = child->end();
    EXPECT_EQ(end.signal, row.signal);
    EXPECT_EQ(end.exit_code, row.code);
    EXPECT_FALSE(end.killed_by_us);
    EXPECT_THAT(end.to_string(), HasSubstr(row.words));
    EXPECT_FALSE(child->alive());
    EXPECT_EQ(child->end().signal, row.signal) << "the same answer again";
  }
}

TEST_F(ChildProcessTest, ASilentChildIsLeftForTheCallerToKill) {
  const auto child = shell("sleep 1000");
  EXPECT_EQ(receive(*child, std::chrono::milliseconds(50)), Received::kTimeout);
  EXPECT_TRUE(child->alive());
  stop_ = true;
  EXPECT_EQ(receive(*child), Received::kStopped);
  child->kill();
  EXPECT_FALSE(child->alive());
  EXPECT_TRUE(child->end().killed_by_us);
  EXPECT_FALSE(child->send("anybody?\n"));
}

TEST_F(ChildProcessTest, AnEndlessLineIsRefused) {
  const auto child = shell("while :; do printf 0123456789012345678901234567890123456789; done");
  EXPECT_EQ(receive(*child, std::chrono::seconds(20), 10'000), Received::kTooLong);
}

TEST_F(ChildProcessTest, AProgramThatIsNotThere) {
  const auto child = ChildProcess::start({"/nowhere/program"});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, "process.spawn");
}

TEST_F(ChildProcessTest, SettingsReplaceTheEnvironment) {
  ::setenv("CONCORD_TEST_SETTING", "parent", 1);
  ASSERT_EQ(receive(*shell("echo $CONCORD_TEST_SETTING")), Received::kLine);
  EXPECT_EQ(line_, "parent");
  ASSERT_EQ(receive(*shell("env | grep -c CONCORD_TEST_SETTING; echo; echo", {}, {"CONCORD_TEST_SETTING=child"})),
            Received::kLine);
  EXPECT_EQ(line_, "1");
  ASSERT_EQ(receive(*shell("echo $CONCORD_TEST_SETTING", {}, {"CONCORD_TEST_SETTING=child"})), Received::kLine);
  EXPECT_EQ(line_, "child");
}

TEST_F(ChildProcessTest, MemoryIsSharedAndOneSideOnlyReads) {
  auto file = MemoryFile::create("test");
  ASSERT_TRUE(file) << file.error().to_string();
  ASSERT_TRUE(file->grow(5));
  std::memcpy(file->first(5).data(), "hello", 5);
  const int fds[] = {file->read_only_fd(), file->fd()};
  ASSERT_EQ(receive(*shell("cat /proc/self/fd/" + std::to_string(fds[0]) + "; echo", fds)), Received::kLine);
  EXPECT_EQ(line_, "hello");
  ASSERT_EQ(receive(*shell("ls /proc/self/fd/" + std::to_string(fds[0]) + " 2>/dev/null || echo gone")),
            Received::kLine);
  EXPECT_EQ(line_, "gone") << "descriptors that were not asked for are closed";
  EXPECT_TRUE(MemoryView::map(fds[0], 5, false));
  EXPECT_FALSE(MemoryView::map(fds[0], 5, true)) << "the descriptor for reading cannot be mapped writable";
  auto view = MemoryView::map(fds[1], 5, true);
  ASSERT_TRUE(view);
  view->writable()[0] = std::byte{'H'};
  EXPECT_EQ(file->first(5)[0], std::byte{'H'});
  EXPECT_FALSE(MemoryView::map(fds[1], 6, true)) << "larger than the file";
  ASSERT_TRUE(file->grow(10'000));
  EXPECT_EQ(file->first(5)[0], std::byte{'H'}) << "growing keeps what is there";
}

}  // namespace
}  // namespace concord
