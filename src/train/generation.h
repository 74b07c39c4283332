#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "model/gpt.h"

namespace power::train {

struct SamplingOptions {
  int64_t max_new_tokens = 200;
  double temperature = 1.0;  // 0 takes the most likely token
  int64_t top_k = 0;         // 0: off
  double top_p = 1.0;        // 1: off
  int64_t vocab_size = 0;    // tokens beyond it (padding of the embedding) are never sampled
  int64_t end_of_text = -1;  // generation stops there
};

// The distribution that is sampled from: `logits` (V) as float32 probabilities after temperature, top-k and top-p.
// top_p keeps the smallest set of most likely tokens whose probabilities reach it, at least one.
torch::Tensor sampling_probabilities(const torch::Tensor& logits, const SamplingOptions& options);

// Continues `prompt` (at least one token). `emit` receives each new token and returns false to stop. Draws from
// `generator`, a CPU generator, so that a seed gives the same text on every device up to rounding of the logits.
// Throws Error(kPreempted) when interrupted. Works past block_size.
void generate(model::Gpt& model, const std::vector<int64_t>& prompt, const SamplingOptions& options,
              torch::Generator& generator, torch::Device device, const std::function<bool(int64_t)>& emit);

}  // namespace power::train
