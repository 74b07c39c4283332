#include "optim/loss_scale.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace power::test {
namespace {

using torch::Tensor;

TEST(LossScale, HalvesAfterANonFiniteStepAndDoublesAfterManyFiniteOnes) {
  optim::LossScaler scaler(torch::kCPU, 1024.0, 3);
  const Tensor finite = torch::zeros({}), found = torch::ones({});
  const auto after = [&](const Tensor& found_inf) {
    scaler.update(found_inf);
    return scaler.scale().item<float>();
  };
  EXPECT_EQ(after(finite), 1024.0F);
  EXPECT_EQ(after(finite), 1024.0F);
  EXPECT_EQ(after(finite), 2048.0F);  // the third in a row
  EXPECT_EQ(after(finite), 2048.0F);
  EXPECT_EQ(after(found), 1024.0F);
  EXPECT_EQ(after(found), 512.0F);
  EXPECT_EQ(after(finite), 512.0F);  // counting began anew
  EXPECT_EQ(after(finite), 512.0F);
  EXPECT_EQ(after(finite), 1024.0F);
}

TEST(LossScale, StateContinues) {
  optim::LossScaler scaler(torch::kCPU, 1024.0, 3);
  const Tensor finite = torch::zeros({});
  scaler.update(finite);
  scaler.update(finite);
  optim::LossScaler resumed(torch::kCPU, 65536.0, 3);
  resumed.load_state(scaler.state());
  EXPECT_EQ(resumed.scale().item<float>(), 1024.0F);
  resumed.update(finite);
  EXPECT_EQ(resumed.scale().item<float>(), 2048.0F);
  expect_error(ErrorKind::kData, "loss scale has no tensor loss_scale",
               [&] { resumed.load_state(optim::NamedTensors()); });
}

}  // namespace
}  // namespace power::test
