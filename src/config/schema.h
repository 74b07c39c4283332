#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/run_config.h"

// The one table of configuration keys behind YAML, flags, environment, --help, completion and docs/configuration.md.
namespace power::config {

// The member a key sets; its type is the key's type.
using Member = std::variant<bool RunConfig::*, int64_t RunConfig::*, double RunConfig::*, std::string RunConfig::*,
                            std::optional<int64_t> RunConfig::*, std::vector<std::string> RunConfig::*>;

struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is excluded
  bool below_max = false;  // max itself is excluded
};

struct Key {
  std::string name;
  std::string group;  // heading in --help and the reference
  Member member;
  std::string help;
  Range range = {};                       // numbers, and numeric values of texts with a `form`
  std::vector<std::string> choices = {};  // texts and lists: the whole set, or with `form` the words beside it
  // Texts that are more than a set of words: says whether a text is one, and what it looks like ("a number >= 1").
  bool (*is_form)(const std::string&) = nullptr;
  std::string form = {};
  std::string unit = {};
  bool model = false;  // decides what the parameters mean: cannot change when a run resumes
};

// A key of the older trainers that is accepted so that their command lines paste, and does nothing here.
struct IgnoredKey {
  std::string name;  // a trailing * matches any ending
  std::string reason;
};

const std::vector<Key>& schema();
const std::vector<IgnoredKey>& ignored_keys();
const Key* find_key(std::string_view name);
const IgnoredKey* find_ignored_key(std::string_view name);
// Every name that schema() holds, for suggestions.
std::vector<std::string> key_names();

// What a value may be, in words: "a whole number >= 1", "cosine or wsd", "None, auto or a whole number >= 1".
std::string allowed_values(const Key& key);
// True for keys whose value may be left out on the command line (`--overwrite` is `--overwrite=True`).
bool is_boolean(const Key& key);
// True for keys whose value is a file or folder.
bool is_path(const Key& key);
// What --help calls the value: "N", "F", "a|b", "TEXT".
std::string placeholder(const Key& key);
std::string default_text(const Key& key);

}  // namespace power::config
