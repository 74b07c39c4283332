#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace power::train {

struct EvalOptions {
  std::string checkpoint;         // a run folder (its newest valid checkpoint) or one checkpoint
  std::vector<std::string> data;  // shards or patterns; empty: the validation data of the checkpoint's configuration
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // the first so many predicted tokens
  int64_t batch_size = 0;                                    // windows at a time; 0: the checkpoint's batch_size
  std::string device = "auto";
  bool json = false;
};

// The `eval` command: loss, perplexity and bits per byte to stdout.
void evaluate_command(const EvalOptions& options);

}  // namespace power::train
