#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <limits>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/gpt.h"

namespace power::train {

struct EvaluationOptions {
  int64_t block_size = 1024;
  int64_t batch_size = 1;
  int64_t max_targets = std::numeric_limits<int64_t>::max();  // the first so many predicted tokens
  torch::Device device = torch::kCPU;
  std::function<void(int64_t done, int64_t total)> progress;  // predicted tokens
};

struct Evaluation {
  int64_t tokens = 0;  // predicted
  int64_t bytes = 0;   // of the predicted tokens; the end of text counts none
  double nats = 0;     // sum of the cross entropy

  double loss() const;           // nats per token
  double perplexity() const;     // exp(loss)
  double bits_per_byte() const;  // nats / ln 2 / bytes
};

// Predicts every token after the first exactly once, in windows of block_size that see nothing before themselves; the
// last window may be shorter. Throws Error(kData) where there is nothing to predict, Error(kPreempted) when
// interrupted.
Evaluation evaluate(model::Gpt& model, const data::Dataset& dataset, const data::Tokenizer& tokenizer,
                    const EvaluationOptions& options);

}  // namespace power::train
