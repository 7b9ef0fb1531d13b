#include "device/provenance.hpp"

#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <ctime>
#include <fstream>

#include "concord_version.hpp"

namespace concord {

const ProgramVersion& program_version() {
  static const ProgramVersion version{CONCORD_VERSION, CONCORD_COMMIT, CONCORD_COMPILER, CONCORD_BUILD_TYPE, CONCORD_FLAGS};
  return version;
}

namespace {
std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

Machine read_machine() {
  Machine m;
  m.processor = processor_name();
  cpu_set_t set;
  CPU_ZERO(&set);
  m.cores = sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
  struct sysinfo info {};
  if (sysinfo(&info) == 0) m.memory_bytes = static_cast<std::uint64_t>(info.totalram) * info.mem_unit;
  utsname name{};
  if (uname(&name) == 0) m.os = std::string(name.sysname) + " " + name.release;
  return m;
}
}  // namespace

const Machine& machine() {
  static const Machine m = read_machine();
  return m;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

OrderedJson provenance() {
  const ProgramVersion& v = program_version();
  const Machine& m = machine();
  return {{"program", {{"version", v.version}, {"commit", v.commit}, {"compiler", v.compiler}, {"build", v.build_type}, {"flags", v.flags}}},
          {"machine", {{"processor", m.processor}, {"cores", m.cores}, {"memory_bytes", m.memory_bytes}, {"os", m.os}}},
          {"date", utc_now()}};
}

OrderedJson device_json(const DeviceFacts& f) {
  return {{"id", f.id},           {"name", f.name},         {"vendor", f.vendor},       {"architecture", f.architecture},
          {"driver", f.driver},   {"libraries", f.libraries}, {"features", f.features}, {"compute_units", f.compute_units},
          {"build", f.build}};
}

}  // namespace concord
