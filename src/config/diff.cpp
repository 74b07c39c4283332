#include "config/diff.h"

#include <algorithm>

#include "config/schema.h"
#include "config/value.h"

namespace power::config {
namespace {

// A list whose entries are all alike means the same as its one entry.
std::string canonical_value(const RunConfig& config, const Key& key) {
  RunConfig canonical = config;
  std::vector<std::string>& kernels = canonical.attention_kernel;
  if (!kernels.empty() && std::all_of(kernels.begin(), kernels.end(), [&](const auto& k) { return k == kernels[0]; })) {
    kernels.resize(1);
  }
  return get_value(canonical, key);
}

}  // namespace

Diff diff(const RunConfig& before, const RunConfig& after) {
  Diff result;
  for (const Key& key : schema()) {
    Change change{key.name, canonical_value(before, key), canonical_value(after, key)};
    if (change.before != change.after) (key.model ? result.model : result.other).push_back(std::move(change));
  }
  return result;
}

std::string to_string(const Change& change) { return change.key + ": " + change.before + " -> " + change.after; }

}  // namespace power::config
