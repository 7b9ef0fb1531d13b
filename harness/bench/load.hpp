// How much of the machine others use while something is measured.
#pragma once
#include <optional>
#include <string_view>

namespace concord::bench {

// Seconds, summed over all processors since the machine started, that were not idle (time stolen by a host included),
// from the text of /proc/stat. `ticks` is the number of clock ticks in a second. Nothing where the text has no such
// line.
std::optional<double> parse_busy_seconds(std::string_view stat, double ticks);

// Starts with its construction.
class OtherLoad {
 public:
  OtherLoad();
  // The share of all processors that others used since then, in [0, 1]; 0 where /proc/stat cannot be read.
  double share() const;

 private:
  double wall_, busy_, own_;
};

}  // namespace concord::bench
