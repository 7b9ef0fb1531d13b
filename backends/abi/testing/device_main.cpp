// Runs the tests of one device: CONCORD_TEST_DEVICE names it. A device that cannot run here is a skip with its reason
// (exit code 77), never a pass; a device that no plug-in offers is a failure.
#include <cstdio>

#include "bench.hpp"

int main(int argc, char** argv) {
  namespace ct = concord::testing;
  ::testing::InitGoogleTest(&argc, argv);
  const auto resolved = ct::backends().resolve(ct::device_id());
  if (!resolved) {
    std::fprintf(stderr, "%s\n", resolved.error().to_string().c_str());
    return resolved.error().code == "device.unavailable" ? concord::exit_codes::kSkipped : 1;
  }
  if (argc > 1 && ct::modes().contains(argv[1])) return ct::modes().at(argv[1])();
  const auto opened = ct::backends().open(ct::device_id());
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().to_string().c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
