#include "train/spike_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace power::train {
namespace {

TEST(SpikeGuard, SeesAJumpAndNotTheNoiseOrTheFall) {
  SpikeGuard guard(64);
  std::mt19937 random(1);
  std::normal_distribution<double> noise(0, 0.05);
  for (int step = 0; step < 5000; ++step) {
    const double loss = 3 + 7 * std::exp(-step / 500.0) + noise(random);
    ASSERT_FALSE(guard.observe(loss)) << "step " << step;
    if (step > 64 && step % 997 == 0) {
      ASSERT_TRUE(guard.observe(loss + 1)) << "step " << step;
    }
  }
  EXPECT_TRUE(guard.observe(NAN));
  EXPECT_TRUE(guard.observe(INFINITY));
  EXPECT_FALSE(guard.observe(3.0));  // the window is as it was
}

TEST(SpikeGuard, IsSilentUntilTheWindowIsFull) {
  SpikeGuard guard(8);
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(guard.observe(1.0));
  EXPECT_FALSE(guard.observe(50.0));  // the eighth
  EXPECT_TRUE(guard.observe(50.0));
  SpikeGuard equal(4);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(equal.observe(2.0 + 1e-6 * (i % 3)));
}

TEST(SpikeGuard, ARestoredOneGoesOnAsTheOther) {
  SpikeGuard whole(32);
  std::mt19937 random(2);
  std::normal_distribution<double> noise(3, 0.05);
  std::bernoulli_distribution jump(0.1);
  for (int i = 0; i < 40; ++i) whole.observe(noise(random));
  SpikeGuard resumed(32);
  resumed.restore(whole.window());
  int spikes = 0;
  for (int i = 0; i < 200; ++i) {
    const double loss = noise(random) + (jump(random) ? 2 : 0);
    const bool spike = whole.observe(loss);
    spikes += spike ? 1 : 0;
    ASSERT_EQ(resumed.observe(loss), spike);
  }
  EXPECT_GT(spikes, 5);
}

}  // namespace
}  // namespace power::train
