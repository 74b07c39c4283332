#pragma once

#include <cstdint>
#include <string>

namespace power::train {

struct GenerateOptions {
  std::string checkpoint;  // a run folder (its newest valid checkpoint) or one checkpoint
  std::string prompt;      // the text itself
  int64_t max_new_tokens = 200;
  double temperature = 0.8;  // 0 takes the most likely token
  int64_t top_k = 200;       // 0: off
  double top_p = 1.0;        // 1: off
  int64_t num_samples = 1;
  int64_t seed = 1337;
  std::string device = "auto";
};

// The `generate` command: the prompt and its continuation to stdout as it comes, never part of a character. A failed
// write to std::cout throws std::ios_base::failure, which may pass.
void generate_command(const GenerateOptions& options);

}  // namespace power::train
