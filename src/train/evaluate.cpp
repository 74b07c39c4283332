#include "train/evaluate.h"

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/progress.h"
#include "train/device.h"
#include "train/evaluation.h"
#include "train/run_state.h"
#include "train/setup.h"

namespace power::train {
namespace {

// The run's validation data; a checkpoint that was copied to another machine has none.
std::vector<std::string> validation_patterns(const config::RunConfig& config) {
  try {
    return split_patterns(config, "val");
  } catch (const Error& error) {
    fail(error.kind(), error.what(), ", or name token files with --data FILES");
  }
}

}  // namespace

void evaluate_command(const EvalOptions& options) {
  const checkpoint::Reader reader = open_checkpoint(options.checkpoint);
  const config::RunConfig config = load_config(reader);
  const torch::Device device = choose_device(options.device);
  const auto tokenizer = data::make_tokenizer(config.tokenizer);
  const std::vector<std::string> patterns = options.data.empty() ? validation_patterns(config) : options.data;
  const data::Dataset dataset = open_dataset(config, patterns, *tokenizer);
  model::Gpt model = load_model(reader, config, device);

  EvaluationOptions evaluation;
  evaluation.block_size = config.block_size;
  evaluation.batch_size = options.batch_size > 0 ? options.batch_size : config.batch_size;
  evaluation.max_targets = options.max_tokens;
  evaluation.device = device;
  ProgressBar bar("evaluate", std::min(options.max_tokens, dataset.size() - 1), "tok");
  evaluation.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
  const Evaluation result = evaluate(model, dataset, *tokenizer, evaluation);

  std::string data = patterns.front();
  for (size_t i = 1; i < patterns.size(); ++i) data += " " + patterns[i];
  if (options.json) {
    const nlohmann::ordered_json json = {{"checkpoint", reader.path().string()},
                                         {"step", reader.step()},
                                         {"data", data},
                                         {"tokens", result.tokens},
                                         {"bytes", result.bytes},
                                         {"loss", result.loss()},
                                         {"perplexity", result.perplexity()},
                                         {"bits_per_byte", result.bits_per_byte()}};
    std::cout << json.dump() << std::endl;
  } else {
    std::cout << "checkpoint     " << reader.path().string() << " (step " << reader.step() << ")\n"
              << "data           " << data << ": " << result.tokens << " tokens, " << result.bytes << " bytes\n"
              << "loss           " << format_number("%.4f", result.loss()) << " nats per token\n"
              << "perplexity     " << format_number("%.3f", result.perplexity()) << "\n"
              << "bits per byte  " << format_number("%.4f", result.bits_per_byte()) << std::endl;
  }
}

}  // namespace power::train
