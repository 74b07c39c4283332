#include "train/plot.h"

#include <algorithm>
#include <iostream>

#include "core/error.h"
#include "core/file.h"

namespace power::train {
namespace fs = std::filesystem;

std::vector<double> smoothed_loss(const std::vector<MetricsPoint>& points) {
  std::vector<double> sums = {0};
  for (const MetricsPoint& point : points) sums.push_back(sums.back() + point.loss);
  const size_t half = points.size() / 100;
  std::vector<double> result(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t reach = std::min(half, i);
    const size_t end = std::min(i + reach + 1, points.size());
    result[i] = (sums[end] - sums[i - reach]) / static_cast<double>(end - (i - reach));
  }
  return result;
}

void plot_runs(const std::vector<fs::path>& runs, const fs::path& out, const PlotOptions& options) {
  std::vector<NamedHistory> histories;
  bool any = false;
  for (const fs::path& run : runs) {
    const fs::path folder = run.has_filename() ? run : run.parent_path();
    const fs::path metrics = folder / "metrics.jsonl";
    require(fs::exists(metrics), ErrorKind::kData, metrics.string(),
            ": cannot be opened: no such file; name run folders, as `powertrain train` leaves them");
    histories.push_back({folder.filename().string(), read_metrics(metrics)});
    any = any || !histories.back().history.training.empty() || !histories.back().history.validation.empty();
  }
  require(any, ErrorKind::kData, runs.empty() ? std::string("no run") : (runs.front() / "metrics.jsonl").string(),
          ": holds no loss to plot yet");
  write_file_atomic(out, plot_svg(histories, options));
}

void plot_command(const PlotOptions& options) {
  plot_runs({options.runs.begin(), options.runs.end()}, options.out, options);
  std::cout << options.out << "\n";
}

}  // namespace power::train
