#pragma once

#include <string>
#include <vector>

#include "cli/arguments.h"

namespace power::cli {

// One command of the program. Each has its file: NAME.cpp defines NAME_command() and registry.cpp lists it; --help,
// completion and suggestions follow from this table.
struct Command {
  std::string name;           // "eval", or with its group "data tokenize"
  std::string summary;        // one line
  std::string operands = {};  // how --help calls the words that belong to no option: "RUN..."; empty: there are none
  size_t min_operands = 0;
  size_t max_operands = 0;
  std::vector<Option> options = {};
  std::vector<std::string> examples = {};
  // Does the work and returns the exit code; throws Error. Results go to stdout, all else to stderr.
  // Commands that poll core/interrupt.h call install_interrupt_handlers() themselves: others just die of a signal.
  int (*run)(const Arguments& arguments) = nullptr;
  // Further option names, each with a value, that are accepted and not shown.
  bool (*accepts_key)(const std::string& name) = nullptr;
  // An interrupted train ends with 5, since it can be resumed; other commands end with 128 + signal.
  bool resumable = false;
};

// Every command, in the order of --help.
const std::vector<Command>& commands();
// Options of every command: --help, --quiet.
const std::vector<Option>& common_options();
// Options of several commands: the checkpoint to read, where to compute, and JSON on stdout.
Option checkpoint_option();
Option device_option();
Option json_option();

Command train_command();
Command eval_command();
Command generate_command();
Command data_tokenize_command();
Command data_verify_command();
Command data_info_command();
Command ckpt_ls_command();
Command ckpt_verify_command();
Command ckpt_diff_command();
Command plot_command();
Command doctor_command();
Command selftest_command();
Command bench_operator_command();
Command completion_command();

// The text of `powertrain --help`, of a group of commands ("data"), and of one command.
std::string program_help();
std::string group_help(const std::string& group);
std::string command_help(const Command& command);
// The answer to --version.
std::string version_text();

}  // namespace power::cli
