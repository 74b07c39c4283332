#include "train/axis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/format.h"

namespace power::train {
namespace {

// The first of 1, 2, 5, 10 times a power of ten that is at least `step`.
double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::vector<double> multiples(double low, double high, double step) {
  std::vector<double> values;
  const auto first = static_cast<long>(std::ceil(low / step - 1e-9));
  for (long i = first; static_cast<double>(i) * step <= high + 1e-9 * step; ++i) {
    values.push_back(static_cast<double>(i) * step);
  }
  return values;
}

}  // namespace

double Axis::pixel(double value) const {
  const double fraction = logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return pixel_low + fraction * (pixel_high - pixel_low);
}

std::vector<double> Axis::ticks(int wanted) const {
  const double step = round_step((high - low) / wanted);
  if (!logarithmic || high / low < 4) return multiples(low, high, step);
  // 1, 2, 5 of every decade, or powers of ten where that is too many.
  std::vector<double> values;
  const double decades = std::log10(high / low);
  for (double power = std::pow(10.0, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double value = factor * power;
      if (value >= low && value <= high && (factor == 1.0 || decades < 3)) values.push_back(value);
    }
  }
  return values;
}

std::string tick_label(double value) {
  constexpr std::array<std::pair<double, const char*>, 4> kUnits = {{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}}};
  for (const auto& [size, unit] : kUnits) {
    if (std::abs(value) >= size) return format_number("%.4g", value / size) + unit;
  }
  return format_number("%.4g", std::abs(value) < 1e-12 ? 0.0 : value);
}

}  // namespace power::train
