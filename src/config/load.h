#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"

// Configuration from its four sources: defaults < file < environment < command line.
namespace power::config {

enum class Source { kDefault, kFile, kEnvironment, kCommandLine };

struct Origin {
  Source source = Source::kDefault;
  std::string where = "default";  // "configs/tiny.yaml:3", "POWERTRAIN_SEED", "--seed"
};

struct Assignment {
  std::string key;
  std::string value;
  Origin origin;
};

struct Resolved {
  RunConfig config;
  std::map<std::string, Origin> origins;  // of every key of the schema
  std::vector<std::string> warnings;      // to be shown once: keys without effect, doubtful combinations
};

// The assignments of a YAML file.
std::vector<Assignment> read_file_assignments(const std::string& path);
// The assignments of POWERTRAIN_KEY variables in `environment` (as `environ`).
std::vector<Assignment> read_environment_assignments(const char* const* environment);

// Applies the assignments to the defaults, later sources over earlier ones, and validates the whole.
// Throws Error(kUsage) naming the origin: an unknown key with the nearest valid name, a key set twice in one source, a
// value that is not valid, keys that contradict each other.
Resolved resolve(const std::vector<Assignment>& assignments);

// A stored configuration (the run folder's or a checkpoint's config.yaml); `name` stands for the file in messages.
RunConfig from_yaml(std::string_view text, const std::string& name);
// Every key with its value, as from_yaml reads it back.
std::string to_yaml(const RunConfig& config);
// The same with each value's origin as a comment: what --print-config shows.
std::string to_yaml_with_origins(const Resolved& resolved);

// Throws Error(kUsage) where keys contradict each other or no form of the model supports them.
void validate(const RunConfig& config);
// Combinations that are valid and probably not meant, in words.
std::vector<std::string> doubts(const RunConfig& config);

}  // namespace power::config
