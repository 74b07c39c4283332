#include "train/plot.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/format.h"
#include "plot/chart.h"

namespace power::train {
namespace {

double x_of(const MetricsPoint& point, bool tokens) { return static_cast<double>(tokens ? point.tokens : point.step); }

// Steps are the plain axis; runs whose steps differ in size are compared by the tokens they saw.
bool compare_by_tokens(const std::vector<NamedHistory>& runs, const std::string& choice) {
  if (choice == "steps") return false;
  double rate = 0;
  bool recorded = true, differ = false;
  for (const NamedHistory& run : runs) {
    for (const auto* points : {&run.history.training, &run.history.validation}) {
      for (const MetricsPoint& point : *points) recorded = recorded && (point.tokens > 0 || point.step == 0);
      if (points->empty() || points->back().step == 0) continue;
      const double own = static_cast<double>(points->back().tokens) / static_cast<double>(points->back().step);
      differ = differ || (rate > 0 && std::abs(own - rate) > 1e-3 * rate);
      rate = own;
    }
  }
  require(choice != "tokens" || recorded, ErrorKind::kData, "these runs do not record their tokens; plot over steps");
  return recorded && (choice == "tokens" || differ);
}

double longest(const std::vector<NamedHistory>& runs, bool tokens) {
  double high = 1;
  for (const NamedHistory& run : runs) {
    for (const auto* points : {&run.history.training, &run.history.validation}) {
      for (const MetricsPoint& point : *points) high = std::max(high, x_of(point, tokens));
    }
  }
  return high;
}

// From the lowest loss to the highest after the first 4% of the run: the fall from the random start would press all
// that follows flat. What lies above is cut off.
plot::Axis loss_axis(const std::vector<NamedHistory>& runs, bool tokens, double x_high, bool log_y) {
  double low = INFINITY, high = -INFINITY;
  const auto add = [&](double loss, bool counts_above) {
    low = std::min(low, loss);
    if (counts_above) high = std::max(high, loss);
  };
  for (const NamedHistory& run : runs) {
    const std::vector<double> smooth = smoothed_loss(run.history.training);
    const double start = 0.04 * x_high;
    for (size_t i = 0; i < smooth.size(); ++i) {
      add(smooth[i], log_y || smooth.size() < 50 || x_of(run.history.training[i], tokens) >= start);
    }
    for (const MetricsPoint& point : run.history.validation) add(point.loss, log_y || x_of(point, tokens) >= start);
  }
  if (high < low) high = low;
  if (log_y && low > 0) return {.low = low / 1.05, .high = high * 1.05, .logarithmic = true};
  const double margin = std::max(0.06 * (high - low), 1e-3 * std::max(std::abs(high), 1e-6));
  return {.low = low - margin, .high = high + margin};
}

std::string legend_text(const NamedHistory& run) {
  std::string text = run.name;
  if (!run.history.training.empty()) {
    text += "   train " + format_number("%.4f", smoothed_loss(run.history.training).back());
  }
  if (!run.history.validation.empty()) {
    text += "   \u25cb validation " + format_number("%.4f", run.history.validation.back().loss);
  }
  return text;
}

enum class Layer { kSteps, kMean, kValidation };

plot::Line line_of(const MetricsHistory& history, Layer layer, bool tokens, size_t color) {
  const auto& points = layer == Layer::kValidation ? history.validation : history.training;
  const std::vector<double> smooth = layer == Layer::kMean ? smoothed_loss(points) : std::vector<double>();
  plot::Line line{.color = color};
  for (size_t i = 0; i < points.size(); ++i) {
    line.points.push_back({x_of(points[i], tokens), smooth.empty() ? points[i].loss : smooth[i]});
  }
  if (layer == Layer::kSteps) line.width = 1, line.opacity = 0.22;
  if (layer == Layer::kValidation) line.width = 1.2, line.dashed = true, line.marker = points.size() > 60 ? 2 : 3.5;
  return line;
}

}  // namespace

std::string plot_svg(const std::vector<NamedHistory>& runs, const PlotOptions& options) {
  const bool tokens = compare_by_tokens(runs, options.x);
  plot::Chart chart;
  chart.x.high = longest(runs, tokens);
  chart.y = loss_axis(runs, tokens, chart.x.high, options.log_y);
  chart.x_label = tokens ? "tokens" : "steps";
  chart.y_label = "loss (nats per token)";
  for (const NamedHistory& run : runs) chart.legend.push_back(legend_text(run));
  // The noise of one run must not hide the mean of another.
  for (const Layer layer : {Layer::kSteps, Layer::kMean, Layer::kValidation}) {
    for (size_t i = 0; i < runs.size(); ++i) chart.lines.push_back(line_of(runs[i].history, layer, tokens, i));
  }
  return plot::chart_svg(std::move(chart));
}

}  // namespace power::train
