#include "optim/grad_clip.h"

#include <gtest/gtest.h>

#include <cmath>

namespace power::test {
namespace {

using torch::Tensor;

std::vector<Tensor> gradients() {
  return {torch::tensor({3.0, 0.0, 0.0}), torch::tensor({0.0, 4.0}).view({2, 1}), torch::tensor({12.0})};  // norm 13
}

TEST(GradClip, NormIsGlobal) {
  const optim::GradientNorm norm = optim::gradient_norm(gradients());
  EXPECT_EQ(norm.norm.dim(), 0);
  EXPECT_FLOAT_EQ(norm.norm.item<float>(), 13.0F);
  EXPECT_EQ(norm.found_inf.item<float>(), 0.0F);
}

TEST(GradClip, LargeGradientsShrinkToTheMaximumAndSmallOnesStay) {
  std::vector<Tensor> clipped = gradients();
  optim::clip_gradients(clipped, optim::gradient_norm(clipped), 1.0);
  const double factor = 1.0 / (13.0 + 1e-6);
  EXPECT_FLOAT_EQ(clipped[0][0].item<float>(), static_cast<float>(3.0 * factor));
  EXPECT_FLOAT_EQ(clipped[2][0].item<float>(), static_cast<float>(12.0 * factor));

  std::vector<Tensor> kept = gradients();
  optim::clip_gradients(kept, optim::gradient_norm(kept), 100.0);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(kept[i], gradients()[i]));

  std::vector<Tensor> unclipped = gradients();
  optim::clip_gradients(unclipped, optim::gradient_norm(unclipped), 0.0);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(unclipped[i], gradients()[i]));
}

TEST(GradClip, LossScaleIsDividedOut) {
  const Tensor scale = torch::tensor(1024.0F);
  for (const double max_norm : {1.0, 0.0}) {
    std::vector<Tensor> scaled = gradients(), plain = gradients();
    for (Tensor& gradient : scaled) gradient.mul_(1024.0);
    const optim::GradientNorm norm = optim::gradient_norm(scaled, scale);
    EXPECT_FLOAT_EQ(norm.norm.item<float>(), 13.0F);
    optim::clip_gradients(scaled, norm, max_norm, scale);
    optim::clip_gradients(plain, optim::gradient_norm(plain), max_norm);
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(torch::allclose(scaled[i], plain[i], 1e-6, 0));
  }
}

TEST(GradClip, NonFiniteGradientsAreFound) {
  for (const double value : {NAN, INFINITY, -INFINITY}) {
    std::vector<Tensor> troubled = gradients();
    troubled[1][1][0] = value;
    EXPECT_EQ(optim::gradient_norm(troubled).found_inf.item<float>(), 1.0F) << value;
  }
}

TEST(GradClip, KeepsFloat64) {
  std::vector<Tensor> gradients = {torch::full({1000}, 1.0 / 3, torch::kFloat64)};
  const optim::GradientNorm norm = optim::gradient_norm(gradients);
  EXPECT_EQ(norm.norm.scalar_type(), torch::kFloat64);
  EXPECT_NEAR(norm.norm.item<double>(), std::sqrt(1000.0) / 3, 1e-13);
  EXPECT_EQ(norm.found_inf.scalar_type(), torch::kFloat32);  // what the fused optimizer reads
}

}  // namespace
}  // namespace power::test
