#include "plot/chart.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/format.h"
#include "core/str.h"

namespace power::plot {
namespace {

constexpr double kWidth = 960, kHeight = 560;
constexpr double kLeft = 64, kRight = 24, kTop = 24, kBottom = 56;
constexpr double kLegendRow = 22;
constexpr double kPointRoom = 6;  // for half of the first and the last point's circle
// Okabe and Ito's colours, told apart by colour-blind readers too.
constexpr std::array<const char*, 7> kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                "#e69f00", "#56b4e9", "#444444"};

const char* color_of(size_t index) { return kColors[index % kColors.size()]; }

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

// A polyline; where several points share a pixel column it goes through their lowest and highest, so that a long run
// makes no larger file than a short one.
std::string path(const Chart& chart, const std::vector<Point>& points) {
  std::string d;
  const auto add = [&](const Point& point) {
    if (chart.y.logarithmic && point.y <= 0) return;
    d += str(d.empty() ? "M" : "L", px(chart.x.pixel(point.x)), ' ', px(chart.y.pixel(point.y)));
  };
  for (size_t begin = 0, end = 0; begin < points.size(); begin = end) {
    const double column = std::floor(chart.x.pixel(points[begin].x));
    size_t low = begin, high = begin;
    for (end = begin; end < points.size() && std::floor(chart.x.pixel(points[end].x)) == column; ++end) {
      if (points[end].y < points[low].y) low = end;
      if (points[end].y > points[high].y) high = end;
    }
    add(points[std::min(low, high)]);
    if (low != high) add(points[std::max(low, high)]);
  }
  return d;
}

std::string draw(const Chart& chart, const Line& line) {
  std::string svg;
  if (const std::string d = path(chart, line.points); !d.empty()) {
    svg += str("<path d=\"", d, "\" fill=\"none\" stroke=\"", color_of(line.color), "\" stroke-width=\"", line.width,
               "\"");
    if (line.opacity < 1) svg += str(" stroke-opacity=\"", line.opacity, "\"");
    if (line.dashed) svg += " stroke-dasharray=\"5 4\"";
    svg += "/>\n";
  }
  if (line.marker <= 0) return svg;
  for (const Point& point : line.points) {
    if (chart.y.logarithmic && point.y <= 0) continue;
    svg += str("<circle cx=\"", px(chart.x.pixel(point.x)), "\" cy=\"", px(chart.y.pixel(point.y)), "\" r=\"",
               line.marker, "\" fill=\"#fff\" stroke=\"", color_of(line.color), "\" stroke-width=\"1.6\"/>\n");
  }
  return svg;
}

std::string frame(const Chart& chart, double top) {
  std::string svg;
  const double bottom = kHeight - kBottom;
  for (const double value : chart.y.ticks(7)) {
    const double at = chart.y.pixel(value);
    svg += str("<path class=\"grid\" d=\"M", px(kLeft), ' ', px(at), 'H', px(kWidth - kRight), "\"/>\n");
    svg += text_at(kLeft - 8, at + 4, "end", tick_label(value));
  }
  std::vector<Tick> x_ticks = chart.x_ticks;
  if (x_ticks.empty()) {
    for (const double value : chart.x.ticks(8)) x_ticks.push_back({value, tick_label(value)});
  }
  for (const Tick& tick : x_ticks) {
    const double at = chart.x.pixel(tick.value);
    svg += str("<path class=\"grid\" d=\"M", px(at), ' ', px(top), 'V', px(bottom), "\"/>\n");
    svg += text_at(at, bottom + 18, "middle", tick.label);
  }
  svg +=
      str("<path class=\"axis\" d=\"M", px(kLeft), ' ', px(top), 'V', px(bottom), 'H', px(kWidth - kRight), "\"/>\n");
  svg += text_at((kLeft + kWidth - kRight) / 2, kHeight - 14, "middle", chart.x_label);
  return svg + str("<text transform=\"translate(18 ", px((top + bottom) / 2), ") rotate(-90)\" text-anchor=\"middle\">",
                   escaped(chart.y_label), "</text>\n");
}

}  // namespace

std::string chart_svg(Chart chart) {
  const double top = kTop + kLegendRow * static_cast<double>(chart.legend.size());
  chart.x.pixel_low = kLeft;
  chart.x.pixel_high = kWidth - kRight;
  chart.y.pixel_low = kHeight - kBottom;
  chart.y.pixel_high = top;

  std::string svg = str(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 )", kWidth, ' ', kHeight, "\" width=\"",
                        kWidth, "\" height=\"", kHeight, R"(" font-family="Helvetica, Arial, sans-serif" font-size="13">
<style>text { fill: #333 } .grid { stroke: #e6e6e6 } .axis { stroke: #888; fill: none }</style>
<rect width="100%" height="100%" fill="#fff"/>
)");
  svg += frame(chart, top);
  svg += str("<clipPath id=\"area\"><rect x=\"", px(kLeft - kPointRoom), "\" y=\"", px(top), "\" width=\"",
             px(kWidth - kLeft - kRight + 2 * kPointRoom), "\" height=\"", px(kHeight - kBottom - top),
             "\"/></clipPath>\n<g clip-path=\"url(#area)\">\n");
  for (const Line& line : chart.lines) svg += draw(chart, line);
  svg += "</g>\n";
  for (size_t i = 0; i < chart.legend.size(); ++i) {
    const double at = kTop + kLegendRow * (static_cast<double>(i) + 0.25);
    svg += str("<path d=\"M", px(kLeft), ' ', px(at - 4), "h22\" stroke=\"", color_of(i), "\" stroke-width=\"3\"/>\n");
    svg += text_at(kLeft + 30, at, "start", chart.legend[i], " xml:space=\"preserve\"");
  }
  return svg + "</svg>\n";
}

}  // namespace power::plot
