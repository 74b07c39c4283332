#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "tests/data/token_files.h"
#include "tests/support/temp_folder.h"

// Small runs for the trainer's tests: byte tokens of a repetitive text, a model that trains in milliseconds a step.
namespace power::train {

// "the quick brown fox ..." with a counter, as byte tokens.
inline std::vector<uint16_t> sample_tokens(int64_t count) {
  std::vector<uint16_t> tokens;
  for (int64_t n = 0; static_cast<int64_t>(tokens.size()) < count; ++n) {
    for (const char c : "the quick brown fox jumps over the lazy dog " + std::to_string(n * n % 97) + "\n") {
      tokens.push_back(static_cast<unsigned char>(c));
    }
    tokens.push_back(256);
  }
  tokens.resize(static_cast<size_t>(count));
  return tokens;
}

inline config::RunConfig tiny_config(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder / "data" / "tiny");
  test::write_raw(folder / "data" / "tiny" / "train.bin", sample_tokens(4000));
  test::write_raw(folder / "data" / "tiny" / "val.bin", sample_tokens(700));
  config::RunConfig config;
  config.data_root = (folder / "data").string();
  config.dataset = "tiny";
  config.tokenizer = "bytes";
  config.out_dir = (folder / "run").string();
  config.n_layer = 2;
  config.n_head = 2;
  config.head_size = 8;
  config.n_embd = 16;
  config.block_size = 32;
  config.batch_size = 4;
  config.gradient_accumulation_steps = 2;
  config.max_iters = 8;
  config.learning_rate = 1e-2;
  config.min_lr = 1e-3;
  config.warmup_iters = 2;
  config.lr_decay_iters = 8;
  config.eval_interval = 4;
  config.eval_iters = 2;
  config.dtype = "float32";
  config.device = "cpu";
  config.deterministic = true;
  return config;
}

}  // namespace power::train
