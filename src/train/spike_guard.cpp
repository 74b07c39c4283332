#include "train/spike_guard.h"

#include <algorithm>
#include <cmath>

namespace power::train {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

SpikeGuard::SpikeGuard(size_t window, double threshold) : size_(std::max<size_t>(window, 1)), threshold_(threshold) {}

bool SpikeGuard::observe(double loss) {
  if (!std::isfinite(loss)) return true;
  bool spike = false;
  if (losses_.size() == size_) {
    const double center = median(window());
    std::vector<double> deviations;
    for (const double value : losses_) deviations.push_back(std::abs(value - center));
    // A window of nearly equal losses must not turn rounding into spikes.
    constexpr double kNormal = 1.4826, kLeast = 1e-3;
    const double deviation = std::max(kNormal * median(std::move(deviations)), kLeast * std::abs(center));
    spike = loss > center + threshold_ * deviation;
    losses_.pop_front();
  }
  losses_.push_back(loss);
  return spike;
}

void SpikeGuard::restore(const std::vector<double>& losses) {
  losses_.assign(losses.end() - static_cast<std::ptrdiff_t>(std::min(size_, losses.size())), losses.end());
}

}  // namespace power::train
