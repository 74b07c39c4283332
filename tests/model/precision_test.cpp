// Mixed precision: float32 parameters and gradients, matrix products and attention in bf16 or fp16.

#include <gtest/gtest.h>

#include "model/gpt.h"
#include "model/linear.h"
#include "tests/model/test_models.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

Tensor logits_of(const model::GptOptions& options) {
  torch::manual_seed(1);
  model::Gpt gpt(options);
  return gpt->forward(random_tokens(2, 32, options.vocab_size)).detach();
}

TEST(Precision, ReducedPrecisionStaysNearFloat32WithFloat32Gradients) {
  model::GptOptions options = tiny_options();
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  options.compute_dtype = torch::kFloat32;
  const Pass exact = run_once(options, 32, torch::kCPU);
  const Tensor exact_logits = logits_of(options);
  for (const auto& [compute, tolerance] : {std::pair{torch::kBFloat16, 0.06}, std::pair{torch::kFloat16, 0.01}}) {
    SCOPED_TRACE(compute);
    options.compute_dtype = compute;
    const Pass found = run_once(options, 32, torch::kCPU);
    const Tensor logits = logits_of(options);
    EXPECT_EQ(logits.scalar_type(), torch::kFloat32);
    EXPECT_EQ(found.loss.scalar_type(), torch::kFloat32);
    EXPECT_LE(relative_error(logits, exact_logits), tolerance);
    EXPECT_GT(relative_error(logits, exact_logits), 1e-5) << "nothing ran in reduced precision";
    EXPECT_LE(relative_error(found.loss, exact.loss), tolerance / 10);
    for (size_t i = 0; i < exact.gradients.size(); ++i) {
      EXPECT_EQ(found.gradients[i].scalar_type(), torch::kFloat32);
      EXPECT_LE(relative_error(found.gradients[i], exact.gradients[i]), tolerance) << "parameter " << i;
    }
  }
}

TEST(Precision, AFloat64ModelIsFloat64ThroughoutWhateverTheOptionSays) {
  model::GptOptions options = tiny_options();
  options.compute_dtype = torch::kBFloat16;
  model::Gpt reduced = lively_model(options, torch::kFloat64);
  options.compute_dtype = torch::kFloat32;
  model::Gpt plain = lively_model(options, torch::kFloat64);
  const Tensor tokens = random_tokens(2, 12, options.vocab_size);
  EXPECT_EQ(reduced->forward(tokens).scalar_type(), torch::kFloat64);
  EXPECT_TRUE(torch::equal(reduced->forward(tokens), plain->forward(tokens)));
  EXPECT_EQ(plain->loss_sum(tokens, tokens).scalar_type(), torch::kFloat64);
}

TEST(Precision, MixedLinearHasTheGradientsOfTheRoundedProduct) {
  torch::manual_seed(6);
  const Tensor weight = torch::randn({7, 5}).set_requires_grad(true), bias = torch::randn({7}).set_requires_grad(true);
  const Tensor x = torch::randn({2, 3, 5}).to(torch::kBFloat16).set_requires_grad(true);
  const Tensor dy = torch::randn({2, 3, 7}).to(torch::kBFloat16);
  const model::Affine affine{weight, bias, weight.detach().to(torch::kBFloat16)};
  const Tensor y = model::linear(x, affine);
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  y.backward(dy);
  const Tensor dy_rows = dy.to(torch::kFloat64).view({6, 7}), x_rows = x.detach().to(torch::kFloat64).view({6, 5});
  EXPECT_EQ(weight.grad().scalar_type(), torch::kFloat32);
  EXPECT_LE(relative_error(weight.grad(), dy_rows.t().mm(x_rows)), 4e-3);
  EXPECT_LE(relative_error(bias.grad(), dy_rows.sum(0)), 1e-6);
  EXPECT_LE(relative_error(x.grad().view({6, 5}), dy_rows.mm(affine.cast.to(torch::kFloat64))), 4e-3);
}

}  // namespace
}  // namespace power::test
