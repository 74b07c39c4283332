#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <vector>

#include "model/gpt.h"

namespace power::test {

// A model small enough for exact tests; every option on.
inline model::GptOptions tiny_options() {
  model::GptOptions options;
  options.n_layer = 2;
  options.n_head = 2;
  options.qhead_ratio = 2;
  options.head_size = 8;
  options.n_embd = 24;
  options.vocab_size = 40;
  options.block_size = 32;
  options.bias = true;
  return options;
}

// A model of these options with every parameter drawn with spread 0.3, so that no path is nearly linear or nearly zero.
inline model::Gpt lively_model(const model::GptOptions& options, torch::Dtype dtype, uint64_t seed = 1) {
  torch::manual_seed(seed);
  model::Gpt gpt(options);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : gpt->parameters()) parameter.add_(torch::randn_like(parameter), 0.3);
  gpt->to(dtype);
  return gpt;
}

inline torch::Tensor random_tokens(int64_t batch, int64_t length, int64_t vocab_size, uint64_t seed = 7) {
  torch::manual_seed(seed);
  return torch::randint(0, vocab_size, {batch, length}, torch::kInt64);
}

struct Pass {
  torch::Tensor loss;
  std::vector<torch::Tensor> gradients;
};

// Loss and gradients of a fresh model on two random sequences, brought to the CPU.
inline Pass run_once(const model::GptOptions& options, int64_t length, torch::Device device) {
  torch::manual_seed(1);
  model::Gpt gpt(options);
  gpt->to(device);
  const torch::Tensor tokens = random_tokens(2, length, options.vocab_size).to(device);
  const torch::Tensor targets = random_tokens(2, length, options.vocab_size, 8).to(device);
  torch::manual_seed(5);  // of dropout
  const torch::Tensor loss = gpt->loss_sum(tokens, targets) / static_cast<double>(tokens.numel());
  loss.backward();
  Pass pass{loss.detach().cpu(), {}};
  for (const torch::Tensor& parameter : gpt->parameters()) pass.gradients.push_back(parameter.grad().cpu());
  return pass;
}

}  // namespace power::test
