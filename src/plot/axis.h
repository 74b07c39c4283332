#pragma once

#include <string>
#include <vector>

namespace power::plot {

// One axis of a plot: maps values to pixels, linearly or by logarithm.
struct Axis {
  double low = 0;
  double high = 1;
  double pixel_low = 0;
  double pixel_high = 1;
  bool logarithmic = false;

  double pixel(double value) const;
  // Round values inside [low, high]: 1, 2 or 5 times a power of ten apart, about `wanted` of them.
  std::vector<double> ticks(int wanted) const;
};

// As people write it on an axis: 0, 2.5, 400, 20k, 1.5M, 3B.
std::string tick_label(double value);

}  // namespace power::plot
