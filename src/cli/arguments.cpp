#include "cli/arguments.h"

#define CXXOPTS_NO_REGEX  // its regular expressions end a value at a line break and overflow the stack on long ones
#include <algorithm>
#include <cxxopts.hpp>
#include <deque>
#include <set>

#include "cli/command.h"
#include "config/nearest.h"
#include "config/value.h"
#include "core/error.h"

namespace power::cli {
namespace {

bool is_option(const std::string& word) { return word.size() > 2 && word.compare(0, 2, "--") == 0; }

// Words that look like an option are not taken as a value, or a forgotten value would swallow the next option.
bool is_value(const std::string& word) { return word.compare(0, 2, "--") != 0; }

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

}  // namespace

// cxxopts reads the line, but only once every word in it is unambiguous: left to itself it takes the value of
// `--flag False` for a stray word, drops stray words, and keeps the last of repeated options.
class Parser {
 public:
  Parser(const Command& command, const std::vector<std::string>& words)
      : command_(command), words_(words.begin(), words.end()) {}

  Arguments parse() {
    while (!words_.empty()) {
      const std::string word = take();
      if (word == "--") {
        while (!words_.empty()) add_operand(take());
      } else if (is_option(word)) {
        check_option(word.substr(2));
      } else if (word.size() > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')) {
        fail_usage("unknown option '", word, "'; options begin with two dashes");
      } else {
        add_operand(word);
      }
    }
    const Arguments arguments = read();
    check_complete(arguments);
    return arguments;
  }

 private:
  template <class... Args>
  [[noreturn]] void fail_usage(const Args&... message) const {
    fail(ErrorKind::kUsage, message..., " (`powertrain ", command_.name, " --help` shows the usage)");
  }

  std::string take() {
    std::string word = std::move(words_.front());
    words_.pop_front();
    return word;
  }

  void add_operand(const std::string& word) {
    if (operands_.size() >= command_.max_operands) {
      const bool file = word.find(".yaml") != std::string::npos || word.find(".yml") != std::string::npos;
      const bool assignment = word.find('=') != std::string::npos;
      fail_usage("unexpected word '", word, "'",
                 file         ? "; a configuration file is given by --config " + word
                 : assignment ? "; options begin with two dashes: --" + word
                              : "");
    }
    operands_.push_back(word);
  }

  Option find(const std::string& name) const {
    std::vector<std::string> names;
    for (const Option& option : command_.options) {
      if (option.name == name) return option;
      names.push_back(option.name);
    }
    if (command_.accepts_key != nullptr && command_.accepts_key(name)) {
      return {.name = name, .takes = Takes::kBoolean, .value = "VALUE"};
    }
    for (const Option& option : common_options()) {
      if (option.name == name) return option;
      names.push_back(option.name);
    }
    fail_usage("unknown option --", name, "; the nearest is --", config::nearest(name, names));
  }

  // Adds the option in the one form `--name=value`, or `--name` where it takes none.
  void check_option(const std::string& word) {
    const size_t equals = word.find('=');
    const Option option = find(word.substr(0, equals));
    const bool attached = equals != std::string::npos;
    const std::string value = attached ? word.substr(equals + 1) : "";
    if (!names_.insert(option.name).second && !option.repeatable)
      fail_usage("--", option.name, " is given twice; keep one");
    switch (option.takes) {
      case Takes::kNothing:
        if (attached) fail_usage("--", option.name, " takes no value, found '", value, "'");
        options_.push_back("--" + option.name);
        return;
      case Takes::kBoolean:
        if (attached) return add(option, value);
        return add(option, !words_.empty() && is_value(words_.front()) ? take() : "True");
      case Takes::kOne:
        if (attached) return add(option, value);
        if (words_.empty() || !is_value(words_.front())) {
          fail_usage("--", option.name, " needs a value: --", option.name, "=", option.value);
        }
        return add(option, take());
      case Takes::kMany:
        if (attached) return add(option, value);
        if (words_.empty() || !is_value(words_.front())) {
          fail_usage("--", option.name, " needs at least one value: --", option.name, " ", option.value);
        }
        while (!words_.empty() && is_value(words_.front())) add(option, take());
    }
  }

  void add(const Option& option, const std::string& value) {
    const auto& choices = option.choices;
    if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end()) {
      fail_usage("--", option.name, "=", value, ": use ", join(choices, ", "));
    }
    options_.push_back("--" + option.name + "=" + value);
  }

  Arguments read() const {
    cxxopts::Options parser("powertrain " + command_.name);
    for (const std::string& name : names_) {
      const bool flag = find(name).takes == Takes::kNothing;
      parser.add_options()(name, "", flag ? cxxopts::value<bool>() : cxxopts::value<std::string>());
    }
    std::vector<const char*> line = {"powertrain"};
    for (const std::string& option : options_) line.push_back(option.c_str());
    const cxxopts::ParseResult result = parser.parse(static_cast<int>(line.size()), line.data());
    Arguments arguments;
    for (const cxxopts::KeyValue& option : result.arguments()) {
      const bool flag = find(option.key()).takes == Takes::kNothing;
      arguments.options_.emplace_back(option.key(), flag ? "" : option.value());
    }
    arguments.operands_ = operands_;
    return arguments;
  }

  void check_complete(const Arguments& arguments) const {
    for (const Option& option : command_.options) {
      if (option.required && !arguments.has(option.name)) {
        fail_usage("--", option.name, " is missing: --", option.name, " ", option.value);
      }
    }
    if (operands_.size() < command_.min_operands) fail_usage(command_.operands, " is missing");
  }

  const Command& command_;
  std::deque<std::string> words_;
  std::vector<std::string> options_, operands_;
  std::set<std::string> names_;
};

Arguments parse(const Command& command, const std::vector<std::string>& words) {
  return Parser(command, words).parse();
}

bool Arguments::has(const std::string& name) const {
  return std::any_of(options_.begin(), options_.end(), [&](const auto& option) { return option.first == name; });
}

std::string Arguments::text(const std::string& name, const std::string& fallback) const {
  for (const auto& [option, value] : options_) {
    if (option == name) return value;
  }
  return fallback;
}

std::vector<std::string> Arguments::texts(const std::string& name) const {
  std::vector<std::string> values;
  for (const auto& [option, value] : options_) {
    if (option == name) values.push_back(value);
  }
  return values;
}

int64_t Arguments::integer(const std::string& name, int64_t fallback, int64_t min, int64_t max) const {
  if (!has(name)) return fallback;
  const auto value = config::parse_integer(text(name));
  const bool bounded = max != std::numeric_limits<int64_t>::max();
  require(value && *value >= min && *value <= max, ErrorKind::kUsage, "--", name, "=", text(name),
          ": use a whole number >= ", min, bounded ? str(" and <= ", max) : "");
  return *value;
}

double Arguments::number(const std::string& name, double fallback, double min, double max) const {
  if (!has(name)) return fallback;
  const auto value = config::parse_number(text(name));
  require(value && *value >= min && *value <= max, ErrorKind::kUsage, "--", name, "=", text(name),
          ": use a number >= ", config::format_value(min), " and <= ", config::format_value(max));
  return *value;
}

}  // namespace power::cli
