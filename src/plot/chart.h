#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plot/axis.h"

// Line charts as SVG.
namespace power::plot {

struct Point {
  double x = 0, y = 0;
};

struct Line {
  std::vector<Point> points = {};  // x does not fall
  size_t color = 0;                // of the palette, which begins again after its last
  double width = 2;
  double opacity = 1;
  bool dashed = false;
  double marker = 0;  // radius of a circle at each point; 0: none
};

struct Tick {
  double value = 0;
  std::string label;
};

struct Chart {
  Axis x, y;  // low, high and logarithmic; the pixels follow from the picture's size
  std::string x_label, y_label;
  std::vector<Tick> x_ticks;        // empty: round values
  std::vector<std::string> legend;  // one row for each colour
  std::vector<Line> lines;          // the last on top
};

// What lies outside the axes is cut off, as are values a logarithmic y axis cannot show.
std::string chart_svg(Chart chart);

}  // namespace power::plot
