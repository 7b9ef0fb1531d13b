// What a time means: rates by the case's formulas, and how they stand to the machine's peaks.
#pragma once
#include <optional>

#include "bench/peaks.hpp"

namespace concord::bench {

// Rates are per second, shares are fractions; 0 where the case has no such work or the machine no such peak.
struct OpRates {
  double flops = 0, bytes = 0;
  double of_flops = 0, of_bytes = 0;
  // The least time that the peaks allow: max(flops / peak, bytes / read rate) [s]. 0 where a peak that the case needs
  // is not known, since a roof with one side missing is not the roof.
  double roofline_seconds = 0, of_roofline = 0;
};
OpRates rates_of(double flops, double bytes, double seconds, const std::optional<Peaks>& peaks);

}  // namespace concord::bench
