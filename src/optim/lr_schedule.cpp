#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace power::optim {
namespace {

// 0 at `begin`, 1 at `end` and beyond.
double progress(double step, double begin, double end) { return step >= end ? 1.0 : (step - begin) / (end - begin); }

}  // namespace

double learning_rate_at(const LrSchedule& schedule, int64_t step) {
  using Kind = LrSchedule::Kind;
  const auto at = static_cast<double>(step), warmup = static_cast<double>(schedule.warmup_iters);
  const auto end = static_cast<double>(schedule.lr_decay_iters);
  const double peak = schedule.learning_rate, range = schedule.learning_rate - schedule.min_lr;
  if (schedule.kind == Kind::kConstant) return peak;
  if (step < schedule.warmup_iters) return peak * at / warmup;
  if (schedule.kind == Kind::kCosine) {
    return schedule.min_lr + range * 0.5 * (1.0 + std::cos(std::numbers::pi * progress(at, warmup, end)));
  }
  const double decay_begin = std::max(warmup, (1.0 - schedule.decay_fraction) * end);
  if (at < decay_begin) return peak;
  return schedule.min_lr + range * (1.0 - progress(at, decay_begin, end));
}

}  // namespace power::optim
