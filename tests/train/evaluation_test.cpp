#include "train/evaluation.h"

#include <torch/utils.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "fixtures.h"
#include "train/setup.h"

namespace power::train {
namespace {

class EvaluationTest : public ::testing::Test {
 protected:
  EvaluationTest() : config_(tiny_config(folder_.path())), tokenizer_(data::make_tokenizer("bytes")) {
    torch::manual_seed(1);
    model_ = model::Gpt(gpt_options(config_, tokenizer_->vocab_size()));
  }

  data::Dataset dataset(int64_t tokens) {
    const std::filesystem::path path = folder_.path() / ("eval-" + std::to_string(tokens) + ".bin");
    test::write_raw(path, sample_tokens(tokens));
    return data::Dataset({path.string()}, tokenizer_->vocab_size());
  }

  // Window by window, each token's loss by hand.
  double expected_nats(int64_t tokens, int64_t targets) {
    const torch::NoGradGuard no_grad;
    model_->eval();
    const std::vector<uint16_t> ids = sample_tokens(tokens);
    double nats = 0;
    for (int64_t begin = 0; begin < targets; begin += config_.block_size) {
      const int64_t length = std::min(config_.block_size, targets - begin);
      const std::vector<int64_t> window(ids.begin() + begin, ids.begin() + begin + length);
      const torch::Tensor logits = model_->forward(torch::tensor(window, torch::kInt64).view({1, -1}))[0];
      const torch::Tensor log_p = logits.to(torch::kFloat64).log_softmax(-1);
      for (int64_t i = 0; i < length; ++i) nats -= log_p[i][ids[static_cast<size_t>(begin + i + 1)]].item<double>();
    }
    return nats;
  }

  const test::TempFolder folder_;
  config::RunConfig config_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  model::Gpt model_{nullptr};
};

TEST_F(EvaluationTest, PredictsEveryTokenAfterTheFirstOnceAtAnyBatchSize) {
  for (const int64_t tokens : {2, 31, 33, 97, 130, 200}) {
    const data::Dataset data = dataset(tokens);
    for (const int64_t batch_size : {1, 3, 64}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens, batch " << batch_size);
      EvaluationOptions options;
      options.block_size = config_.block_size;
      options.batch_size = batch_size;
      const Evaluation result = evaluate(model_, data, *tokenizer_, options);
      EXPECT_EQ(result.tokens, tokens - 1);
      EXPECT_NEAR(result.nats, expected_nats(tokens, tokens - 1), 1e-5 * static_cast<double>(tokens));
      const std::vector<uint16_t> ids = sample_tokens(tokens);
      EXPECT_EQ(result.bytes, tokens - 1 - std::count(ids.begin() + 1, ids.end(), 256));
      EXPECT_DOUBLE_EQ(result.bits_per_byte(), result.nats / std::numbers::ln2 / static_cast<double>(result.bytes));
    }
  }
}

TEST_F(EvaluationTest, MaxTargetsTakesTheFirstOnes) {
  EvaluationOptions options;
  options.block_size = config_.block_size;
  options.batch_size = 2;
  options.max_targets = 75;
  const Evaluation result = evaluate(model_, dataset(200), *tokenizer_, options);
  EXPECT_EQ(result.tokens, 75);
  EXPECT_NEAR(result.nats, expected_nats(200, 75), 1e-3);
}

TEST_F(EvaluationTest, OneTokenLeavesNothingToPredict) {
  EXPECT_THROW(evaluate(model_, dataset(1), *tokenizer_, {}), Error);
}

}  // namespace
}  // namespace power::train
