#include "optim/grad_clip.h"

#include <torch/utils.h>

namespace power::optim {

using torch::Tensor;

namespace {

constexpr double kNormEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

}  // namespace

GradientNorm gradient_norm(const std::vector<Tensor>& gradients, const Tensor& loss_scale) {
  const torch::NoGradGuard no_grad;
  Tensor norm = at::stack(at::_foreach_norm(gradients)).norm();
  if (loss_scale.defined()) norm = norm / loss_scale.to(norm.scalar_type());
  return {norm, at::isfinite(norm).logical_not().to(torch::kFloat32)};
}

void clip_gradients(const std::vector<Tensor>& gradients, const GradientNorm& norm, double max_norm,
                    const Tensor& loss_scale) {
  const torch::NoGradGuard no_grad;
  if (max_norm <= 0 && !loss_scale.defined()) return;
  Tensor factor = max_norm > 0 ? (max_norm / (norm.norm + kNormEps)).clamp_max_(1.0) : at::ones_like(norm.norm);
  if (loss_scale.defined()) factor = factor / loss_scale.to(factor.scalar_type());
  at::_foreach_mul_(gradients, factor);
}

}  // namespace power::optim
