#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

// Command lines, strictly: no option is repeated unless it may be, no stray word is dropped, numbers count whole,
// commas do not split.
namespace power::cli {

enum class Takes {
  kNothing,  // --json
  kOne,      // --out DIR, --out=DIR
  kBoolean,  // --bias, --bias=False, --bias False
  kMany,     // --data A B C: every word up to the next option, and again
};

struct Option {
  std::string name;  // without dashes
  Takes takes = Takes::kNothing;
  std::string value = {};  // what --help and messages call the value: "DIR", "N"
  std::string help = {};
  bool required = false;
  bool repeatable = false;
  std::vector<std::string> choices = {};  // the whole set of values, empty: any
  bool is_path = false;                   // completed by file names
  std::string group = {};                 // heading in --help
};

// What a command line says, checked against a command's options. Getters throw Error(kUsage) for a bad number.
class Arguments {
 public:
  bool has(const std::string& name) const;
  // The value; `fallback` where the option is not given.
  std::string text(const std::string& name, const std::string& fallback = "") const;
  std::vector<std::string> texts(const std::string& name) const;
  int64_t integer(const std::string& name, int64_t fallback, int64_t min = 0,
                  int64_t max = std::numeric_limits<int64_t>::max()) const;
  double number(const std::string& name, double fallback, double min, double max) const;
  // Words that belong to no option.
  const std::vector<std::string>& operands() const { return operands_; }
  // Every option with its value, in the order given.
  const std::vector<std::pair<std::string, std::string>>& options() const { return options_; }

 private:
  friend class Parser;
  std::vector<std::pair<std::string, std::string>> options_;
  std::vector<std::string> operands_;
};

struct Command;
// Throws Error(kUsage). Words after `--` are operands whatever they look like.
Arguments parse(const Command& command, const std::vector<std::string>& words);

}  // namespace power::cli
