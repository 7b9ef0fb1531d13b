// `concord plugin-check`: what a plug-in must get right before any number of it is worth judging. Each check runs in a
// process of its own, so that a crash or a hang is one failed check. Knows the ABI's table of operands, no operator's
// meaning.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace concord {

enum class CheckVerdict { kOk, kWarn, kFail, kSkipped };
const char* verdict_name(CheckVerdict v);  // "ok", "warn", "FAIL", "skipped"

namespace plugin_check {
class Probe;
}

// One row of the table of checks.
struct PluginCheck {
  const char* name;    // "open-close": argument of --only
  const char* proves;  // one line
  void (*run)(plugin_check::Probe&);
  bool gate = false;          // when it fails, no later check can be run
  bool needs_device = false;  // skipped where no device is available
};
std::span<const PluginCheck> plugin_checks();
// Error: plugin_check.unknown with the names that exist.
Result<const PluginCheck*> find_plugin_check(const std::string& name);

struct PluginCheckResult {
  std::string name, proves;
  CheckVerdict verdict = CheckVerdict::kSkipped;
  std::string detail;      // what was found, or why it was skipped
  bool no_device = false;  // skipped because no device is available
  double seconds = 0;
};

// In this process, without any protection. Prints "at: ..." before each call of the plug-in and "VERDICT: detail" at
// the end to `out`, flushed line by line.
PluginCheckResult run_plugin_check_here(const PluginCheck& check, const std::string& file, std::FILE* out);

struct PluginCheckSettings {
  std::string program;                        // path of concord: each check is `concord plugin-check --only NAME FILE`
  std::chrono::milliseconds timeout{60'000};  // of one check; its process is killed
};
// All checks in the table's order. Errors: plugin_check.interrupted, plugin_check.spawn. `after` is called with each
// result.
Result<std::vector<PluginCheckResult>> run_plugin_checks(const std::string& file, const PluginCheckSettings& settings,
                                                         const std::atomic<bool>& stop,
                                                         const std::function<void(const PluginCheckResult&)>& after);

}  // namespace concord
