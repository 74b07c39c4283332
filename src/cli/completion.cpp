#include <algorithm>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "cli/command.h"
#include "config/schema.h"
#include "core/error.h"

namespace power::cli {
namespace {

std::vector<std::string> values_of(const Option& option) {
  if (!option.choices.empty()) return option.choices;
  if (option.takes == Takes::kBoolean) return {"True", "False"};
  const config::Key* key = config::find_key(option.name);
  return key != nullptr ? key->choices : std::vector<std::string>();
}

std::vector<Option> all_options(const Command& command) {
  std::vector<Option> options = command.options;
  options.insert(options.end(), common_options().begin(), common_options().end());
  return options;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// First words of all commands, and the second words of each group.
std::vector<std::string> first_words() {
  std::vector<std::string> words;
  for (const Command& command : commands()) {
    const std::string word = command.name.substr(0, command.name.find(' '));
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  return words;
}

std::vector<std::string> second_words(const std::string& first) {
  std::vector<std::string> words;
  for (const Command& command : commands()) {
    if (command.name.rfind(first + " ", 0) == 0) words.push_back(command.name.substr(first.size() + 1));
  }
  return words;
}

std::string option_words(const Command& command) {
  std::vector<std::string> words;
  for (const Option& option : all_options(command)) words.push_back("--" + option.name);
  return join(words);
}

// zsh runs the same function through bashcompinit.
std::string bash_script(bool zsh) {
  std::string text = zsh ? "#compdef powertrain\nautoload -U +X bashcompinit && bashcompinit\n_powertrain_words"
                         : "# bash completion of powertrain; `powertrain completion bash` prints it\n_powertrain";
  text += R"(() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  local option="" words=""
  COMPREPLY=()
  # Bash splits --key=value at the equals sign, zsh does not.
  if [[ $cur == --*=* ]]; then option=${cur%%=*}; cur=${cur#*=}
  elif [[ $cur == "=" ]]; then option=$prev; cur=""
  elif [[ $prev == "=" && $COMP_CWORD -gt 1 ]]; then option=${COMP_WORDS[COMP_CWORD-2]}
  elif [[ $prev == --* ]]; then option=$prev
  fi
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W ")";
  text += join(first_words()) + R"( --help --version" -- "$cur"))
    return
  fi
  case $command in
)";
  for (const std::string& first : first_words()) {
    const std::vector<std::string> seconds = second_words(first);
    if (seconds.empty()) continue;
    text +=
        "    " + first + ")\n      if [[ $COMP_CWORD -eq 2 ]]; then\n        COMPREPLY=($(compgen -W \"" +
        join(seconds) +
        " --help\" -- \"$cur\"))\n        return\n      fi\n      command=\"$command ${COMP_WORDS[2]}\"\n      ;;\n";
  }
  text += "  esac\n  case \"$command $option\" in\n";
  for (const Command& command : commands()) {
    for (const Option& option : all_options(command)) {
      const std::vector<std::string> values = values_of(option);
      const std::string pattern = "    \"" + command.name + " --" + option.name + "\") ";
      if (option.is_path) {
        text += pattern + "COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames 2>/dev/null; return ;;\n";
      } else if (!values.empty()) {
        text += pattern + "COMPREPLY=($(compgen -W \"" + join(values) + "\" -- \"$cur\")); return ;;\n";
      }
    }
  }
  text += "  esac\n  case $command in\n";
  for (const Command& command : commands()) {
    text += "    \"" + command.name + "\") words=\"" + option_words(command) + "\" ;;\n";
  }
  text += R"(  esac
  if [[ $cur == --* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
)";
  text += zsh ? R"(_powertrain() {
  compset -P '--*='
  _bash_complete -F _powertrain_words
}
# As a file in fpath this is the body of _powertrain and answers at once; sourced, it only tells zsh of it.
if [[ ${funcstack[1]} == _powertrain ]]; then _powertrain; else compdef _powertrain powertrain; fi
)"
              : "complete -F _powertrain powertrain\n";
  return text;
}

std::string fish_quote(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string fish_script() {
  std::string text =
      "# fish completion of powertrain; `powertrain completion fish` prints it\ncomplete -c powertrain -n "
      "__fish_use_subcommand -a " +
      fish_quote(join(first_words())) + " -f\n";
  for (const std::string& first : first_words()) {
    const std::vector<std::string> seconds = second_words(first);
    if (seconds.empty()) continue;
    text += "complete -c powertrain -n '__fish_seen_subcommand_from " + first +
            "; and not __fish_seen_subcommand_from " + join(seconds) + "' -a " + fish_quote(join(seconds)) + " -f\n";
  }
  for (const Command& command : commands()) {
    const size_t space = command.name.find(' ');
    std::string condition = "__fish_seen_subcommand_from " + command.name.substr(0, space);
    if (space != std::string::npos) condition += "; and __fish_seen_subcommand_from " + command.name.substr(space + 1);
    for (const Option& option : all_options(command)) {
      text += "complete -c powertrain -n " + fish_quote(condition) + " -l " + option.name + " -d " +
              fish_quote(option.help);
      const std::vector<std::string> values = values_of(option);
      if (option.takes != Takes::kNothing) text += option.is_path ? " -r -F" : " -x";
      if (!values.empty()) text += " -a " + fish_quote(join(values));
      text += "\n";
    }
  }
  return text;
}

int run_completion(const Arguments& arguments) {
  const std::string& shell = arguments.operands()[0];
  if (shell == "bash" || shell == "zsh") {
    std::cout << bash_script(shell == "zsh");
  } else if (shell == "fish") {
    std::cout << fish_script();
  } else {
    fail(ErrorKind::kUsage, "completion for '", shell, "' is not there; use bash, zsh or fish");
  }
  return 0;
}

}  // namespace

Command completion_command() {
  return {
      .name = "completion",
      .summary = "print the completion script of a shell",
      .operands = "bash|zsh|fish",
      .min_operands = 1,
      .max_operands = 1,
      .examples = {"source <(powertrain completion bash)", "powertrain completion zsh > \"${fpath[1]}/_powertrain\"",
                   "powertrain completion fish > ~/.config/fish/completions/powertrain.fish"},
      .run = run_completion};
}

}  // namespace power::cli
