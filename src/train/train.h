#pragma once

#include "config/run_config.h"

namespace power::train {

// The `train` command: decides where to start from, prints a summary, trains, and ends with the commands to paste next.
// Throws Error with the kind that is the program's exit code.
void train(const config::RunConfig& config);

}  // namespace power::train
