#include "train/step_line.h"

#include <gtest/gtest.h>

namespace power::train {
namespace {

TEST(StepLine, ShowsEveryQuantityWithItsUnit) {
  StepStats stats;
  stats.step = 1200;
  stats.max_steps = 19073;
  stats.loss = 3.41268;
  stats.grad_norm = 0.412;
  stats.lr = 5.9e-4;
  stats.step_seconds = 0.5123;
  stats.tokens_per_s = 1.0234e6;
  stats.mfu = 0.4119;
  stats.data_fraction = 0.0031;
  stats.memory_bytes = 65712999628;
  stats.eta_seconds = 7990;
  EXPECT_EQ(
      step_line(stats),
      "step 1200/19073 | loss 3.4127 | gnorm 0.41 | lr 5.9e-04 | 512.3 ms | 1.02 Mtok/s | mfu 41.2% | data 0.3% | "
      "mem 61.2 GiB | eta 2h13m");
  stats.mfu.reset();  // a device whose peak is not known shows none
  EXPECT_EQ(step_line(stats).find("mfu"), std::string::npos);
}

}  // namespace
}  // namespace power::train
