#include "bench/error_metric.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

namespace power::bench {
namespace {

at::Tensor random(at::IntArrayRef sizes, int64_t seed) {
  at::manual_seed(seed);
  return at::randn(sizes, at::kDouble);
}

TEST(ErrorMetric, WholeNormIsRelative) {
  const at::Tensor ref = random({2, 130, 3, 8}, 1), dy = random({2, 130, 3, 8}, 2);
  EXPECT_EQ(measure_error(ref, ref, dy).whole, 0.0);
  const Error error = measure_error(ref * 1.01, ref, dy);
  EXPECT_NEAR(error.whole, 0.01, 1e-12);
  EXPECT_NEAR(error.part, 0.01, 1e-12);
  EXPECT_TRUE(error.within(0.0101));
  EXPECT_FALSE(error.within(0.0099));
}

TEST(ErrorMetric, OneWrongTileIsFound) {
  const at::Tensor ref = random({2, 1024, 4, 8}, 1), dy = random({2, 1024, 4, 8}, 2);
  at::Tensor x = ref.clone();
  x.select(0, 1).slice(0, 128, 192).select(1, 3).mul_(1.03);  // 1/128 of the elements: 0.0027 of the whole norm
  const Error error = measure_error(x, ref, dy);
  EXPECT_LT(error.whole, 0.005);
  EXPECT_NEAR(error.part, 0.03, 1e-9);
  EXPECT_EQ(error.where, "b1 h3 t128");
  EXPECT_FALSE(error.within(0.005));
}

TEST(ErrorMetric, OneWrongHeadIsFound) {
  const at::Tensor ref = random({1, 64, 16, 8}, 1);
  at::Tensor x = ref.clone();
  x.select(2, 5).mul_(1.1);
  EXPECT_EQ(measure_error(x, ref, ref).where.substr(0, 5), "b0 h5");
}

TEST(ErrorMetric, ShortRestJoinsTheTileBefore) {
  const at::Tensor ref = random({1, 65, 1, 4}, 1);
  at::Tensor x = ref.clone();
  x.select(1, 64).mul_(2.0);
  EXPECT_LT(measure_error(x, ref, ref).part, 0.5);  // alone it would be 1
}

TEST(ErrorMetric, VanishingGradientsAreHeldAgainstDy) {
  const at::Tensor dy = random({1, 64, 1, 4}, 1);
  const at::Tensor zero = at::zeros_like(dy);
  const Error error = measure_error(zero + 1e-4 * dy, zero, dy);
  EXPECT_NEAR(error.whole, 1e-4, 1e-9);
  EXPECT_TRUE(error.within(2e-4));
}

TEST(ErrorMetric, NanNeverPasses) {
  const at::Tensor ref = random({1, 64, 1, 4}, 1);
  at::Tensor x = ref.clone();
  x.view(-1)[7] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(measure_error(x, ref, ref).within(1.0));
}

}  // namespace
}  // namespace power::bench
