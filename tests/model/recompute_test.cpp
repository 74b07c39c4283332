// Recomputed activations give the same gradients, float for float.

#include "model/recompute.h"

#include <gtest/gtest.h>

#include "model/gpt.h"
#include "tests/model/test_models.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

struct Steps {
  Tensor loss;
  std::vector<Tensor> gradients;
  Tensor next_random;  // what the generator gives afterwards
};

Steps run_steps(model::GptOptions options, bool recompute, torch::Dtype dtype) {
  options.recompute = recompute;
  model::Gpt gpt = lively_model(options, dtype);
  const Tensor tokens = random_tokens(2, 20, options.vocab_size), targets = random_tokens(2, 20, options.vocab_size, 8);
  torch::manual_seed(99);
  Steps result;
  // Two micro-steps, so that gradients accumulate.
  for (int micro = 0; micro < 2; ++micro) {
    result.loss = gpt->loss_sum(tokens, targets);
    result.loss.backward();
  }
  for (const Tensor& parameter : gpt->parameters()) result.gradients.push_back(parameter.grad());
  result.next_random = torch::rand({4});
  return result;
}

void check_recomputed(const model::GptOptions& options, torch::Dtype dtype, const char* label) {
  SCOPED_TRACE(label);
  const Steps kept = run_steps(options, false, dtype), again = run_steps(options, true, dtype);
  EXPECT_TRUE(torch::equal(kept.loss, again.loss));
  EXPECT_TRUE(torch::equal(kept.next_random, again.next_random)) << "the random state differs afterwards";
  for (size_t i = 0; i < kept.gradients.size(); ++i) {
    EXPECT_TRUE(torch::equal(kept.gradients[i], again.gradients[i])) << "parameter " << i;
  }
}

TEST(Recompute, GradientsAreTheSameFloatForFloat) {
  model::GptOptions options = tiny_options();
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  check_recomputed(options, torch::kFloat32, "float32");
  check_recomputed(options, torch::kFloat64, "float64");
  options.dropout = 0.3;
  check_recomputed(options, torch::kFloat32, "dropout");
  options.compute_dtype = torch::kBFloat16;
  check_recomputed(options, torch::kFloat32, "bf16, dropout");
}

// The function runs once forward and once backward, and its inner tensors are not kept in between.
TEST(Recompute, RunsAgainInTheBackwardPass) {
  int calls = 0;
  bool graph_in_forward = true;
  const Tensor x = torch::randn({3}, torch::kFloat64).set_requires_grad(true);
  const Tensor constant = torch::randn({3}, torch::kFloat64);
  const Tensor y = model::recompute(
      [&](const std::vector<Tensor>& in) {
        if (++calls == 1) graph_in_forward = torch::GradMode::is_enabled();
        return in[0] * in[0] * in[1];
      },
      {x, constant}, false);
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(graph_in_forward);
  y.sum().backward();
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(torch::allclose(x.grad(), 2 * x.detach() * constant));
  EXPECT_FALSE(constant.grad().defined());
}

TEST(Recompute, DropoutChangesFromStepToStepAndIsOffInEvaluation) {
  model::GptOptions options = tiny_options();
  options.dropout = 0.5;
  options.recompute = true;
  model::Gpt gpt = lively_model(options, torch::kFloat32);
  const Tensor tokens = random_tokens(2, 20, options.vocab_size), targets = random_tokens(2, 20, options.vocab_size, 8);
  const auto loss = [&] { return gpt->loss_sum(tokens, targets).item<double>(); };
  EXPECT_NE(loss(), loss());
  gpt->eval();
  EXPECT_EQ(loss(), loss());
}

}  // namespace
}  // namespace power::test
