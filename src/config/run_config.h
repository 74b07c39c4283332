#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace power::config {

// Every configuration value, flat. schema.cpp holds the one table of names, types, defaults, ranges, units and help
// behind YAML, flags, environment, --help, completion and docs/configuration.md; the defaults below are that table's.
struct RunConfig {
  // data
  std::string dataset = "openwebtext";  // folder under data_root with train*.bin and val*.bin
  std::string data_root = "data";
  std::string tokenizer = "gpt2";      // gpt2 | bytes
  std::string verify_data = "cached";  // full | cached | off
  // model
  int64_t n_layer = 12;
  int64_t n_head = 12;
  int64_t n_embd = 768;
  int64_t head_size = 64;
  int64_t qhead_ratio = 1;
  std::vector<std::string> attention_kernel = {"power"};  // power | sdpa, one or one per layer
  int64_t degree = 2;
  std::string chunk_size = "auto";  // None (quadratic form) | auto | a number
  bool disable_gating = false;
  std::string normalize = "sum";
  double dropout = 0.0;
  bool bias = false;
  int64_t block_size = 1024;
  bool recompute = false;
  // optimisation
  int64_t batch_size = 12;                  // sequences per rank and micro-step
  int64_t gradient_accumulation_steps = 1;  // total over ranks
  int64_t max_iters = 600000;
  double learning_rate = 6e-4;
  double min_lr = 6e-5;
  std::string lr_schedule = "cosine";  // cosine | wsd
  int64_t warmup_iters = 2000;
  int64_t lr_decay_iters = 600000;
  bool decay_lr = true;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double grad_clip = 1.0;
  // run
  std::string out_dir = "runs/default";
  std::string init_from = "scratch";  // scratch | resume
  std::string resume = "never";       // auto | never | PATH
  bool overwrite = false;
  bool eval_only = false;
  bool always_save_checkpoint = true;
  int64_t eval_interval = 2000;
  int64_t eval_iters = 200;
  bool disable_eval = false;
  int64_t log_interval = 1;
  std::optional<int64_t> save_interval;  // default: eval_interval
  int64_t keep_last = 2;
  double time_limit = 0;  // minutes; 0: none
  bool tensorboard = true;
  // machine
  std::string device = "auto";     // auto | cpu | cuda | cuda:N
  std::string dtype = "bfloat16";  // float32 | bfloat16 | float16
  int64_t seed = 1337;
  bool deterministic = false;
};

}  // namespace power::config
