#include "optim/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace power::test {
namespace {

using optim::learning_rate_at;
using optim::LrSchedule;

LrSchedule schedule(LrSchedule::Kind kind) { return {kind, 6e-4, 6e-5, 100, 1000, 0.2}; }

TEST(LrSchedule, WarmUpIsAStraightLineFromZero) {
  for (const auto kind : {LrSchedule::Kind::kCosine, LrSchedule::Kind::kWsd}) {
    EXPECT_EQ(learning_rate_at(schedule(kind), 0), 0.0);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule(kind), 1), 6e-6);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule(kind), 50), 3e-4);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule(kind), 99), 6e-4 * 0.99);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule(kind), 100), 6e-4);
  }
}

TEST(LrSchedule, CosineGoesToTheMinimumAndStays) {
  const LrSchedule cosine = schedule(LrSchedule::Kind::kCosine);
  EXPECT_DOUBLE_EQ(learning_rate_at(cosine, 550), (6e-4 + 6e-5) / 2);                           // half way
  EXPECT_NEAR(learning_rate_at(cosine, 325), 6e-5 + 5.4e-4 * (0.5 + std::sqrt(0.125)), 1e-15);  // a quarter
  EXPECT_DOUBLE_EQ(learning_rate_at(cosine, 1000), 6e-5);
  EXPECT_DOUBLE_EQ(learning_rate_at(cosine, 123456789), 6e-5);
  for (int64_t step = 100; step < 1000; ++step) {
    EXPECT_LT(learning_rate_at(cosine, step + 1), learning_rate_at(cosine, step));
  }
}

TEST(LrSchedule, WsdIsStableThenGoesDownAStraightLine) {
  const LrSchedule wsd = schedule(LrSchedule::Kind::kWsd);
  EXPECT_DOUBLE_EQ(learning_rate_at(wsd, 500), 6e-4);
  EXPECT_DOUBLE_EQ(learning_rate_at(wsd, 800), 6e-4);
  EXPECT_NEAR(learning_rate_at(wsd, 850), 6e-4 - 5.4e-4 / 4, 1e-15);
  EXPECT_NEAR(learning_rate_at(wsd, 900), 6e-4 - 5.4e-4 / 2, 1e-15);
  EXPECT_NEAR(learning_rate_at(wsd, 1000), 6e-5, 1e-18);
  EXPECT_NEAR(learning_rate_at(wsd, 5000), 6e-5, 1e-18);
}

TEST(LrSchedule, ConstantHasNoWarmUp) {
  EXPECT_EQ(learning_rate_at(schedule(LrSchedule::Kind::kConstant), 0), 6e-4);
  EXPECT_EQ(learning_rate_at(schedule(LrSchedule::Kind::kConstant), 99999), 6e-4);
}

TEST(LrSchedule, EdgesStayFinite) {
  for (const auto kind : {LrSchedule::Kind::kCosine, LrSchedule::Kind::kWsd}) {
    LrSchedule s = schedule(kind);
    s.warmup_iters = 0;
    EXPECT_DOUBLE_EQ(learning_rate_at(s, 0), 6e-4);
    s.lr_decay_iters = 0;
    EXPECT_DOUBLE_EQ(learning_rate_at(s, 0), 6e-5);
    s.warmup_iters = 10;
    s.lr_decay_iters = 10;  // straight from warm-up to the minimum
    EXPECT_DOUBLE_EQ(learning_rate_at(s, 10), 6e-5);
    EXPECT_DOUBLE_EQ(learning_rate_at(s, 9), 5.4e-4);
  }
}

}  // namespace
}  // namespace power::test
