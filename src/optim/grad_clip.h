#pragma once

#include <torch/types.h>

#include <vector>

// Global-norm clipping that never waits for the device: every result is a tensor on the gradients' device.
namespace power::optim {

struct GradientNorm {
  torch::Tensor norm;       // scalar, global L2 norm of the true gradients (loss scale divided out), in their dtype
  torch::Tensor found_inf;  // scalar float32: 1 where the norm is not finite, else 0
};

// sqrt(sum of squares) over all tensors. `loss_scale` is what the loss was multiplied by (fp16), undefined for 1.
GradientNorm gradient_norm(const std::vector<torch::Tensor>& gradients, const torch::Tensor& loss_scale = {});

// Multiplies every gradient in place by min(1, max_norm / (norm + 1e-6)) / loss_scale. max_norm <= 0: no clipping, only
// the loss scale is divided out.
void clip_gradients(const std::vector<torch::Tensor>& gradients, const GradientNorm& norm, double max_norm,
                    const torch::Tensor& loss_scale = {});

}  // namespace power::optim
