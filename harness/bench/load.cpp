#include "bench/load.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>

namespace concord::bench {
namespace {

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double busy_seconds() {
  std::ifstream in("/proc/stat");
  std::string line;
  std::getline(in, line);
  return parse_busy_seconds(line, static_cast<double>(::sysconf(_SC_CLK_TCK))).value_or(0);
}

double own_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

std::optional<double> parse_busy_seconds(std::string_view stat, double ticks) {
  std::istringstream in{std::string(stat)};
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, soft = 0, stolen = 0;
  if (!(in >> name >> user >> nice >> system >> idle >> waiting >> irq >> soft >> stolen) || name != "cpu") return {};
  return (user + nice + system + irq + soft + stolen) / ticks;
}

OtherLoad::OtherLoad() : wall_(wall_seconds()), busy_(busy_seconds()), own_(own_seconds()) {}

double OtherLoad::share() const {
  const double processors = static_cast<double>(std::max(1l, ::sysconf(_SC_NPROCESSORS_ONLN)));
  const double available = (wall_seconds() - wall_) * processors,
               others = busy_seconds() - busy_ - (own_seconds() - own_);
  return available > 0 ? std::clamp(others / available, 0.0, 1.0) : 0;
}

}  // namespace concord::bench
