#include "train/plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/format.h"
#include "train/axis.h"

namespace power::train {
namespace {

constexpr double kWidth = 960, kHeight = 560;
constexpr double kLeft = 64, kRight = 24, kTop = 24, kBottom = 56;
constexpr double kLegendRow = 22;
constexpr double kPointRoom = 6;  // for half of the last validation point
// Okabe and Ito's colours, told apart by colour-blind readers too.
constexpr std::array<const char*, 7> kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                "#e69f00", "#56b4e9", "#444444"};

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '&')
      result += "&amp;";
    else if (c == '"')
      result += "&quot;";
    else
      result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return result;
}

std::string px(double value) { return format_number("%.1f", value); }

std::string text_at(double x, double y, const char* anchor, const std::string& text, const char* style = "") {
  return str("<text x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor, "\"", style, ">", escaped(text),
             "</text>\n");
}

struct Plotter {
  bool tokens = false;
  Axis x;
  Axis y;

  double x_of(const MetricsPoint& point) const { return static_cast<double>(tokens ? point.tokens : point.step); }

  // A polyline; where several points share a pixel column it goes through their lowest and highest, so that a long run
  // makes no larger file than a short one.
  std::string path(const std::vector<MetricsPoint>& points, const std::vector<double>& loss) const {
    std::string d;
    const auto add = [&](double px_x, double value) {
      if (y.logarithmic && value <= 0) return;
      d += str(d.empty() ? "M" : "L", px(px_x), ' ', px(y.pixel(value)));
    };
    for (size_t begin = 0, end = 0; begin < points.size(); begin = end) {
      const double column = std::floor(x.pixel(x_of(points[begin])));
      size_t low = begin, high = begin;
      for (end = begin; end < points.size() && std::floor(x.pixel(x_of(points[end]))) == column; ++end) {
        if (loss[end] < loss[low]) low = end;
        if (loss[end] > loss[high]) high = end;
      }
      for (const size_t i : {std::min(low, high), std::max(low, high)}) {
        add(x.pixel(x_of(points[i])), loss[i]);
        if (low == high) break;
      }
    }
    return d;
  }
};

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

// From the lowest loss to the highest after the first 4% of the run: the fall from the random start would press all
// that follows flat. What lies above is cut off.
void set_y_range(const std::vector<NamedHistory>& runs, Plotter& plot, bool log_y) {
  double low = INFINITY, high = -INFINITY;
  const auto add = [&](const MetricsPoint& point, double loss, bool counts_above) {
    low = std::min(low, loss);
    if (counts_above) high = std::max(high, loss);
  };
  for (const NamedHistory& run : runs) {
    const std::vector<double> smooth = smoothed_loss(run.history.training);
    const double start = plot.x.low + 0.04 * (plot.x.high - plot.x.low);
    for (size_t i = 0; i < smooth.size(); ++i) {
      const MetricsPoint& point = run.history.training[i];
      add(point, smooth[i], log_y || smooth.size() < 50 || plot.x_of(point) >= start);
    }
    for (const MetricsPoint& point : run.history.validation) add(point, point.loss, log_y || plot.x_of(point) >= start);
  }
  if (high < low) high = low;
  if (log_y && low > 0) {
    plot.y.logarithmic = true;
    plot.y.low = low / 1.05;
    plot.y.high = high * 1.05;
  } else {
    const double margin = std::max(0.06 * (high - low), 1e-3 * std::max(std::abs(high), 1e-6));
    plot.y.low = low - margin;
    plot.y.high = high + margin;
  }
}

std::string frame(const Plotter& plot, double top) {
  std::string svg;
  const double bottom = kHeight - kBottom;
  for (const double value : plot.y.ticks(7)) {
    const double at = plot.y.pixel(value);
    svg += str("<path class=\"grid\" d=\"M", px(kLeft), ' ', px(at), 'H', px(kWidth - kRight), "\"/>\n");
    svg += text_at(kLeft - 8, at + 4, "end", tick_label(value));
  }
  for (const double value : plot.x.ticks(8)) {
    const double at = plot.x.pixel(value);
    svg += str("<path class=\"grid\" d=\"M", px(at), ' ', px(top), 'V', px(bottom), "\"/>\n");
    svg += text_at(at, bottom + 18, "middle", tick_label(value));
  }
  svg +=
      str("<path class=\"axis\" d=\"M", px(kLeft), ' ', px(top), 'V', px(bottom), 'H', px(kWidth - kRight), "\"/>\n");
  svg += text_at((kLeft + kWidth - kRight) / 2, kHeight - 14, "middle", plot.tokens ? "tokens" : "steps");
  const double middle = (top + bottom) / 2;
  return svg + str("<text transform=\"translate(18 ", px(middle),
                   ") rotate(-90)\" text-anchor=\"middle\">loss (nats per token)</text>\n");
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

std::string draw(const Plotter& plot, const MetricsHistory& history, Layer layer, const char* color) {
  const auto line = [&](const std::string& d, const char* style) {
    return d.empty() ? "" : str("<path d=\"", d, "\" fill=\"none\" stroke=\"", color, "\" ", style, "/>\n");
  };
  const auto& points = layer == Layer::kValidation ? history.validation : history.training;
  std::vector<double> loss;
  for (const MetricsPoint& point : points) loss.push_back(point.loss);
  if (layer == Layer::kSteps) return line(plot.path(points, loss), R"(stroke-width="1" stroke-opacity="0.22")");
  if (layer == Layer::kMean) return line(plot.path(points, smoothed_loss(points)), R"(stroke-width="2")");
  std::string svg = line(plot.path(points, loss), R"(stroke-width="1.2" stroke-dasharray="5 4")");
  for (const MetricsPoint& point : points) {
    if (plot.y.logarithmic && point.loss <= 0) continue;
    svg += str("<circle cx=\"", px(plot.x.pixel(plot.x_of(point))), "\" cy=\"", px(plot.y.pixel(point.loss)), "\" r=\"",
               points.size() > 60 ? "2" : "3.5", "\" fill=\"#fff\" stroke=\"", color, "\" stroke-width=\"1.6\"/>\n");
  }
  return svg;
}

}  // namespace

std::string plot_svg(const std::vector<NamedHistory>& runs, const PlotOptions& options) {
  Plotter plot;
  plot.tokens = compare_by_tokens(runs, options.x);
  plot.x.high = 0;
  for (const NamedHistory& run : runs) {
    for (const auto* points : {&run.history.training, &run.history.validation}) {
      for (const MetricsPoint& point : *points) plot.x.high = std::max(plot.x.high, plot.x_of(point));
    }
  }
  plot.x.high = std::max(plot.x.high, 1.0);
  set_y_range(runs, plot, options.log_y);
  const double top = kTop + kLegendRow * static_cast<double>(runs.size());
  plot.x.pixel_low = kLeft;
  plot.x.pixel_high = kWidth - kRight;
  plot.y.pixel_low = kHeight - kBottom;
  plot.y.pixel_high = top;

  std::string svg = str(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 )", kWidth, ' ', kHeight, "\" width=\"",
                        kWidth, "\" height=\"", kHeight, R"(" font-family="Helvetica, Arial, sans-serif" font-size="13">
<style>text { fill: #333 } .grid { stroke: #e6e6e6 } .axis { stroke: #888; fill: none }</style>
<rect width="100%" height="100%" fill="#fff"/>
)");
  svg += frame(plot, top);
  svg += str("<clipPath id=\"area\"><rect x=\"", px(kLeft), "\" y=\"", px(top), "\" width=\"",
             px(kWidth - kLeft - kRight + kPointRoom), "\" height=\"", px(kHeight - kBottom - top),
             "\"/></clipPath>\n<g clip-path=\"url(#area)\">\n");
  // The noise of one run must not hide the mean of another.
  for (const Layer layer : {Layer::kSteps, Layer::kMean, Layer::kValidation}) {
    for (size_t i = 0; i < runs.size(); ++i) svg += draw(plot, runs[i].history, layer, kColors[i % kColors.size()]);
  }
  svg += "</g>\n";
  for (size_t i = 0; i < runs.size(); ++i) {
    const double at = kTop + kLegendRow * (static_cast<double>(i) + 0.25);
    svg += str("<path d=\"M", px(kLeft), ' ', px(at - 4), "h22\" stroke=\"", kColors[i % kColors.size()],
               "\" stroke-width=\"3\"/>\n");
    svg += text_at(kLeft + 30, at, "start", legend_text(runs[i]), " xml:space=\"preserve\"");
  }
  return svg + "</svg>\n";
}

}  // namespace power::train
