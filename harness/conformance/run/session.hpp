// Running cases: inputs and oracle in this process, the device in a worker of its own, a record for each case in a journal. run_cases() never
// loads a plug-in into the process that judges (the CTest programs load them once, to see which devices are there, and run no operator of theirs); device and judge share two memory files (inputs: read-only for the worker; outputs).
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/journal.hpp"
#include "conformance/run/evidence.hpp"
#include "conformance/run/waiver.hpp"

namespace concord::conformance {

inline constexpr const char* kCaseSchema = "concord.case/1";

struct CaseRecord {
  std::string id, device, family;
  CaseStatus status = CaseStatus::kNotRun;
  std::string check, reason, waiver;
  bool waiver_expired = false;
  Evidence evidence;
  OrderedJson body;  // tier, tags, seed, device facts, program, machine, date, repro line, saved file

  std::string key() const { return device + " " + id; }
  std::string to_line() const;
  static Result<CaseRecord> from_line(std::string_view line, const std::string& file, std::size_t number);
};
using CaseJournal = JournalOf<CaseRecord>;
Result<CaseJournal> read_case_journal(const std::string& file);
Result<CaseJournal> parse_case_journal(std::string_view text, const std::string& file);

enum class Save { kNone, kIncorrect, kAll };  // whose outputs are written to <folder>/outputs/

struct SessionSettings {
  std::string program;               // path of concord: workers are `concord op-worker`
  std::vector<std::string> devices;  // resolved ids
  std::uint64_t seed = 0;
  unsigned threads = 0;              // 0: all that the device has
  std::uint32_t repeats = 1;         // further runs of each case in the same configuration, at least
  bool determinism = true;           // thread counts and batch 1 against N, where the case is small enough (docs/operators.md)
  std::chrono::milliseconds timeout{60'000};  // for one case on one device; the worker is killed
  std::string folder;                // journal cases.jsonl and outputs; empty: nothing is written
  Save save = Save::kIncorrect;
  std::string backend_path;          // where workers look for plug-ins; empty: as this process would
  std::vector<Waiver> waivers;
  std::vector<std::pair<std::string, std::string>> witness;  // device id -> pattern of its required list
  std::string today;                 // "2026-11-21": the date that waivers are judged by
};
struct SessionProgress {
  std::function<void(const PlannedCase& next, const std::string& device, std::size_t done, std::size_t total)> before;
  std::function<void(const CaseRecord&)> after;
};

// Every case on every device that `done` (an earlier journal of the same plan) does not hold. The oracle is computed once for all devices. A crash, a hang or
// memory exhaustion costs one case; its worker is started again. Errors: session.interrupted, file.*, defects; a case's own failure is a record.
Result<std::vector<CaseRecord>> run_cases(const std::vector<PlannedCase>& plan, const std::vector<CaseRecord>& done, const SessionSettings& settings,
                                          const SessionProgress& progress, const std::atomic<bool>& stop);

// The worker's side: serves cases for one device until `in` is closed. Returns the exit code. input_fd and output_fd are memory files.
struct OpWorkerKey {
  std::string device;
  unsigned threads = 0;
};
int serve_op_worker(const OpWorkerKey& key, int in, int out, int input_fd, int output_fd);

}  // namespace concord::conformance
