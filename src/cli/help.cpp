#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/str.h"

namespace power::cli {
namespace {

constexpr size_t kHelpColumn = 30;
constexpr size_t kWidth = 110;

// "  LEFT     text", the text in a column of its own, wrapped.
std::string row(const std::string& left, const std::string& text) {
  std::string out, line = "  " + left;
  if (line.size() + 2 > kHelpColumn) {
    out = line + "\n";
    line.clear();
  }
  line.resize(kHelpColumn, ' ');
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (line.size() > kHelpColumn && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line.assign(kHelpColumn, ' ');
    }
    line += (line.size() == kHelpColumn ? "" : " ") + word;
  }
  return out + line + "\n";
}

std::string option_row(const Option& option) {
  const char* before = option.takes == Takes::kMany || option.takes == Takes::kOne ? " " : "=";
  std::string help = option.help;
  if (!option.choices.empty()) {
    std::string choices;
    for (const std::string& choice : option.choices) choices += (choices.empty() ? "" : " | ") + choice;
    help += " (" + choices + ")";
  }
  if (option.required) help += " (required)";
  return row("--" + option.name + (option.value.empty() ? "" : before + option.value), help);
}

std::string group_of(const Command& command) {
  const size_t space = command.name.find(' ');
  return space == std::string::npos ? "" : command.name.substr(0, space);
}

std::string usage(const Command& command) {
  std::string text = "powertrain " + command.name;
  for (const Option& option : command.options) {
    if (option.required) text += str(" --", option.name, " ", option.value);
  }
  if (!command.operands.empty()) text += " " + command.operands;
  return text + " [OPTIONS]";
}

constexpr const char* kExitCodes =
    "Exit codes: 0 ok, 1 runtime, 2 usage or configuration, 3 data or checkpoint invalid, 4 loss not finite,\n"
    "            5 stopped but resumable, 130 and 143 interrupted\n";

}  // namespace

std::string program_help() {
  std::string text =
      "powertrain trains, evaluates and runs GPT models with symmetric power attention.\n\n"
      "Usage: powertrain COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Command& command : commands()) text += row(command.name, command.summary);
  text += str(
      "\n`powertrain COMMAND --help` shows a command's options and examples, `powertrain --version` the versions.\n",
      kExitCodes);
  return text;
}

std::string group_help(const std::string& group) {
  std::string text = str("Usage: powertrain ", group, " COMMAND [OPTIONS]\n\nCommands:\n");
  for (const Command& command : commands()) {
    if (group_of(command) == group) text += row(command.name, command.summary);
  }
  return text;
}

std::string command_help(const Command& command) {
  std::string text = str(command.summary, "\n\nUsage: ", usage(command), "\n");
  std::vector<Option> options = command.options;
  options.insert(options.end(), common_options().begin(), common_options().end());
  std::vector<std::string> groups;
  for (const Option& option : options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) groups.push_back(option.group);
  }
  for (const std::string& group : groups) {
    text += str("\n", group.empty() ? "Options" : group, ":\n");
    for (const Option& option : options) {
      if (option.group == group) text += option_row(option);
    }
  }
  text += "\nExamples:\n";
  for (const std::string& example : command.examples) text += "  " + example + "\n";
  return text;
}

}  // namespace power::cli
