// The model on a GPU: against the CPU, in mixed precision, and within its memory. Skipped where there is no GPU.

#include <ATen/DeviceAccelerator.h>
#include <gtest/gtest.h>

#include "model/gpt.h"
#include "optim/adamw.h"
#include "optim/grad_clip.h"
#include "tests/model/test_models.h"
#include "tests/support/golden.h"
#include "tests/support/gpu.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

model::GptOptions small_options() {
  model::GptOptions options;
  options.n_layer = 2;
  options.n_head = 2;
  options.qhead_ratio = 2;
  options.head_size = 64;
  options.n_embd = 128;
  options.vocab_size = 512;
  options.block_size = 256;
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  return options;
}

TEST(GpuModel, AgreesWithTheCpuInFloat32AndStaysNearItInReducedPrecision) {
  SKIP_WITHOUT_GPU();
  model::GptOptions options = small_options();
  const Pass exact = run_once(options, 256, torch::kCPU);
  const std::pair<torch::Dtype, double> cases[] = {
      {torch::kFloat32, 1e-4}, {torch::kBFloat16, 0.04}, {torch::kFloat16, 0.01}};
  for (const auto& [compute, tolerance] : cases) {
    SCOPED_TRACE(compute);
    options.compute_dtype = compute;
    const Pass found = run_once(options, 256, torch::kCUDA);
    EXPECT_LE(relative_error(found.loss, exact.loss), tolerance / 10);
    for (size_t i = 0; i < exact.gradients.size(); ++i) {
      EXPECT_EQ(found.gradients[i].scalar_type(), torch::kFloat32);
      EXPECT_LE(relative_error(found.gradients[i], exact.gradients[i]), tolerance) << "parameter " << i;
    }
  }
}

TEST(GpuModel, RecomputedGradientsAreTheSameWithDropout) {
  SKIP_WITHOUT_GPU();
  model::GptOptions options = small_options();
  options.attention = {AttentionKernel::kPower};  // softmax's backward adds in any order
  options.compute_dtype = torch::kBFloat16;
  options.dropout = 0.2;
  const Pass kept = run_once(options, 256, torch::kCUDA);
  options.recompute = true;
  const Pass again = run_once(options, 256, torch::kCUDA);
  EXPECT_TRUE(torch::equal(kept.loss, again.loss));
  for (size_t i = 0; i < kept.gradients.size(); ++i) {
    EXPECT_TRUE(torch::equal(kept.gradients[i], again.gradients[i])) << "parameter " << i;
  }
}

TEST(GpuModel, DecodeFollowsTheForwardPass) {
  SKIP_WITHOUT_GPU();
  model::GptOptions options = small_options();
  options.compute_dtype = torch::kBFloat16;
  torch::manual_seed(1);
  model::Gpt gpt(options);
  gpt->to(torch::kCUDA);
  gpt->eval();
  const Tensor tokens = random_tokens(2, 300, options.vocab_size).to(torch::kCUDA);
  const torch::NoGradGuard no_grad;
  const Tensor expected = gpt->forward(tokens).select(1, -1);
  model::DecodeState state;
  Tensor logits = gpt->decode(tokens.narrow(1, 0, 250), state);
  for (int64_t t = 250; t < 300; ++t) logits = gpt->decode(tokens.narrow(1, t, 1), state);
  EXPECT_LE(relative_error(logits.cpu(), expected.cpu()), 0.03);
}

// B = 32, T = 1024 and 50304 tokens: float32 logits alone would take 6.6 GB.
TEST(GpuModel, LossNeedsFarLessMemoryThanTheLogits) {
  SKIP_WITHOUT_GPU();
  model::GptOptions options = small_options();
  options.vocab_size = 50304;
  options.block_size = 1024;
  options.compute_dtype = torch::kBFloat16;
  model::Gpt gpt(options);
  gpt->to(torch::kCUDA);
  const Tensor tokens = random_tokens(32, 1024, options.vocab_size).to(torch::kCUDA);
  at::accelerator::resetPeakStats(0);
  gpt->loss_sum(tokens, tokens).backward();
  const auto stats = at::accelerator::getDeviceStats(0);
  const double peak = static_cast<double>(stats.allocated_bytes[0].peak) / 1e9;
  EXPECT_LT(peak, 4.5) << "GB";
}

TEST(GpuModel, AStepWithoutFiniteGradientsIsSkippedOnTheDevice) {
  SKIP_WITHOUT_GPU();
  model::Gpt gpt(small_options());
  gpt->to(torch::kCUDA);
  optim::AdamW adamw(gpt->named_parameters(), {});
  for (Tensor& parameter : gpt->parameters()) parameter.mutable_grad() = torch::full_like(parameter, 0.01);
  std::vector<Tensor> before;
  for (const Tensor& parameter : gpt->parameters()) before.push_back(parameter.detach().clone());
  adamw.gradients()[0].select(0, 0).fill_(INFINITY);
  optim::GradientNorm norm = optim::gradient_norm(adamw.gradients());
  optim::clip_gradients(adamw.gradients(), norm, 1.0);
  adamw.step(1e-3, norm.found_inf);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], gpt->parameters()[i]));
  EXPECT_EQ(adamw.skipped_in_a_row().item<int64_t>(), 1);

  for (Tensor& parameter : gpt->parameters()) parameter.mutable_grad() = torch::full_like(parameter, 0.01);
  norm = optim::gradient_norm(adamw.gradients());
  optim::clip_gradients(adamw.gradients(), norm, 1.0);
  adamw.step(1e-3, norm.found_inf);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_FALSE(torch::equal(before[i], gpt->parameters()[i]));
  EXPECT_EQ(adamw.skipped_in_a_row().item<int64_t>(), 0);
  EXPECT_EQ(adamw.state()["step"].item<float>(), 1.0F);
}

}  // namespace
}  // namespace power::test
