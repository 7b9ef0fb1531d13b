// Where a result comes from: machine, program, commit, flags, date. The same block goes into captures, records and reports.
#pragma once
#include <string>

#include "base/json.hpp"
#include "device/device.hpp"

namespace concord {

struct ProgramVersion {
  std::string version, commit, compiler, build_type, flags;
};
const ProgramVersion& program_version();

struct Machine {
  std::string processor;  // "AMD EPYC 9654 ..."
  unsigned cores = 0;     // usable by this process
  std::uint64_t memory_bytes = 0;
  std::string os;
};
const Machine& machine();

std::string utc_now();  // "2026-11-21T08:00:00Z"
OrderedJson provenance();
OrderedJson device_json(const DeviceFacts& facts);

}  // namespace concord
