// Generation equals the forward pass, whatever the pieces in which the tokens arrive.

#include <gtest/gtest.h>

#include "model/gpt.h"
#include "tests/model/test_models.h"

namespace power::test {
namespace {

using model::AttentionKernel;
using torch::Tensor;

// Feeds tokens (B,T) in pieces and compares the logits after each piece with the forward pass over everything.
void check(const model::GptOptions& options, const std::vector<int64_t>& pieces, int64_t batch, const char* label) {
  SCOPED_TRACE(label);
  model::Gpt gpt = lively_model(options, torch::kFloat64);
  gpt->eval();
  int64_t length = 0;
  for (const int64_t piece : pieces) length += piece;
  const Tensor tokens = random_tokens(batch, length, options.vocab_size);
  const torch::NoGradGuard no_grad;
  const Tensor expected = gpt->forward(tokens);
  model::DecodeState state;
  for (const int64_t piece : pieces) {
    const Tensor logits = gpt->decode(tokens.narrow(1, state.position, piece), state);
    const Tensor wanted = expected.select(1, state.position - 1);
    ASSERT_EQ(logits.sizes(), wanted.sizes());
    EXPECT_LE((logits - wanted).norm().item<double>(), 1e-10 * wanted.norm().item<double>())
        << "after " << state.position << " of " << length << " tokens";
  }
}

TEST(Decode, EqualsForwardAtEverySplit) {
  model::GptOptions options = tiny_options();  // block_size 32: most of these run past it
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  const std::vector<int64_t> singles(40, 1);
  check(options, {70}, 2, "one piece");
  check(options, singles, 2, "token by token");
  check(options, {33, 1, 1, 7, 1, 20, 2}, 3, "prompt, then mixed pieces");
  // More tokens than the window that power attention folds into its state, in pieces that straddle it.
  check(options, {250, 1, 1, 1, 1, 1, 1, 1, 1, 300, 1, 255, 1, 1}, 1, "past the window");
  options.gating = false;
  options.qhead_ratio = 1;
  check(options, {5, 1, 1, 300, 1}, 2, "ungated");
  options.degree = 4;
  check(options, {5, 1, 1, 300, 1}, 1, "degree 4");
}

TEST(Decode, PowerAttentionKeepsConstantMemory) {
  model::GptOptions options = tiny_options();
  model::Gpt gpt = lively_model(options, torch::kFloat32);
  gpt->eval();
  const auto held = [](const model::DecodeState& state) {
    int64_t elements = 0;
    for (const auto& layer : state.layers) {
      const ops::StepState& s = layer.power;
      for (const Tensor& x : {s.state, s.key_sum, s.cache_k, s.cache_v, s.cache_log_g, layer.keys}) {
        if (x.defined()) elements += x.numel();
      }
    }
    return elements;
  };
  model::DecodeState state;
  int64_t most = 0;
  for (int step = 0; step < 8; ++step) {
    gpt->decode(random_tokens(1, 300, options.vocab_size), state);
    const int64_t now = held(state);
    // D = 8, degree 2: a state of 36 x (8 + 1) per head, and at most kDecodeSwitchOver keys, values and gates.
    const int64_t bound = options.n_layer * options.n_head * (36 * 9 + model::kDecodeSwitchOver * (2 * 8 + 1));
    EXPECT_LE(now, bound) << "after " << state.position << " tokens";
    most = std::max(most, now);
  }
  EXPECT_GT(most, 0);
}

TEST(Decode, ReducedPrecisionFollowsTheForwardPass) {
  model::GptOptions options = tiny_options();
  options.attention = {AttentionKernel::kPower, AttentionKernel::kSoftmax};
  options.compute_dtype = torch::kBFloat16;
  torch::manual_seed(3);
  model::Gpt gpt(options);
  gpt->eval();
  const Tensor tokens = random_tokens(2, 48, options.vocab_size);
  const torch::NoGradGuard no_grad;
  const Tensor expected = gpt->forward(tokens).select(1, -1);
  model::DecodeState state;
  gpt->decode(tokens.narrow(1, 0, 40), state);
  Tensor logits;
  for (int64_t t = 40; t < 48; ++t) logits = gpt->decode(tokens.narrow(1, t, 1), state);
  EXPECT_EQ(logits.scalar_type(), torch::kFloat32);
  EXPECT_LE((logits - expected).norm().item<double>(), 0.02 * expected.norm().item<double>());
}

}  // namespace
}  // namespace power::test
