#include "train/generate.h"

#include <iostream>
#include <iterator>
#include <limits>

#include "cli/command.h"
#include "core/interrupt.h"
#include "core/str.h"

namespace power::cli {
namespace {

int run_generate(const Arguments& arguments) {
  train::GenerateOptions options;
  options.checkpoint = arguments.text("checkpoint");
  options.prompt = arguments.text("prompt");
  options.max_new_tokens = arguments.integer("max_new_tokens", options.max_new_tokens, 0);
  options.temperature = arguments.number("temperature", options.temperature, 0, 1000);
  options.top_k = arguments.integer("top_k", options.top_k, 0);
  options.top_p = arguments.number("top_p", options.top_p, 0, 1);
  options.num_samples = arguments.integer("num_samples", options.num_samples, 1);
  options.seed = arguments.integer("seed", options.seed, 0);
  options.device = arguments.text("device", options.device);
  if (options.prompt == "-") options.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  install_interrupt_handlers();  // after reading: a signal ends a wait for input at once
  train::generate_command(options);
  return 0;
}

}  // namespace

Command generate_command() {
  const train::GenerateOptions defaults;
  const auto bracketed = [](const auto& value) { return str(" [", value, "]"); };
  return {
      .name = "generate",
      .summary = "continue a text with a trained model",
      .options = {checkpoint_option(),
                  {.name = "prompt",
                   .takes = Takes::kOne,
                   .value = "TEXT",
                   .help = "text to continue; - reads it from stdin",
                   .required = true},
                  {.name = "max_new_tokens",
                   .takes = Takes::kOne,
                   .value = "N",
                   .help = "end after N tokens, or before at the end of the text" + bracketed(defaults.max_new_tokens)},
                  {.name = "temperature",
                   .takes = Takes::kOne,
                   .value = "F",
                   .help = "below 1 sharpens the distribution, 0 takes the most likely token" +
                           bracketed(defaults.temperature)},
                  {.name = "top_k",
                   .takes = Takes::kOne,
                   .value = "N",
                   .help = "sample from the N most likely tokens; 0: from all" + bracketed(defaults.top_k)},
                  {.name = "top_p",
                   .takes = Takes::kOne,
                   .value = "F",
                   .help = "sample from the most likely tokens that together reach this probability" + bracketed("1")},
                  {.name = "num_samples",
                   .takes = Takes::kOne,
                   .value = "N",
                   .help = "so many continuations" + bracketed("1")},
                  {.name = "seed",
                   .takes = Takes::kOne,
                   .value = "N",
                   .help = "the same seed gives the same text" + bracketed(defaults.seed)},
                  device_option()},
      .examples =
          {"powertrain generate --checkpoint runs/a --prompt \"Once upon a time\"",
           "echo -n \"ROMEO:\" | powertrain generate --checkpoint runs/a --prompt - --temperature 0.7 --seed 1"},
      .run = run_generate};
}

}  // namespace power::cli
