#include "train/train.h"

#include <unistd.h>

#include <iostream>

#include "cli/command.h"
#include "config/load.h"
#include "config/reference.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/log.h"

namespace power::cli {
namespace {

// Options of the command that are not configuration keys.
bool is_own_option(const std::string& name) {
  return name == "config" || name == "set" || name == "print-config" || name == "print-reference" || name == "quiet";
}

std::vector<config::Assignment> command_line_assignments(const Arguments& arguments) {
  std::vector<config::Assignment> assignments;
  for (const auto& [name, value] : arguments.options()) {
    if (name == "set") {
      const size_t equals = value.find('=');
      require(equals != std::string::npos && equals > 0, ErrorKind::kUsage, "--set ", value, ": write --set KEY=VALUE");
      assignments.push_back({value.substr(0, equals),
                             value.substr(equals + 1),
                             {config::Source::kCommandLine, "--set " + value.substr(0, equals)}});
    } else if (!is_own_option(name)) {
      assignments.push_back({name, value, {config::Source::kCommandLine, "--" + name}});
    }
  }
  return assignments;
}

config::Resolved resolve_configuration(const Arguments& arguments) {
  std::vector<config::Assignment> all;
  const auto append = [&all](const std::vector<config::Assignment>& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  if (arguments.has("config")) append(config::read_file_assignments(arguments.text("config")));
  append(config::read_environment_assignments(environ));
  append(command_line_assignments(arguments));
  return config::resolve(all);
}

int run_train(const Arguments& arguments) {
  if (arguments.has("print-reference")) {
    std::cout << config::reference_markdown();
    return 0;
  }
  const config::Resolved resolved = resolve_configuration(arguments);
  for (const std::string& warning : resolved.warnings) log_warning(warning);
  if (arguments.has("print-config")) {
    std::cout << config::to_yaml_with_origins(resolved);
    return 0;
  }
  install_interrupt_handlers();
  train::train(resolved.config);
  return 0;
}

std::vector<Option> train_options() {
  std::vector<Option> options = {
      {.name = "config",
       .takes = Takes::kOne,
       .value = "FILE",
       .help = "YAML file of configuration keys",
       .is_path = true},
      {.name = "set",
       .takes = Takes::kOne,
       .value = "KEY=VALUE",
       .help = "the same as --KEY=VALUE",
       .repeatable = true},
      {.name = "print-config", .help = "print every key with its value and where it comes from, and end"},
      {.name = "print-reference", .help = "print the reference of all keys (docs/configuration.md), and end"},
  };
  const config::RunConfig defaults;
  for (const config::Key& key : config::schema()) {
    // Values are judged by the schema, so that a bad one in a file and on the command line read alike.
    options.push_back({.name = key.name,
                       .takes = config::is_boolean(key) ? Takes::kBoolean : Takes::kOne,
                       .value = config::placeholder(key),
                       .help = str(key.help, " [", config::default_text(key), "]"),
                       .is_path = config::is_path(key),
                       .group = key.group});
  }
  return options;
}

bool is_ignored_key(const std::string& name) { return config::find_ignored_key(name) != nullptr; }

}  // namespace

Command train_command() {
  return {.name = "train",
          .summary = "train a model, or go on with a run",
          .options = train_options(),
          .examples = {"powertrain train --config configs/tiny_cpu.yaml",
                       "powertrain train --config configs/gpt2_124m_power.yaml --batch_size=32 --out_dir=runs/a",
                       "powertrain train --config runs/a/config.yaml --init_from=resume",
                       "POWERTRAIN_SEED=7 powertrain train --config configs/tiny_cpu.yaml --print-config"},
          .run = run_train,
          .accepts_key = is_ignored_key,
          .resumable = true};
}

}  // namespace power::cli
