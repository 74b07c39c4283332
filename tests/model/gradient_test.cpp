// Finite differences in float64 through one whole block, and through the whole model's loss.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/attention.h"
#include "model/block.h"
#include "model/gpt.h"
#include "model/rotary.h"
#include "tests/model/test_models.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

// Central differences of `value` in every entry of x (at most `entries`, evenly spread) against `gradient`.
double worst_difference(const std::function<Tensor()>& value, Tensor x, const Tensor& gradient, int64_t entries) {
  const torch::NoGradGuard no_grad;
  constexpr double kStep = 1e-5;
  Tensor flat = x.view({-1});
  const Tensor flat_gradient = gradient.reshape({-1});
  const double scale = gradient.abs().max().item<double>();
  double worst = 0;
  const int64_t stride = std::max<int64_t>(1, flat.numel() / entries);
  for (int64_t i = 0; i < flat.numel(); i += stride) {
    const double at = flat[i].item<double>();
    flat[i] = at + kStep;
    const double above = value().item<double>();
    flat[i] = at - kStep;
    const double below = value().item<double>();
    flat[i] = at;
    const double found = flat_gradient[i].item<double>();
    worst = std::max(worst, std::abs((above - below) / (2 * kStep) - found) / scale);
  }
  return worst;
}

void check_block(model::GptOptions options, const char* label) {
  SCOPED_TRACE(label);
  options.n_layer = 1;
  torch::manual_seed(4);
  model::Parameters parameters(options);
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : parameters.parameters()) parameter.add_(torch::randn_like(parameter), 0.3);
  }
  parameters.to(torch::kFloat64);
  torch::manual_seed(5);
  const Tensor x = torch::randn({2, 9, options.n_embd}, torch::kFloat64).set_requires_grad(true);
  const Tensor weight = torch::randn({2, 9, options.n_embd}, torch::kFloat64);
  model::RotaryTable table(options.head_size, 32);
  const Tensor rotary = table.rows(0, 9, torch::kCPU, torch::kFloat64);
  const model::BlockAffines affines =
      model::block_affines(*parameters.h[0], parameters.cast_weights(torch::kFloat64), 0);
  const model::Attend attend = [&](const model::AttentionInputs& in) {
    return model::attend(in, model::attention_of(options, 0), options, 0.0);
  };
  const model::HeadLayout heads = model::head_layout(options, 0);
  const auto value = [&] { return (model::block_forward(x, affines, heads, rotary, attend, 0.0) * weight).sum(); };
  value().backward();
  EXPECT_LE(worst_difference(value, x, x.grad(), 60), 1e-7) << "x";
  for (const auto& item : parameters.h[0]->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_LE(worst_difference(value, item.value(), item.value().grad(), 40), 1e-7) << item.key();
  }
}

TEST(Gradient, OneWholeBlockAgreesWithFiniteDifferences) {
  model::GptOptions options = tiny_options();
  check_block(options, "power, gated, two query heads per key head, bias");
  options.chunk_size = 4;
  check_block(options, "the same in chunks of 4");
  options.chunk_size.reset();
  options.gating = false;
  options.bias = false;
  check_block(options, "power, ungated, no bias");
  options.attention = {AttentionKernel::kSoftmax};
  check_block(options, "softmax");
}

TEST(Gradient, LossOfTheWholeModelAgreesWithFiniteDifferences) {
  model::GptOptions options = tiny_options();
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  model::Gpt gpt = lively_model(options, torch::kFloat64);
  const Tensor tokens = random_tokens(2, 11, options.vocab_size, 1),
               targets = random_tokens(2, 11, options.vocab_size, 2);
  gpt->loss_sum(tokens, targets).backward();
  const auto value = [&] { return gpt->loss_sum(tokens, targets); };
  for (const auto& item : gpt->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_LE(worst_difference(value, item.value(), item.value().grad(), 12), 1e-6) << item.key();
  }
}

}  // namespace
}  // namespace power::test
