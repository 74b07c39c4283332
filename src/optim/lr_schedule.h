#pragma once

#include <cstdint>

namespace power::optim {

// The learning rate as a pure function of the step, so that a resumed run needs no state of its own.
struct LrSchedule {
  enum class Kind { kConstant, kCosine, kWsd };

  Kind kind = Kind::kCosine;
  double learning_rate = 6e-4;  // peak
  double min_lr = 6e-5;         // from lr_decay_iters on
  int64_t warmup_iters = 2000;
  int64_t lr_decay_iters = 600000;
  double decay_fraction = 0.2;  // of lr_decay_iters that kWsd spends going down
};

// Learning rate of update `step`, counted from 0.
//   warm-up, step < warmup_iters: learning_rate * step / warmup_iters (the first update has rate 0, as in nanoGPT)
//   kCosine: half a cosine from learning_rate at warmup_iters to min_lr at lr_decay_iters
//   kWsd:    learning_rate until (1 - decay_fraction) * lr_decay_iters, then a straight line to min_lr
//   kConstant: learning_rate, without warm-up
double learning_rate_at(const LrSchedule& schedule, int64_t step);

}  // namespace power::optim
