#pragma once

#include <torch/types.h>

#include "optim/adamw.h"

namespace power::optim {

// Dynamic loss scaling for fp16, wholly on the device: multiply the loss by scale() before backward, pass scale() to
// gradient_norm and clip_gradients, then update() with the step's found_inf. The scale halves after a non-finite step
// and doubles after growth_interval finite ones.
class LossScaler {
 public:
  explicit LossScaler(torch::Device device, double initial_scale = 65536.0, int64_t growth_interval = 2000);

  const torch::Tensor& scale() const { return scale_; }  // scalar float32
  void update(const torch::Tensor& found_inf);

  NamedTensors state() const;  // loss_scale, growth_tracker
  void load_state(const NamedTensors& state);

 private:
  torch::Tensor scale_, growth_tracker_;
  int64_t growth_interval_;
};

}  // namespace power::optim
