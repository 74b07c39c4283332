// Names, shapes, initial values, counts and the checks of the options.

#include "model/gpt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "model/attention.h"
#include "tests/model/test_models.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

TEST(Gpt, ParameterNamesAreThePublishedOnes) {
  model::GptOptions options = tiny_options();
  options.n_layer = 1;
  std::set<std::string> names;
  for (const auto& item : model::Gpt(options)->named_parameters()) names.insert(item.key());
  std::set<std::string> expected = {"transformer.wte.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"};
  for (const char* part : {"ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"}) {
    for (const char* kind : {".weight", ".bias"}) expected.insert("transformer.h.0." + std::string(part) + kind);
  }
  EXPECT_EQ(names, expected);
}

int64_t counted(const model::GptOptions& options) {
  int64_t count = 0;
  for (const Tensor& parameter : model::Gpt(options)->parameters()) count += parameter.numel();
  return count;
}

TEST(Gpt, ParameterCountIsThatOfTheTensors) {
  model::GptOptions options = tiny_options();
  EXPECT_EQ(model::parameter_count(options), counted(options));
  options.attention = {AttentionKernel::kSoftmax, AttentionKernel::kPower};
  EXPECT_EQ(model::parameter_count(options), counted(options));
  options.bias = false;
  options.gating = false;
  EXPECT_EQ(model::parameter_count(options), counted(options));
}

// By hand for GPT-2 124M: c_attn 768 x (3 x 768 + 12 gates), c_proj 768^2, mlp 2 x 768 x 2688, two layer norms; the
// embedding 50304 x 768 and the last layer norm.
TEST(Gpt, CountsOfGpt2AgreeWithHandCounts) {
  model::GptOptions options;
  const int64_t linear = 768 * (3 * 768 + 12) + 768 * 768 + 2 * 768 * 2688;
  const int64_t expected = 12 * (linear + 2 * 768) + 50304 * 768 + 768;
  EXPECT_EQ(model::parameter_count(options), expected);

  const double products = 6.0 * (12 * linear + 50304 * 768);  // forward 2, backward 4 per weight
  // All pairs of T tokens, query.key and weight.value, 64 wide, 12 heads, 12 layers: 6 x 2 x 64 x (T+1)/2 a token.
  const double pairs = 6.0 * 2 * 64 * (1024 + 1) / 2 * 12 * 12;
  options.chunk_size = ops::kQuadraticForm;
  EXPECT_DOUBLE_EQ(model::training_flops_per_token(options, 1024), products + pairs);
  options.chunk_size = 1024;  // a single chunk is the quadratic form
  EXPECT_DOUBLE_EQ(model::training_flops_per_token(options, 1024), products + pairs);

  // Four chunks of 256: pairs inside, and for 3/4 of the tokens a state of 2080 x (64 + 1) written and read.
  options.chunk_size = 256;
  const double inside = 6.0 * 2 * 64 * (256 + 1) / 2 * 12 * 12;
  const double state = 6.0 * 2 * 2080 * 65 * 0.75 * 12 * 12;
  EXPECT_DOUBLE_EQ(model::training_flops_per_token(options, 1024), products + inside + state);

  // A ragged tail: chunks of 3, 3 and 1 in 7 tokens. 6 + 6 + 1 pairs; 6 tokens write the state, 4 read it.
  options.chunk_size = 3;
  const double ragged = 6.0 * (2 * 64 * 13 + 2080 * 65 * (6 + 4)) / 7 * 12 * 12;
  EXPECT_NEAR(model::training_flops_per_token(options, 7), products + ragged, 1e-9 * products);

  options.attention = {AttentionKernel::kSoftmax};
  const double softmax_products = products - 6.0 * 12 * 768 * 12;  // no gates
  EXPECT_DOUBLE_EQ(model::training_flops_per_token(options, 1024), softmax_products + pairs);

  // Long contexts: in chunks power attention's cost per token stays put, softmax's grows with T.
  model::GptOptions power;
  power.chunk_size = 1024;
  const double at_16k = model::training_flops_per_token(power, 16384),
               at_64k = model::training_flops_per_token(power, 65536);
  EXPECT_LT(at_64k, 1.02 * at_16k);
  EXPECT_GT(model::training_flops_per_token(options, 65536), 2 * model::training_flops_per_token(options, 16384));
}

TEST(Gpt, InitialValues) {
  model::GptOptions options;
  options.n_layer = 8;
  options.n_head = 4;
  options.head_size = 32;
  options.n_embd = 128;
  options.vocab_size = 600;
  options.bias = true;
  torch::manual_seed(1);
  model::Gpt gpt(options);
  for (const auto& item : gpt->named_parameters()) {
    const std::string& name = item.key();
    const Tensor& x = item.value();
    EXPECT_TRUE(x.requires_grad()) << name;
    if (x.dim() < 2) {
      EXPECT_TRUE(torch::equal(x, torch::full_like(x, name.ends_with("bias") ? 0.0 : 1.0))) << name;
      continue;
    }
    const bool residual = name.ends_with("c_proj.weight");
    const double expected = residual ? 0.02 / 4.0 : 0.02;                       // sqrt(2 x 8) = 4
    const double spread = 5 / std::sqrt(2.0 * static_cast<double>(x.numel()));  // 5 standard errors of a deviation
    EXPECT_NEAR(x.std().item<double>() / expected, 1.0, spread) << name;
    EXPECT_NEAR(x.mean().item<double>() / expected, 0.0, 5 / std::sqrt(static_cast<double>(x.numel()))) << name;
  }
}

TEST(Gpt, TheSameSeedGivesTheSameModel) {
  const Tensor tokens = random_tokens(1, 8, 40);
  torch::manual_seed(5);
  const Tensor first = model::Gpt(tiny_options())->forward(tokens);
  torch::manual_seed(5);
  EXPECT_TRUE(torch::equal(first, model::Gpt(tiny_options())->forward(tokens)));
  EXPECT_FALSE(torch::equal(first, model::Gpt(tiny_options())->forward(tokens)));
}

TEST(Gpt, LossIsTheCrossEntropyOfTheLogits) {
  model::Gpt gpt = lively_model(tiny_options(), torch::kFloat64);
  const Tensor tokens = random_tokens(3, 13, 40), targets = random_tokens(3, 13, 40, 9);
  const Tensor expected =
      at::cross_entropy_loss(gpt->forward(tokens).flatten(0, 1), targets.flatten(), {}, at::Reduction::Sum);
  EXPECT_LE(relative_error(gpt->loss_sum(tokens, targets).detach(), expected.detach()), 1e-13);
}

TEST(Gpt, LaterTokensDoNotReachEarlierLogits) {
  model::GptOptions options = tiny_options();
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  model::Gpt gpt = lively_model(options, torch::kFloat64);
  const Tensor tokens = random_tokens(1, 20, 40);
  Tensor changed = tokens.clone();
  changed[0][12] = (changed[0][12] + 1) % 40;
  const Tensor a = gpt->forward(tokens), b = gpt->forward(changed);
  EXPECT_LE((a - b).narrow(1, 0, 12).abs().max().item<double>(), 1e-13);
  EXPECT_GT((a - b).narrow(1, 12, 8).abs().amax(2).min().item<double>(), 1e-6);
}

// The formula, written out: softmax over j <= i of q_i.k_j / sqrt(D), query head h reading key head h / R.
TEST(Gpt, SoftmaxAttentionIsTheFormula) {
  torch::manual_seed(3);
  const int64_t B = 2, T = 11, H = 2, R = 3, D = 8;
  const Tensor q = torch::randn({B, T, R * H, D}, torch::kFloat64), k = torch::randn({B, T, H, D}, torch::kFloat64);
  const Tensor v = torch::randn({B, T, H, D}, torch::kFloat64);
  Tensor expected = torch::zeros_like(q);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < R * H; ++h) {
      const Tensor keys = k[b].select(1, h / R), values = v[b].select(1, h / R);
      for (int64_t i = 0; i < T; ++i) {
        const Tensor score = keys.narrow(0, 0, i + 1).mv(q[b][i][h]) / std::sqrt(static_cast<double>(D));
        expected[b][i][h] = score.softmax(0).matmul(values.narrow(0, 0, i + 1));
      }
    }
  }
  const Tensor y = model::attend({q, k, v, Tensor()}, AttentionKernel::kSoftmax, tiny_options(), 0.0);
  EXPECT_LE(relative_error(y, expected), 1e-13);
}

TEST(Gpt, WrongOptionsAreRefusedWithTheirName) {
  const auto refused = [](const char* part, const std::function<void(model::GptOptions&)>& change) {
    model::GptOptions options = tiny_options();
    change(options);
    expect_error(ErrorKind::kUsage, part, [&] { model::Gpt gpt(options); });
  };
  refused("n_layer", [](auto& o) { o.n_layer = 0; });
  refused("head_size must be even", [](auto& o) { o.head_size = 7; });
  refused("attention_kernel names 3 layers, the model has n_layer 2",
          [](auto& o) { o.attention.assign(3, AttentionKernel::kPower); });
  refused("dropout", [](auto& o) { o.dropout = 1.0; });
  refused("normalize", [](auto& o) { o.normalize = "mean"; });
  refused("chunk_size", [](auto& o) { o.chunk_size = -4; });
  refused("rope_base", [](auto& o) { o.rope_base = -1; });
  refused("compute dtype", [](auto& o) { o.compute_dtype = torch::kInt32; });
}

TEST(Gpt, WrongTokensAreRefused) {
  model::Gpt gpt(tiny_options());
  expect_error(ErrorKind::kRuntime, "int64 tokens", [&] { gpt->forward(torch::zeros({2, 3})); });
  expect_error(ErrorKind::kRuntime, "int64 tokens", [&] { gpt->forward(torch::zeros({3}, torch::kInt64)); });
  const Tensor tokens = random_tokens(2, 4, 40);
  expect_error(ErrorKind::kRuntime, "differ in shape", [&] { gpt->loss_sum(tokens, tokens.narrow(1, 0, 3)); });
}

}  // namespace
}  // namespace power::test
