#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/metrics.h"

namespace power::train {

struct PlotOptions {
  std::vector<std::string> runs;  // run folders, overlaid
  std::string out = "loss.svg";
  std::string x = "auto";  // steps | tokens | auto: steps, unless the runs' steps hold different numbers of tokens
  bool log_y = false;
};

// The `plot` command: training and validation loss of the runs as an SVG; prints its path.
void plot_command(const PlotOptions& options);

// Draws the runs' metrics.jsonl. Throws Error(kData) where a run has none, or none of them a loss.
void plot_runs(const std::vector<std::filesystem::path>& runs, const std::filesystem::path& out,
               const PlotOptions& options = {});

struct NamedHistory {
  std::string name;
  MetricsHistory history;
};

// The picture itself: the loss of each step lightly, its moving average strongly, validation as marked points.
std::string plot_svg(const std::vector<NamedHistory>& runs, const PlotOptions& options);

// Mean of the points around each one: 1% of their number on either side. At the steep beginning fewer, so that it stays
// centred; at the end those that are there.
std::vector<double> smoothed_loss(const std::vector<MetricsPoint>& points);

}  // namespace power::train
