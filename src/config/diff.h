#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"

namespace power::config {

struct Change {
  std::string key;
  std::string before;
  std::string after;
};

// Keys whose values differ, in the order of the schema.
struct Diff {
  std::vector<Change> model;  // decide what the parameters mean: cannot change when a run resumes
  std::vector<Change> other;
};

Diff diff(const RunConfig& before, const RunConfig& after);
// "n_layer: 12 -> 6"
std::string to_string(const Change& change);

}  // namespace power::config
