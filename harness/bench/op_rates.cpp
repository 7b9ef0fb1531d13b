#include "bench/op_rates.hpp"

#include <algorithm>

namespace concord::bench {

OpRates rates_of(double flops, double bytes, double seconds, const std::optional<Peaks>& peaks) {
  OpRates r{.flops = flops / seconds, .bytes = bytes / seconds};
  if (!peaks) return r;
  if (peaks->flops > 0) r.of_flops = r.flops / peaks->flops;
  if (peaks->read > 0) r.of_bytes = r.bytes / peaks->read;
  if ((flops > 0 && peaks->flops <= 0) || (bytes > 0 && peaks->read <= 0)) return r;
  r.roofline_seconds = std::max(flops > 0 ? flops / peaks->flops : 0, bytes > 0 ? bytes / peaks->read : 0);
  r.of_roofline = r.roofline_seconds / seconds;
  return r;
}

}  // namespace concord::bench
