#include "plot/axis.h"

#include <gtest/gtest.h>

namespace power::plot {
namespace {

TEST(Axis, TicksAreRoundAndInside) {
  EXPECT_EQ((Axis{.low = 0, .high = 300}.ticks(6)), (std::vector<double>{0, 50, 100, 150, 200, 250, 300}));
  EXPECT_EQ((Axis{.low = 2.93, .high = 3.11}.ticks(4)).size(), 4u);  // 2.95 3 3.05 3.1
  EXPECT_EQ((Axis{.low = 1.5, .high = 40, .logarithmic = true}.ticks(5)), (std::vector<double>{2, 5, 10, 20}));
  EXPECT_EQ((Axis{.low = 2.9, .high = 11.9, .logarithmic = true}.ticks(5)), (std::vector<double>{3, 4, 5, 7, 10}));
  for (const double high : {1e-6, 0.3, 7.0, 1e4, 3.3e12}) {
    const Axis axis{.low = high / 7, .high = high};
    const std::vector<double> ticks = axis.ticks(7);
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 11u);
    for (const double tick : ticks) EXPECT_TRUE(tick >= axis.low * (1 - 1e-6) && tick <= axis.high * (1 + 1e-6));
  }
}

TEST(Axis, PixelsAndLabels) {
  const Axis linear{.low = 2, .high = 4, .pixel_low = 100, .pixel_high = 0};
  EXPECT_DOUBLE_EQ(linear.pixel(2.5), 75);
  const Axis logarithmic{.low = 1, .high = 100, .pixel_low = 0, .pixel_high = 10, .logarithmic = true};
  EXPECT_DOUBLE_EQ(logarithmic.pixel(10), 5);
  EXPECT_EQ(tick_label(0), "0");
  EXPECT_EQ(tick_label(0.05), "0.05");
  EXPECT_EQ(tick_label(2500), "2.5k");
  EXPECT_EQ(tick_label(20e6), "20M");
  EXPECT_EQ(tick_label(9.83e9), "9.83B");
}

}  // namespace
}  // namespace power::plot
