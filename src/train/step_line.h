#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace power::train {

// What one step shows. Every quantity is defined here and nowhere else.
struct StepStats {
  int64_t step = 0;  // updates done, this one included
  int64_t max_steps = 0;
  double loss = 0;       // mean cross entropy of the step's tokens, nats
  double grad_norm = 0;  // global L2 norm before clipping
  double lr = 0;
  double step_seconds = 0;    // mean wall time of the steps since the last line
  double tokens_per_s = 0;    // of all ranks
  std::optional<double> mfu;  // model FLOPs (training_flops_per_token, no recompute) per second over the device's peak
  double data_fraction = 0;   // of the step's time spent waiting for the loader
  int64_t memory_bytes = 0;   // peak_memory_bytes
  double eta_seconds = 0;     // steps left times the smoothed step time
};

// step 1200/19073 | loss 3.4127 | gnorm 0.41 | lr 5.9e-04 | 512.3 ms | 1.02 Mtok/s | mfu 41.2% | data 0.3% | ...
std::string step_line(const StepStats& stats);

}  // namespace power::train
