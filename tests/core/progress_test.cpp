#include "core/progress.h"

#include <gtest/gtest.h>

namespace power {
namespace {

TEST(ProgressLine, RateAndRest) {
  EXPECT_EQ(progress_line("tokenize", int64_t{512} << 20, int64_t{2} << 30, "B", 4),
            "tokenize  25% | 512 MiB of 2.00 GiB | 128 MiB/s | eta 12.0s");
  EXPECT_EQ(progress_line("evaluate", 1000000, 1000000, "tok", 2),
            "evaluate 100% | 1.00 Mtok of 1.00 Mtok | 500 ktok/s | eta 0.0s");
  EXPECT_EQ(progress_line("save", 100, 0, "B", 1), "save | 100 B | 100 B/s");  // total not known
  EXPECT_EQ(progress_line("save", 0, 100, "B", 1), "save   0% | 0 B of 100 B | 0 B/s");
  EXPECT_EQ(progress_line("save", 150, 100, "B", 0), "save 100% | 150 B of 100 B | 0 B/s");  // a file that grew
}

}  // namespace
}  // namespace power
