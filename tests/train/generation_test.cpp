#include "train/generation.h"

#include <torch/utils.h>

#include <algorithm>

#include "core/error.h"
#include "fixtures.h"
#include "train/setup.h"

namespace power::train {
namespace {

TEST(SamplingProbabilities, TopKAndTopPKeepTheLikeliest) {
  const torch::Tensor logits = torch::tensor({0.5, 0.25, 0.15, 0.1, 9.0}, torch::kFloat64).log();
  SamplingOptions options;
  options.vocab_size = 4;  // the fifth is padding
  const auto probabilities = [&] {
    const torch::Tensor p = sampling_probabilities(logits, options);
    return std::vector<float>(p.data_ptr<float>(), p.data_ptr<float>() + p.numel());
  };
  EXPECT_NEAR(probabilities()[0], 0.5, 1e-6);
  EXPECT_EQ(probabilities().size(), 4u);
  options.top_k = 2;
  EXPECT_NEAR(probabilities()[1], 0.25 / 0.75, 1e-6);
  EXPECT_EQ(probabilities()[2], 0);
  options.top_k = 0;
  options.top_p = 0.6;  // 0.5 alone does not reach it
  EXPECT_NEAR(probabilities()[0], 0.5 / 0.75, 1e-6);
  EXPECT_EQ(probabilities()[2], 0);
  options.top_p = 0.01;
  EXPECT_EQ(probabilities()[0], 1);
  options.top_p = 1;
  options.temperature = 0;
  EXPECT_EQ(probabilities()[0], 1);
  options.temperature = 0.5;  // squares the odds
  EXPECT_NEAR(probabilities()[0] / probabilities()[1], 4, 1e-5);
}

class GenerateTest : public ::testing::Test {
 protected:
  GenerateTest() : config_(tiny_config(folder_.path())) {
    torch::manual_seed(3);
    model_ = model::Gpt(gpt_options(config_, 257));
    options_.vocab_size = 257;
    options_.max_new_tokens = 3 * config_.block_size;  // runs past the training context
  }

  std::vector<int64_t> sample(uint64_t seed) {
    torch::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
    std::vector<int64_t> tokens;
    generate(model_, {'a', 'b'}, options_, generator, torch::kCPU, [&](int64_t token) {
      tokens.push_back(token);
      return true;
    });
    return tokens;
  }

  const test::TempFolder folder_;
  config::RunConfig config_;
  SamplingOptions options_;
  model::Gpt model_{nullptr};
};

TEST_F(GenerateTest, ASeedGivesOneText) {
  EXPECT_EQ(sample(1), sample(1));
  EXPECT_NE(sample(1), sample(2));
  EXPECT_EQ(sample(1).size(), static_cast<size_t>(options_.max_new_tokens));
}

TEST_F(GenerateTest, GreedyTextIsTheForwardPassesArgmax) {
  options_.temperature = 0;
  options_.max_new_tokens = 12;
  std::vector<int64_t> tokens = {'a', 'b'};
  const torch::NoGradGuard no_grad;
  for (const int64_t token : sample(1)) {
    const torch::Tensor logits = model_->forward(torch::tensor(tokens, torch::kInt64).view({1, -1}))[0][-1];
    EXPECT_EQ(token, logits.slice(0, 0, 257).argmax().item<int64_t>());
    tokens.push_back(token);
  }
}

TEST_F(GenerateTest, StopsAtTheEndOfText) {
  const std::vector<int64_t> tokens = sample(1);
  options_.end_of_text = tokens[5];
  const size_t first = static_cast<size_t>(std::find(tokens.begin(), tokens.end(), tokens[5]) - tokens.begin());
  EXPECT_EQ(sample(1).size(), first);
}

}  // namespace
}  // namespace power::train
