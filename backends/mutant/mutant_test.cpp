// Every planted fault does what it says: on a battery of suitable calls each fault changes what can be seen of every
// operator that it touches, changes nothing of the others, and the control has the reference's bits.
#include <fmt/format.h>

#include <csignal>
#include <set>
#include <sstream>

#include "mutant_battery.hpp"

namespace concord::testing {
namespace {

const Backends& mutants() {
  static const Backends found = Backends::discover(std::vector<std::string>{CONCORD_BINARY_DIR "/bin/selftest"});
  return found;
}

// Faults that end or stop the process are tested in processes of their own.
const std::set<std::string> kFatal = {"mutant:hangs", "mutant:spins", "mutant:crashes", "mutant:aborts",
                                      "mutant:exits"};

std::set<std::string> touched(const DeviceFacts& facts) {
  std::set<std::string> ops;
  std::istringstream list(facts.libraries);
  for (std::string op; std::getline(list, op, ',');) ops.insert(op);
  return ops;
}

TEST(Mutants, ArePlentyAndNamedOnce) {
  ASSERT_TRUE(mutants().failures().empty());
  ASSERT_GE(mutants().devices().size(), 40u);
  EXPECT_EQ(mutants().devices().front().id, "mutant:honest");
  std::set<std::string> ids;
  for (const DeviceFacts& d : mutants().devices()) {
    EXPECT_TRUE(ids.insert(d.id).second) << d.id;
    EXPECT_FALSE(touched(d).empty()) << d.id;
    EXPECT_LT(d.id.size(), 31u) << "cut: " << d.id;
    EXPECT_LT(d.name.size(), 127u) << "cut: " << d.name;
  }
}

TEST(Mutants, AreNotFoundByTheNormalSearch) {
  for (const DeviceFacts& d : backends().devices()) EXPECT_NE(d.backend, "mutant");
}

TEST(Mutants, TheControlHasTheReferencesBits) {
  const auto seen = observe_all(mutants(), "mutant:honest"), want = observe_all(backends(), "reference");
  ASSERT_EQ(seen.size(), want.size());
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].bits, want[i].bits) << seen[i].what;
}

// Sanitizers look at memory, not at results, and are slow: every fourth fault will do for them.
#ifdef CONCORD_ASAN
constexpr std::size_t kStep = 4;
#else
constexpr std::size_t kStep = 1;
#endif
TEST(Mutants, EachFaultShowsOnEachOperatorItTouchesAndOnNoOther) {
  const auto want = observe_all(mutants(), "mutant:honest", 1);
  std::size_t number = 0;
  for (const DeviceFacts& facts : mutants().devices()) {
    if (facts.id == "mutant:honest" || kFatal.contains(facts.id)) continue;
    if (facts.id == "mutant:thread-dependent" && facts.compute_units < 2) continue;
    if (number++ % kStep != 0) continue;
    const auto seen = observe_all(mutants(), facts.id);
    ASSERT_EQ(seen.size(), want.size());
    std::set<std::string> differ;
    for (std::size_t i = 0; i < seen.size(); ++i)
      if (!(seen[i] == want[i])) differ.insert(seen[i].op);
    EXPECT_EQ(differ, touched(facts)) << facts.id << ": " << facts.name;
  }
}

void run_all(const std::string& id) { observe_all(mutants(), id, 1); }
// The address sanitizer catches the signal, says so, and ends the process itself.
#ifdef CONCORD_ASAN
const ::testing::ExitedWithCode kCrashed(1);
#else
const ::testing::KilledBySignal kCrashed(SIGSEGV);
#endif
TEST(MutantsDeathTest, FatalFaultsAreFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_all("mutant:crashes"), kCrashed, "");
  EXPECT_EXIT(run_all("mutant:aborts"), ::testing::KilledBySignal(SIGABRT), "");
  EXPECT_EXIT(run_all("mutant:exits"), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT((::alarm(3), run_all("mutant:hangs")), ::testing::KilledBySignal(SIGALRM), "");
  EXPECT_EXIT((::alarm(3), run_all("mutant:spins")), ::testing::KilledBySignal(SIGALRM), "");
}

}  // namespace
}  // namespace concord::testing
