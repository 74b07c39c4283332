#include "config/load.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "config/nearest.h"
#include "config/schema.h"
#include "config/value.h"
#include "config/yaml_reader.h"
#include "core/error.h"
#include "core/file.h"

namespace power::config {
namespace {

constexpr std::string_view kPrefix = "POWERTRAIN_";
// Variables of the launcher, the set-up script and the tests that share the prefix.
const std::set<std::string, std::less<>> kOtherVariables = {"LIBTORCH", "VENV", "GOLDEN_DIR"};

[[noreturn]] void fail_unknown(const Assignment& assignment) {
  fail(ErrorKind::kUsage, assignment.origin.where, ": unknown key '", assignment.key, "'; the nearest is '",
       nearest(assignment.key, key_names()), "' (`powertrain train --help` lists all)");
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

// Applies one assignment; a key without effect goes to `ignored` with the reason.
void apply(const Assignment& assignment, Resolved& resolved, std::vector<std::string>& ignored_names) {
  if (const Key* key = find_key(assignment.key)) {
    const std::string problem = set_value(resolved.config, *key, assignment.value);
    // "--seed: ..." names the key already, "tiny.yaml:3: seed: ..." does not.
    const bool named = assignment.origin.where == "--" + key->name;
    require(problem.empty(), ErrorKind::kUsage, assignment.origin.where, ": ", named ? "" : key->name + ": ", problem);
    resolved.origins[key->name] = assignment.origin;
  } else if (const IgnoredKey* ignored = find_ignored_key(assignment.key)) {
    ignored_names.push_back(str(assignment.key, " (", ignored->reason, ")"));
  } else {
    fail_unknown(assignment);
  }
}

std::string yaml_value(const RunConfig& config, const Key& key) {
  const std::string text = get_value(config, key);
  return std::holds_alternative<std::string RunConfig::*>(key.member) ? yaml_scalar(text) : text;
}

}  // namespace

std::vector<Assignment> read_file_assignments(const std::string& path) {
  std::string text;
  try {
    text = read_file(path, size_t{16} << 20);
  } catch (const Error& error) {
    fail(ErrorKind::kUsage, "configuration ", error.what());
  }
  std::vector<Assignment> assignments;
  for (YamlEntry& entry : read_yaml(text, path)) {
    assignments.push_back({std::move(entry.key), std::move(entry.value), {Source::kFile, str(path, ":", entry.line)}});
  }
  return assignments;
}

std::vector<Assignment> read_environment_assignments(const char* const* environment) {
  std::vector<Assignment> assignments;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    if (variable.substr(0, kPrefix.size()) != kPrefix) continue;
    const size_t equals = variable.find('=');
    const std::string_view name = variable.substr(0, equals), key = name.substr(kPrefix.size());
    if (kOtherVariables.count(key) > 0) continue;
    const std::string_view value = equals == std::string_view::npos ? "" : variable.substr(equals + 1);
    assignments.push_back({lower(key), std::string(value), {Source::kEnvironment, std::string(name)}});
  }
  return assignments;
}

Resolved resolve(const std::vector<Assignment>& assignments) {
  Resolved resolved;
  for (const Key& key : schema()) resolved.origins[key.name] = {};
  std::vector<std::string> ignored;
  std::map<std::pair<Source, std::string>, std::string> seen;
  for (const Source source : {Source::kFile, Source::kEnvironment, Source::kCommandLine}) {
    for (const Assignment& assignment : assignments) {
      if (assignment.origin.source != source) continue;
      const auto [first, added] = seen.emplace(std::pair(source, assignment.key), assignment.origin.where);
      require(added, ErrorKind::kUsage, assignment.origin.where, ": '", assignment.key, "' is set twice, first by ",
              first->second, "; keep one");
      apply(assignment, resolved, ignored);
    }
  }
  validate(resolved.config);
  if (!ignored.empty()) {
    std::string names;
    for (const std::string& name : ignored) names += (names.empty() ? "" : ", ") + name;
    resolved.warnings.push_back("accepted without effect: " + names);
  }
  for (std::string& doubt : doubts(resolved.config)) resolved.warnings.push_back(std::move(doubt));
  return resolved;
}

RunConfig from_yaml(std::string_view text, const std::string& name) {
  std::vector<Assignment> assignments;
  for (YamlEntry& entry : read_yaml(text, name)) {
    assignments.push_back({std::move(entry.key), std::move(entry.value), {Source::kFile, str(name, ":", entry.line)}});
  }
  return resolve(assignments).config;
}

std::string to_yaml(const RunConfig& config) {
  std::string text;
  std::string group;
  for (const Key& key : schema()) {
    if (key.group != group) text += str(group.empty() ? "" : "\n", "# ", key.group, "\n");
    group = key.group;
    text += str(key.name, ": ", yaml_value(config, key), "\n");
  }
  return text;
}

std::string to_yaml_with_origins(const Resolved& resolved) {
  constexpr size_t kOriginColumn = 48;
  std::string text;
  for (const Key& key : schema()) {
    std::string line = str(key.name, ": ", yaml_value(resolved.config, key));
    line.resize(std::max(line.size(), kOriginColumn), ' ');
    text += str(line, "  # ", resolved.origins.at(key.name).where, "\n");
  }
  return text;
}

}  // namespace power::config
