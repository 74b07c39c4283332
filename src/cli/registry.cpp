#include "cli/command.h"

namespace power::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      train_command(),     eval_command(),     generate_command(),       data_tokenize_command(), data_verify_command(),
      data_info_command(), ckpt_ls_command(),  ckpt_verify_command(),    ckpt_diff_command(),     plot_command(),
      doctor_command(),    selftest_command(), bench_operator_command(), completion_command(),
  };
  return all;
}

const std::vector<Option>& common_options() {
  static const std::vector<Option> options = {
      {.name = "quiet", .help = "warnings and errors only on stderr", .group = "Common"},
      {.name = "help", .help = "this text", .group = "Common"},
  };
  return options;
}

Option checkpoint_option() {
  return {.name = "checkpoint",
          .takes = Takes::kOne,
          .value = "DIR",
          .help = "a run folder (its newest valid checkpoint) or one checkpoint",
          .required = true,
          .is_path = true};
}

Option device_option() {
  return {.name = "device", .takes = Takes::kOne, .value = "DEVICE", .help = "auto, cpu, cuda or cuda:N [auto]"};
}

Option json_option() { return {.name = "json", .help = "JSON on stdout"}; }

}  // namespace power::cli
