#include "cli/command.h"
#include "core/interrupt.h"
#include "train/evaluate.h"

namespace power::cli {
namespace {

int run_eval(const Arguments& arguments) {
  train::EvalOptions options;
  options.checkpoint = arguments.text("checkpoint");
  options.data = arguments.texts("data");
  options.max_tokens = arguments.integer("max_tokens", options.max_tokens, 1);
  options.batch_size = arguments.integer("batch_size", options.batch_size, 1, 1 << 20);
  options.device = arguments.text("device", options.device);
  options.json = arguments.has("json");
  install_interrupt_handlers();
  train::evaluate_command(options);
  return 0;
}

}  // namespace

Command eval_command() {
  return {.name = "eval",
          .summary = "loss, perplexity and bits per byte of a checkpoint on held-out text",
          .options =
              {checkpoint_option(),
               {.name = "data",
                .takes = Takes::kMany,
                .value = "FILES",
                .help = "token files or patterns [the run's validation data]",
                .repeatable = true,
                .is_path = true},
               {.name = "max_tokens", .takes = Takes::kOne, .value = "N", .help = "predict the first N tokens [all]"},
               {.name = "batch_size", .takes = Takes::kOne, .value = "N", .help = "windows at a time [the run's]"},
               device_option(),
               json_option()},
          .examples = {"powertrain eval --checkpoint runs/a",
                       "powertrain eval --checkpoint runs/a/ckpt/step-00001000 --data 'books/val*.bin' --json"},
          .run = run_eval};
}

}  // namespace power::cli
