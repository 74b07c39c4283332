#include "plot/axis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/format.h"

namespace power::plot {
namespace {

// 1, 2, 5 or 10 times a power of ten, whichever is nearest to `step` by ratio.
double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const auto& [factor, next] : {std::pair(1.0, 2.0), std::pair(2.0, 5.0), std::pair(5.0, 10.0)}) {
    if (step < std::sqrt(factor * next) * power) return factor * power;
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
  // Fewer values of each decade, the more decades there are.
  const double decades = std::log10(high / low);
  const std::vector<double> factors = decades < 1.2 ? std::vector<double>{1, 1.5, 2, 3, 4, 5, 7}
                                      : decades < 3 ? std::vector<double>{1, 2, 5}
                                                    : std::vector<double>{1};
  std::vector<double> values;
  for (double power = std::pow(10.0, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : factors) {
      if (factor * power >= low && factor * power <= high) values.push_back(factor * power);
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

}  // namespace power::plot
