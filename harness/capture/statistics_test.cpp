#include "capture/statistics.hpp"

#include <cmath>
#include <limits>

#include "capture/testing.hpp"

namespace concord {
namespace {

class Statistics : public CaptureFolder {};

TEST_F(Statistics, AreThoseOfTheFiniteElements) {
  CaptureHeader h = small_header(DType::kBF16, 3);
  h.layers = {4};
  h.positions = {1, 7};
  auto writer = CaptureWriter::create(file("a"), h);
  ASSERT_TRUE(writer);
  const auto put = [&](std::size_t row, std::vector<double> values) {
    std::vector<std::byte> bytes(6);
    for (std::size_t i = 0; i < 3; ++i) store_from_f64(DType::kBF16, bytes.data(), i, values[i]);
    ASSERT_TRUE(writer->put(4, row, bytes));
  };
  put(0, {3, -4, std::nan("")});
  put(1, {0, -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()});
  ASSERT_TRUE(writer->finish(h.tokens, h.provenance));
  const LayerStatistics s = layer_statistics(*Capture::open(file("a")), 4);
  EXPECT_EQ(s.elements, 6u);
  EXPECT_EQ(s.nan, 1u);
  EXPECT_EQ(s.inf, 2u);
  EXPECT_EQ(s.zeros, 1u);
  EXPECT_DOUBLE_EQ(s.max_abs, 4);
  EXPECT_DOUBLE_EQ(s.mean, -1.0 / 3);
  EXPECT_DOUBLE_EQ(s.rms, std::sqrt(25.0 / 3));
  EXPECT_EQ(all_layer_statistics(*Capture::open(file("a")))[0].rms, s.rms);
  EXPECT_EQ(s.row_rms, (std::vector<double>{std::sqrt(12.5), 0}));
}

TEST(Sparkline, ShowsTheRangeInEightSteps) {
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline({5, 5, 5}, 8), "▁▁▁");
  EXPECT_EQ(sparkline({0, 9, 0, 0}, 2), "█▁");  // a column shows its largest value: a peak must not vanish
  EXPECT_EQ(sparkline({-1e308, 1e308}, 2), "▁█");
  EXPECT_EQ(sparkline({}, 8), "");
}

}  // namespace
}  // namespace concord
