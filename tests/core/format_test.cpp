#include "core/format.h"

#include <gtest/gtest.h>

namespace power {
namespace {

TEST(Format, ThreeDigitsAndAPrefix) {
  EXPECT_EQ(format_count(380000, "tok/s"), "380 ktok/s");
  EXPECT_EQ(format_count(999.4, "tok/s"), "999 tok/s");
  EXPECT_EQ(format_count(999600, "FLOP"), "1.00 MFLOP");
  EXPECT_EQ(format_amount(124439808, "parameters"), "124M parameters");
  EXPECT_EQ(format_amount(7, "tokens"), "7 tokens");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
}

TEST(Format, DurationsNameTheirTwoLargestUnits) {
  EXPECT_EQ(format_duration(12.34), "12.3s");
  EXPECT_EQ(format_duration(59.97), "1m00s");
  EXPECT_EQ(format_duration(2 * 3600 + 13 * 60 + 59), "2h13m");
  EXPECT_EQ(format_duration(3 * 86400), "3d00h");
  EXPECT_EQ(format_duration(-1), "?");
}

}  // namespace
}  // namespace power
