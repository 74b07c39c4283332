#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace power::train {

struct PlotOptions {
  std::vector<std::string> runs;  // run folders, overlaid
  std::string out = "loss.svg";
};

// Draws training and validation loss of the runs over the steps. Throws Error(kData) where a run has no metrics.
void plot_runs(const std::vector<std::filesystem::path>& runs, const std::filesystem::path& out);

// The `plot` command.
void plot_command(const PlotOptions& options);

}  // namespace power::train
