// The GPT against golden vectors: logits, every gradient, and the losses and gradient norms of AdamW steps.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "model/gpt.h"
#include "optim/adamw.h"
#include "optim/grad_clip.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using torch::Tensor;

model::GptOptions options_of(const GoldenCase& golden) {
  model::GptOptions options;
  options.n_layer = golden.meta_int("n_layer");
  options.n_head = golden.meta_int("n_head");
  options.qhead_ratio = golden.meta_int("qhead_ratio");
  options.head_size = golden.meta_int("head_size");
  options.n_embd = golden.meta_int("n_embd");
  options.vocab_size = golden.meta_int("vocab_size");
  options.block_size = golden.meta_int("block_size");
  options.degree = golden.meta_int("degree");
  options.gating = golden.meta_bool("gating");
  options.bias = golden.meta_bool("bias");
  const bool power = golden.meta("attention_kernel") == "power";
  options.attention = {power ? model::AttentionKernel::kPower : model::AttentionKernel::kSoftmax};
  return options;
}

model::Gpt model_of(const GoldenCase& golden, const model::GptOptions& options, torch::Dtype dtype) {
  model::Gpt gpt(options);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : gpt->named_parameters()) parameter.value().copy_(golden.tensor("init." + parameter.key()));
  gpt->to(dtype);
  return gpt;
}

// Largest relative error of what was compared, and which it was.
struct Worst {
  double error = 0;
  std::string what = "nothing";

  void see(const std::string& name, const Tensor& x, const Tensor& reference, double tolerance) {
    ASSERT_EQ(x.sizes(), reference.sizes()) << name;
    const double found = relative_error(x, reference);
    EXPECT_LE(found, tolerance) << name;
    if (!(found <= error)) {
      error = found;
      what = name;
    }
  }
};

// `all_norms`: compare every step's gradient norm, not only the first (training amplifies float32 rounding).
void check(const GoldenCase& golden, const model::GptOptions& options, torch::Dtype dtype, double tolerance,
           bool all_norms, const char* label) {
  SCOPED_TRACE(golden.name + " " + label);
  model::Gpt gpt = model_of(golden, options, dtype);
  const Tensor& tokens = golden.tensor("tokens");  // (steps,B,T+1)
  const int64_t steps = tokens.size(0), length = tokens.size(2) - 1;
  const auto inputs = [&](int64_t step) { return tokens[step].narrow(1, 0, length).contiguous(); };
  const auto targets = [&](int64_t step) { return tokens[step].narrow(1, 1, length).contiguous(); };
  Worst worst;
  {
    const torch::NoGradGuard no_grad;
    worst.see("logits", gpt->forward(inputs(0)), golden.tensor("logits"), tolerance);
  }
  optim::AdamW adamw(gpt->named_parameters(), {});
  std::vector<Tensor> losses, norms;
  for (int64_t step = 0; step < steps; ++step) {
    adamw.zero_grad();
    const Tensor loss = gpt->loss_sum(inputs(step), targets(step)) / static_cast<double>(inputs(step).numel());
    loss.backward();
    if (step == 0) {
      for (const auto& parameter : gpt->named_parameters()) {
        worst.see("grad." + parameter.key(), parameter.value().grad(), golden.tensor("grad." + parameter.key()),
                  tolerance);
      }
    }
    const optim::GradientNorm norm = optim::gradient_norm(adamw.gradients());
    optim::clip_gradients(adamw.gradients(), norm, 1.0);
    adamw.step(1e-3, norm.found_inf);
    losses.push_back(loss.detach());
    norms.push_back(norm.norm);
  }
  worst.see("losses", torch::stack(losses), golden.tensor("losses"), tolerance);
  const int64_t compared = all_norms ? steps : 1;
  worst.see("grad_norms", torch::stack(norms).narrow(0, 0, compared),
            golden.tensor("grad_norms").narrow(0, 0, compared), tolerance);
  std::printf("%-48s %-16s worst relative error %.1e (%s)\n", golden.name.c_str(), label, worst.error,
              worst.what.c_str());
}

TEST(GoldenModel, AgreesInFloat64AndFloat32) {
  const auto cases = golden_cases("gpt");
  ASSERT_FALSE(cases.empty());
  for (const auto& file : cases) {
    const GoldenCase golden = read_golden(file);
    const model::GptOptions options = options_of(golden);
    check(golden, options, torch::kFloat64, 1e-6, true, "float64");
    check(golden, options, torch::kFloat32, 1e-4, false, "float32");
    // The forms and options that must not change the function: chunked attention, recomputed activations.
    const bool chunked = golden.meta("attention_kernel") == "power" && options.degree <= 2;
    model::GptOptions other = options;
    other.recompute = true;
    if (chunked) other.chunk_size = 32;
    check(golden, other, torch::kFloat64, 1e-6, true, chunked ? "float64 chunk 32" : "float64 recompute");
  }
}

}  // namespace
}  // namespace power::test
