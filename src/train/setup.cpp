#include "train/setup.h"

#include <filesystem>

#include "core/error.h"
#include "train/device.h"

namespace power::train {
namespace {

data::Verify parse_verify(const std::string& name) {
  if (name == "full") return data::Verify::kFull;
  if (name == "cached") return data::Verify::kCached;
  if (name == "off") return data::Verify::kOff;
  fail(ErrorKind::kUsage, "verify_data '", name, "': use full, cached or off");
}

}  // namespace

model::GptOptions gpt_options(const config::RunConfig& config, int64_t tokenizer_vocab_size) {
  model::GptOptions options;
  options.n_layer = config.n_layer;
  options.n_head = config.n_head;
  options.qhead_ratio = config.qhead_ratio;
  options.head_size = config.head_size;
  options.n_embd = config.n_embd;
  // Multiples of 64 keep the head's matrix products on the tensor cores' fast path: 50257 -> 50304.
  options.vocab_size = (tokenizer_vocab_size + 63) / 64 * 64;
  options.block_size = config.block_size;
  options.rope_base = static_cast<double>(config.block_size);
  options.attention.clear();
  for (const std::string& kernel : config.attention_kernel) {
    options.attention.push_back(kernel == "power" ? model::AttentionKernel::kPower : model::AttentionKernel::kSoftmax);
  }
  options.degree = config.degree;
  if (config.chunk_size == "None") {
    options.chunk_size = ops::kQuadraticForm;
  } else if (config.chunk_size != "auto") {
    options.chunk_size = std::stoll(config.chunk_size);
  }
  options.gating = !config.disable_gating;
  options.normalize = config.normalize;
  options.bias = config.bias;
  options.dropout = config.dropout;
  options.recompute = config.recompute;
  options.compute_dtype = parse_dtype(config.dtype);
  return options;
}

std::vector<std::string> split_patterns(const config::RunConfig& config, const std::string& split) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(config.data_root) / config.dataset;
  const fs::path single = folder / (split + ".bin");
  if (fs::exists(single)) return {single.string()};
  const std::string pattern = (folder / (split + "*.bin")).string();
  require(fs::is_directory(folder), ErrorKind::kData, folder.string(), ": no such data set (dataset=", config.dataset,
          ", data_root=", config.data_root, "); make one with `powertrain data tokenize TEXT --out ", folder.string(),
          "`");
  return {pattern};
}

data::Dataset open_dataset(const config::RunConfig& config, const std::vector<std::string>& patterns,
                           const data::Tokenizer& tokenizer) {
  data::Dataset dataset(patterns, tokenizer.vocab_size(), parse_verify(config.verify_data));
  // Byte tokens pass for GPT-2 tokens: only the manifest tells.
  require(dataset.tokenizer().empty() || dataset.tokenizer() == tokenizer.name(), ErrorKind::kData,
          dataset.paths().front().string(), ": its manifest says tokenizer ", dataset.tokenizer(),
          ", the configuration says ", tokenizer.name(), "; set --tokenizer=", dataset.tokenizer(),
          " or tokenize the text anew");
  return dataset;
}

optim::LrSchedule lr_schedule(const config::RunConfig& config) {
  using Kind = optim::LrSchedule::Kind;
  optim::LrSchedule schedule;
  schedule.kind = !config.decay_lr ? Kind::kConstant : config.lr_schedule == "wsd" ? Kind::kWsd : Kind::kCosine;
  schedule.learning_rate = config.learning_rate;
  schedule.min_lr = config.min_lr;
  schedule.warmup_iters = config.warmup_iters;
  schedule.lr_decay_iters = config.lr_decay_iters;
  return schedule;
}

}  // namespace power::train
